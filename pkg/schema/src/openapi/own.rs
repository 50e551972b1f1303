//! Definitions of kinds that came while the server runs.

use std::collections::HashMap;

use kedge_meta::Text;

use super::descriptions::Descriptions;
use super::json::Json;
use super::schema::{Dialect, group_version_kind, meta};
use crate::SchemaRef;
use crate::structural::{OBJECT_META, Structural};
use crate::table::{Kinds, ResourceInfo, kind};

/// Where documents send their readers.
pub(crate) const CONVENTIONS: &str =
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// The definition of the list of a resource's objects.
pub(super) fn list_definition(info: &ResourceInfo) -> Text {
    match &info.schema {
        SchemaRef::Builtin(_) => {
            let list = kind(&info.group, &info.version, &info.list_kind);
            list.map_or_else(Text::default, |id| Text::of(id.def().name))
        }
        SchemaRef::Structural(schema) => format!("{}List", schema.definition()).into(),
    }
}

/// What is said of the fields that all objects have.
#[derive(Default)]
pub(crate) struct TypeMetaTexts {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) metadata: String,
}

impl TypeMetaTexts {
    /// As it is said of a built-in kind.
    fn of(docs: &Descriptions, kind: &str) -> Self {
        let ty = format!("io.k8s.api.core.v1.{kind}");
        let text = |field: &str| docs.of_field(&ty, field).unwrap_or_default();
        Self { api_version: text("apiVersion"), kind: text("kind"), metadata: text("metadata") }
    }
}

/// By the name of their definition. Built-in ones are in the table.
#[derive(Default)]
pub(super) struct Own<'a> {
    objects: HashMap<Text, (&'a ResourceInfo, &'a Structural)>,
    lists: HashMap<Text, (&'a ResourceInfo, Text)>,
}

impl<'a> Own<'a> {
    pub fn of(kinds: &'a dyn Kinds) -> Self {
        let mut own = Self::default();
        for group in kinds.groups() {
            for version in &group.versions {
                for info in kinds.resources(&group.name, version) {
                    let SchemaRef::Structural(schema) = &info.schema else { continue };
                    own.lists.insert(list_definition(info), (info, schema.definition().clone()));
                    own.objects.insert(schema.definition().clone(), (info, schema));
                }
            }
        }
        own
    }

    /// What a definition refers to.
    pub fn references(&self, name: &Text) -> Vec<Text> {
        if self.objects.contains_key(name) {
            return vec![Text::of(OBJECT_META)];
        }
        self.lists.get(name).map(|(_, item)| vec![item.clone(), meta("ListMeta")]).unwrap_or_default()
    }

    /// Writes a definition, if it is one of these.
    pub fn definition(&self, json: &mut Json, dialect: Dialect, name: &Text, docs: &Descriptions) -> bool {
        let reference = |name: &str| dialect.reference(name);
        if let Some((info, schema)) = self.objects.get(name) {
            let kind = |json: &mut Json| group_version_kind(json, &info.group, &info.version, &info.kind);
            schema.write(json, dialect, &TypeMetaTexts::of(docs, "ConfigMap"), &kind);
            return true;
        }
        let Some((info, item)) = self.lists.get(name) else { return false };
        json.object(|json| {
            json.key("description").text(&format!("{} is a list of {}", info.list_kind, info.kind));
            json.key("required").texts(["items"]);
            json.key("type").text("object");
            json.key("properties").object(|json| {
                let texts = TypeMetaTexts::of(docs, "ConfigMapList");
                for (name, text) in [("apiVersion", &texts.api_version), ("kind", &texts.kind)] {
                    json.key(name).object(|json| {
                        json.key("description").text(text);
                        json.key("type").text("string");
                    });
                }
                json.key("items").object(|json| {
                    json.key("description").text(&format!("List of {}. More info: {CONVENTIONS}", info.plural));
                    json.key("type").text("array");
                    json.key("items").object(|json| json.key("$ref").text(&reference(item)));
                });
                json.key("metadata").object(|json| {
                    let reference = reference(&meta("ListMeta"));
                    match dialect {
                        Dialect::V2 => json.key("$ref").text(&reference),
                        Dialect::V3 => {
                            json.key("allOf").list(|json| json.object(|json| json.key("$ref").text(&reference)))
                        }
                    }
                    json.key("description")
                        .text(&format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds"));
                });
            });
            json.key("x-kubernetes-group-version-kind").list(|json| {
                group_version_kind(json, &info.group, &info.version, &info.list_kind);
            });
            if let SchemaRef::Structural(schema) = &info.schema {
                schema.write_selectable(json);
            }
        });
        true
    }
}
