//! Who owns which fields: sets of them against a naive model, and server-side apply in any order with other writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use kedge_fields::{
    Element, FieldManager, Managed, Resets, Set, Type, Versions, compare, decode, encode, encode_text, entries, set_of,
    take_entries,
};
use kedge_schema::SchemaRef;
use kedge_schema::structural::Structural;
use serde_json::{Value, json};

use crate::input;

/// Writes in one input.
const MAX_STEPS: usize = 8;

/// Two sets, with a zero byte between them.
pub fn fields_v1(data: &[u8]) {
    let (left, right) = input::halves(data);
    let read = |part: &[u8]| input::json(part).and_then(|value| decode(&value).ok());
    let Some(a) = read(left) else { return };
    let written = encode(&a);
    assert_eq!(decode(&written).as_ref(), Ok(&a), "a set is read as it was written");
    let text: Value = serde_json::from_str(&encode_text(&a)).expect("the text of a set is JSON");
    assert_eq!(decode(&text).as_ref(), Ok(&a), "and so is its text");
    assert_eq!(a.members().into_iter().collect::<Set>(), a);
    let b = read(right).unwrap_or_default();
    if !is_exact(&a) || !is_exact(&b) {
        return;
    }
    let (left, right) = (model(&a), model(&b));
    assert_eq!(model(&a.clone().union(b.clone())), &left | &right);
    assert_eq!(model(&a.intersection(&b)), &left & &right);
    assert_eq!(model(&a.clone().difference(&b)), &left - &right);
    let stays = |path: &&Vec<String>| !right.iter().any(|above| path.starts_with(above));
    assert_eq!(model(&a.recursive_difference(&b)), left.iter().filter(stays).cloned().collect());
}

/// The same set as texts of the steps of whole paths.
fn model(set: &Set) -> BTreeSet<Vec<String>> {
    set.members().iter().map(|path| path.iter().map(Element::encode).collect()).collect()
}

/// Whether steps are the same only when their texts are: fractions that are whole numbers have another text than those.
fn is_exact(set: &Set) -> bool {
    fn whole(value: &Value) -> bool {
        match value {
            Value::Number(number) => !number.is_f64(),
            Value::Array(items) => items.iter().all(whole),
            Value::Object(map) => map.values().all(whole),
            _ => true,
        }
    }
    set.members().iter().flatten().all(|step| match step {
        Element::Item(value) => whole(value),
        Element::Key(fields) => fields.iter().all(|(_, value)| whole(value)),
        Element::Field(_) | Element::Index(_) => true,
    })
}

/// A kind in one version.
struct Kind {
    api_version: &'static str,
    name: &'static str,
    schema: SchemaRef,
}

impl Versions for Kind {
    fn schema(&self, api_version: &str) -> Option<&SchemaRef> {
        (api_version == self.api_version).then_some(&self.schema)
    }

    fn convert(&self, object: &Value, _: &str, _: &str) -> Result<Value, String> {
        Ok(object.clone())
    }
}

