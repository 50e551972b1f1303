//! Schemas of custom resources: what they make of an object is settled, and they say the same of it twice.

use std::sync::Arc;

use kedge_cel::Value as CelValue;
use kedge_cel::decl::Decl;
use kedge_fields::{Type, compare, set_of};
use kedge_schema::SchemaRef;
use kedge_schema::structural::{Structural, check_embedded, check_lists};
use serde_json::{Value, json};

use crate::input;

/// `[schema, object, older object]`.
pub fn structural_schema(data: &[u8]) {
    let Some([schema, object, old]) = input::several(data) else { return };
    let Ok(structural) = Structural::parse("org.example.v1.Thing".to_owned().into(), &schema) else { return };
    let structural = Arc::new(structural);
    let read = |mut object: Value| {
        structural.prune(&mut object, &mut Vec::new()).ok()?;
        structural.default(&mut object);
        structural.normalize(&mut object);
        Some(object)
    };
    let Some(new) = read(object) else { return };
    assert_eq!(read(new.clone()).as_ref(), Some(&new), "what was pruned and has its defaults keeps its form");
    let faults =
        |old: Option<&Value>| structural.validate(&new, old).iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = faults(None);
    assert_eq!(faults(None), all);
    let old = read(old);
    for fault in faults(old.as_ref()) {
        assert!(all.contains(&fault), "{fault} is no fault of the object alone");
    }
    check_lists(structural.root(), &new);
    check_embedded(structural.root(), &new);
    owned(&SchemaRef::Structural(structural.clone()), &new, old.as_ref());
    let decl = Arc::new(Decl::from_schema(&schema, "self", true));
    if let Ok(value) = CelValue::typed(&new, &decl) {
        value.show();
    }
}

fn owned(schema: &SchemaRef, new: &Value, old: Option<&Value>) {
    let ty = Type::of(schema);
    let empty = json!({});
    if let Ok(difference) = compare(ty, old.unwrap_or(&empty), new)
        && !difference.is_same()
    {
        assert_ne!(old, Some(new));
    }
    let set = set_of(ty, new);
    assert_eq!(kedge_fields::decode(&kedge_fields::encode(&set)).as_ref(), Ok(&set));
}
