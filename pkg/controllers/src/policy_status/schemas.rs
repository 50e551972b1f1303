//! Schemas of kinds, from the server's OpenAPI documents.

use std::collections::HashMap;
use std::sync::Arc;

use kedge_cel::decl::Decl;
use kedge_client::{Client, Error};
use kedge_meta::GroupVersionKind;
use serde_json::{Map, Value, json};

/// Types within types; those that contain themselves end there.
const MAX_DEPTH: usize = 32;

/// What was asked while one policy is looked at.
pub(super) struct Schemas<'a> {
    client: &'a Client,
    /// By path; none where there is nothing.
    documents: HashMap<String, Option<Value>>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client, documents: HashMap::new() }
    }

    /// The kind of a resource, if there is one.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(super) async fn kind(
        &mut self,
        group: &str,
        version: &str,
        resource: &str,
    ) -> Result<Option<GroupVersionKind>, Error> {
        let Some(list) = self.document(&format!("/{}", place(group, version))).await? else { return Ok(None) };
        let all = list["resources"].as_array().into_iter().flatten();
        let kind = all.filter(|one| one["name"] == resource).find_map(|one| one["kind"].as_str());
        Ok(kind.map(|kind| GroupVersionKind::new(group, version, kind)))
    }

    /// What objects of a kind look like, if that is known.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(super) async fn decl(&mut self, kind: &GroupVersionKind) -> Result<Option<Arc<Decl>>, Error> {
        let path = format!("/openapi/v3/{}", place(&kind.group, &kind.version));
        let Some(document) = self.document(&path).await? else { return Ok(None) };
        Ok(schema(document, kind).map(|schema| Arc::new(Decl::from_schema(&schema, &kind.kind, true))))
    }

    async fn document(&mut self, path: &str) -> Result<Option<&Value>, Error> {
        if !self.documents.contains_key(path) {
            let read = match self.client.get_raw(path).await {
                Ok(bytes) => serde_json::from_slice(&bytes).ok(),
                Err(err) if err.is_not_found() => None,
                Err(err) => return Err(err),
            };
            self.documents.insert(path.to_owned(), read);
        }
        Ok(self.documents.get(path).and_then(Option::as_ref))
    }
}

fn place(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The schema of a kind, with what it refers to in its place.
fn schema(document: &Value, kind: &GroupVersionKind) -> Option<Value> {
    let all = document["components"]["schemas"].as_object()?;
    let wanted = json!({"group": &*kind.group, "version": &*kind.version, "kind": &*kind.kind});
    let is = |schema: &&Value| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.contains(&wanted))
    };
    let found = all.values().find(is)?;
    Some(resolved(found, all, &mut Vec::new()))
}

fn resolved<'s>(schema: &'s Value, all: &'s Map<String, Value>, within: &mut Vec<&'s str>) -> Value {
    if let Some(name) = reference(schema) {
        // What contains itself is an object that nobody knows more of.
        let target = all.get(name).filter(|_| !within.contains(&name) && within.len() < MAX_DEPTH);
        let Some(target) = target else { return json!({"type": "object"}) };
        within.push(name);
        let mut out = resolved(target, all, within);
        within.pop();
        if let (Some(default), Some(out)) = (schema.get("default"), out.as_object_mut()) {
            out.insert("default".to_owned(), default.clone());
        }
        return out;
    }
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let mut out = fields.clone();
    if fields.get("format").is_some_and(|format| format == "int-or-string") {
        out.insert("x-kubernetes-int-or-string".to_owned(), true.into());
    }
    if let Some(Value::Object(properties)) = fields.get("properties") {
        let resolved = properties.iter().map(|(name, field)| (name.clone(), resolved(field, all, within)));
        out.insert("properties".to_owned(), Value::Object(resolved.collect()));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(schema @ Value::Object(_)) = fields.get(inner) {
            out.insert(inner.to_owned(), resolved(schema, all, within));
        }
    }
    out.into()
}

/// What a schema refers to, in itself or as the only one of `allOf`.
fn reference(schema: &Value) -> Option<&str> {
    let direct = schema.get("$ref").or_else(|| match schema.get("allOf")?.as_array()?.as_slice() {
        [one] => one.get("$ref"),
        _ => None,
    });
    direct?.as_str()?.strip_prefix("#/components/schemas/")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn references_are_put_in_their_place() {
        let document = json!({"components": {"schemas": {
            "x.Thing": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "g", "version": "v1", "kind": "Thing"}],
                "properties": {"spec": {"allOf": [{"$ref": "#/components/schemas/x.Spec"}], "default": {}}}},
            "x.Spec": {"type": "object", "properties": {
                "port": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
                "more": {"type": "array", "items": {"$ref": "#/components/schemas/x.Spec"}},
            }},
        }}});
        let found = schema(&document, &GroupVersionKind::new("g", "v1", "Thing")).unwrap();
        let spec = &found["properties"]["spec"];
        assert_eq!(spec["default"], json!({}));
        assert_eq!(spec["properties"]["port"]["x-kubernetes-int-or-string"], json!(true));
        assert_eq!(spec["properties"]["more"]["items"], json!({"type": "object"}), "it contains itself");
        assert!(schema(&document, &GroupVersionKind::new("g", "v1", "Other")).is_none());
    }
}