impl Kind {
    fn builtin(api_version: &'static str, name: &'static str) -> Option<Self> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Some(Self { api_version, name, schema: SchemaRef::builtin_kind(group, version, name)? })
    }

    /// A kind with each sort of list and map.
    fn thing() -> Option<Self> {
        let text = json!({"type": "string"});
        let set = json!({"type": "array", "items": text, "x-kubernetes-list-type": "set"});
        let map = json!({"type": "object", "additionalProperties": text});
        let item = json!({"type": "object", "properties": {"name": text, "value": text, "labels": map, "tags": set,
            "protocol": {"type": "string", "default": "TCP"}}});
        let schema = json!({"type": "object", "properties": {
            "text": text, "map": map, "set": set, "list": {"type": "array", "items": text},
            "color": {"type": "object", "additionalProperties": text, "x-kubernetes-map-type": "atomic"},
            "items": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "protocol"]},
            "any": {"x-kubernetes-preserve-unknown-fields": true}}});
        let structural = Structural::parse("org.example.v1.Thing".to_owned().into(), &schema).ok()?;
        Some(Self { api_version: "example.org/v1", name: "Thing", schema: SchemaRef::Structural(Arc::new(structural)) })
    }

    fn of(choice: usize) -> Option<Self> {
        match choice % 6 {
            0 => Self::thing(),
            1 => Self::builtin("v1", "Pod"),
            2 => Self::builtin("apps/v1", "Deployment"),
            3 => Self::builtin("v1", "Service"),
            4 => Self::builtin("v1", "ConfigMap"),
            _ => Self::builtin("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        }
    }

    fn with_manager<T>(&self, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
        work(&FieldManager {
            api_version: self.api_version,
            kind: self.name,
            subresource: "",
            schema: &self.schema,
            resets: Resets::All(&[&["status"]]),
            versions: self,
            now: "2026-01-01T00:00:00Z",
        })
    }

    /// The object of a client, which says what it is and has a name.
    fn named(&self, fields: &Value) -> Option<Value> {
        let mut object = fields.clone();
        let map = object.as_object_mut()?;
        map.insert("apiVersion".to_owned(), self.api_version.into());
        map.insert("kind".to_owned(), self.name.into());
        let metadata = map.entry("metadata").or_insert_with(|| json!({}));
        let metadata = metadata.as_object_mut()?;
        metadata.insert("name".to_owned(), "x".into());
        metadata.remove("managedFields");
        Some(object)
    }

    /// As it is stored; none where it is no object of its kind.
    fn stored(&self, mut object: Value) -> Option<Value> {
        self.schema.conform(&mut object, &mut Vec::new()).ok()?;
        self.schema.default(&mut object);
        self.schema.normalize(&mut object);
        Some(object)
    }

    fn update(&self, live: Option<&Value>, fields: &Value, manager: &str) -> Option<Value> {
        let mut new = self.stored(self.named(fields)?)?;
        self.with_manager(|fields| fields.update(live, &mut new, manager));
        Some(new)
    }

    fn apply(&self, live: Option<&Value>, applied: &Value, manager: &str, force: bool) -> Option<Value> {
        self.with_manager(|fields| fields.apply(live, applied, manager, force)).ok()
    }
}

/// The number of a kind, then steps: `{"by": manager, "do": "apply", "force" or "update", "object": fields}`.
pub fn apply(data: &[u8]) {
    let Some((choice, steps)) = input::choice(data) else { return };
    let (Some(kind), Some(Value::Array(steps))) = (Kind::of(choice), input::json(steps)) else { return };
    let mut live: Option<Value> = None;
    for step in steps.iter().take(MAX_STEPS) {
        let text = |name: &str| step.get(name).and_then(Value::as_str).unwrap_or_default();
        let Some(fields) = step.get("object") else { continue };
        let new = match text("do") {
            "update" => kind.update(live.as_ref(), fields, text("by")),
            how => applied(&kind, live.as_ref(), fields, text("by"), how == "force"),
        };
        live = new.or(live);
        if let Some(live) = &live {
            owners_are_sound(live);
        }
    }
}

/// Applies, and looks at what holds of any apply that is done.
fn applied(kind: &Kind, live: Option<&Value>, fields: &Value, manager: &str, force: bool) -> Option<Value> {
    let configuration = kind.named(fields)?;
    let new = kind.apply(live, &configuration, manager, force)?;
    // An object of which nobody owns anything is taken for one from before the first apply.
    if entries(&new).is_some() {
        let again = kind.apply(Some(&new), &configuration, manager, false);
        assert_eq!(again.as_ref(), Some(&new), "who applies the same again changes nothing");
    }
    let ty = Type::of(&kind.schema);
    let wanted = set_of(ty, &configuration);
    let bare = bare(&new);
    let there = model(&set_of(ty, &bare));
    let kept = kind.stored(configuration.clone()).map(|stored| model(&set_of(ty, &stored))).unwrap_or_default();
    for path in model(&wanted).intersection(&kept).cloned().collect::<Vec<_>>() {
        // Where an empty map or list was applied, others may have put something into it.
        let found = there.range(path.clone()..).next().is_some_and(|found| found.starts_with(&path));
        assert!(found, "{path:?} was applied and is not there");
    }
    for (who, how, owned) in owners(&new) {
        if who == manager && how == "Apply" {
            assert!(owned.difference(&wanted).is_empty(), "who applies owns what it names");
        }
    }
    kind.stored(new)
}

fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    take_entries(&mut object);
    object
}

fn owners(object: &Value) -> Vec<(String, String, Set)> {
    let list = entries(object).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let read = |entry: &Value| decode(entry.get("fieldsV1").unwrap_or(&Value::Null)).expect("owners are readable");
    list.iter().map(|entry| (text(entry, "manager"), text(entry, "operation"), read(entry))).collect()
}

/// Entries can be read, and differ in whom they are for; nobody owns nothing.
fn owners_are_sound(object: &Value) {
    Managed::decode(entries(object)).expect("owners are readable");
    let owners = owners(object);
    let whom: BTreeSet<(&str, &str)> = owners.iter().map(|(who, how, _)| (who.as_str(), how.as_str())).collect();
    assert_eq!(whom.len(), owners.len(), "a manager has two entries");
    assert!(owners.iter().all(|(.., owned)| !owned.is_empty()), "a manager owns nothing");
}

/// What differs between two objects of the kind that the first byte chooses: `[one, other]`.
pub fn comparison(data: &[u8]) {
    let Some((choice, objects)) = input::choice(data) else { return };
    let (Some(kind), Some([one, other])) = (Kind::of(choice), input::several(objects)) else { return };
    let stored = |fields: &Value| kind.stored(kind.named(fields)?);
    let (Some(one), Some(other)) = (stored(&one), stored(&other)) else { return };
    let ty = Type::of(&kind.schema);
    let Ok(there) = compare(ty, &one, &other) else { return };
    let back = compare(ty, &other, &one).expect("it can be compared the other way round");
    assert_eq!((&there.removed, &there.modified, &there.added), (&back.added, &back.modified, &back.removed));
    assert!(compare(ty, &one, &one).expect("an object can be compared with itself").is_same());
}
