//! Objects, their managers, and a kind of its own for what built-in kinds do not have.

use std::sync::Arc;

use kedge_fields::{ApplyError, FieldManager, Managed, Resets, Versions, decode, encode_text, entries};
use kedge_schema::SchemaRef;
use kedge_schema::structural::Structural;
use serde_json::{Value, json};

pub const T1: &str = "2026-01-01T00:00:00Z";
pub const T2: &str = "2026-01-02T00:00:00Z";

/// A kind in one version.
pub struct Kind {
    pub api_version: &'static str,
    pub name: &'static str,
    pub schema: SchemaRef,
    pub subresource: &'static str,
    pub resets: Resets<'static>,
    pub now: &'static str,
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
    pub fn builtin(api_version: &'static str, name: &'static str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let schema = SchemaRef::builtin_kind(group, version, name).unwrap();
        Self { api_version, name, schema, subresource: "", resets: Resets::All(&[]), now: T1 }
    }

    /// A kind with each sort of list and map.
    pub fn thing() -> Self {
        let text = json!({"type": "string"});
        let set = json!({"type": "array", "items": text, "x-kubernetes-list-type": "set"});
        let map = json!({"type": "object", "additionalProperties": text});
        let item = json!({"type": "object", "properties": {"name": text, "value": text, "labels": map, "tags": set,
            "protocol": {"type": "string", "default": "TCP"}}});
        let schema = json!({"type": "object", "properties": {
            "text": text, "map": map, "set": set, "list": {"type": "array", "items": text},
            "color": {"type": "object", "additionalProperties": text, "x-kubernetes-map-type": "atomic"},
            "items": {"type": "array", "items": item, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name", "protocol"]},
            "any": {"x-kubernetes-preserve-unknown-fields": true}}});
        Self::of_schema(&schema)
    }

    pub fn of_schema(schema: &Value) -> Self {
        let structural = Structural::parse("org.example.v1.Thing".to_owned().into(), schema).unwrap();
        let schema = SchemaRef::Structural(Arc::new(structural));
        Self {
            api_version: "example.org/v1",
            name: "Thing",
            schema,
            subresource: "",
            resets: Resets::All(&[]),
            now: T1,
        }
    }

    pub fn at(mut self, now: &'static str) -> Self {
        self.now = now;
        self
    }

    /// An object of the kind, in the form in which it is decoded.
    pub fn object(&self, fields: &Value) -> Value {
        let mut object = self.configuration(fields);
        self.schema.conform(&mut object, &mut Vec::new()).unwrap();
        self.schema.default(&mut object);
        object
    }

    /// The same, as a client writes it.
    pub fn configuration(&self, fields: &Value) -> Value {
        let mut object = json!({"apiVersion": self.api_version, "kind": self.name, "metadata": {"name": "x"}});
        for (name, value) in fields.as_object().into_iter().flatten() {
            match name.as_str() {
                "metadata" => object["metadata"].as_object_mut().unwrap().extend(value.as_object().unwrap().clone()),
                _ => object[name] = value.clone(),
            }
        }
        object
    }

    pub fn with_manager<T>(&self, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
        work(&FieldManager {
            api_version: self.api_version,
            kind: self.name,
            subresource: self.subresource,
            schema: &self.schema,
            resets: self.resets,
            versions: self,
            now: self.now,
        })
    }

    pub fn update(&self, live: Option<&Value>, fields: &Value, manager: &str) -> Value {
        let mut new = self.object(fields);
        self.with_manager(|fields| fields.update(live, &mut new, manager));
        new
    }

    pub fn apply(&self, live: Option<&Value>, fields: &Value, manager: &str) -> Result<Value, ApplyError> {
        let applied = self.configuration(fields);
        self.with_manager(|fields| fields.apply(live, &applied, manager, false))
    }

    pub fn force(&self, live: Option<&Value>, fields: &Value, manager: &str) -> Value {
        let applied = self.configuration(fields);
        self.with_manager(|fields| fields.apply(live, &applied, manager, true)).unwrap()
    }
}

/// Name, operation and fields of each entry.
pub fn owners(object: &Value) -> Vec<(String, String)> {
    Managed::decode(entries(object)).unwrap();
    let list = entries(object).and_then(Value::as_array).cloned().unwrap_or_default();
    let who = |entry: &Value| format!("{}/{}", text(entry, "manager"), text(entry, "operation"));
    list.iter().map(|entry| (who(entry), encode_text(&decode(&entry["fieldsV1"]).unwrap()))).collect()
}

/// The fields of one.
pub fn owned(object: &Value, who: &str) -> String {
    owners(object).into_iter().find(|(name, _)| name == who).map(|(_, fields)| fields).unwrap_or_default()
}

pub fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The object without what is only about owners.
pub fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    kedge_fields::take_entries(&mut object);
    object
}
