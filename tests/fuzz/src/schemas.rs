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
    let read = |object: Value| read(&structural, object);
    let Some(new) = read(object) else { return };
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

/// An object as it is stored. Each step is settled when it is done once; their order is not, where a default has fields that nobody declares.
fn read(structural: &Structural, mut object: Value) -> Option<Value> {
    structural.prune(&mut object, &mut Vec::new()).ok()?;
    let mut again = object.clone();
    let mut gone = Vec::new();
    structural.prune(&mut again, &mut gone).expect("what was pruned can be pruned");
    assert_eq!((&again, gone.len()), (&object, 0), "what was pruned has lost all that it can lose");
    structural.default(&mut object);
    structural.normalize(&mut object);
    let mut again = object.clone();
    structural.default(&mut again);
    structural.normalize(&mut again);
    assert_eq!(again, object, "what has its defaults keeps its form");
    Some(object)
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
