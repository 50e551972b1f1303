//! Type definitions as schemas, in the dialects of both document versions.
//! Invariant: every name that is referred to is noted, so that a document can carry exactly what it refers to.

use super::descriptions::Descriptions;
use super::json::Json;
use super::own::Own;
use crate::table::{FieldDef, FieldType, TypeDef, type_by_name};
use kedge_meta::Text;
use std::collections::BTreeSet;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Which document is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    pub(crate) fn reference(self, name: &str) -> String {
        match self {
            Dialect::V2 => format!("#/definitions/{name}"),
            Dialect::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// Schemas that are referred to.
#[derive(Default)]
pub(super) struct Referred {
    pending: Vec<Text>,
    known: BTreeSet<Text>,
}

impl Referred {
    pub fn note(&mut self, name: Text) {
        if self.known.insert(name.clone()) {
            self.pending.push(name);
        }
    }

    fn note_all(&mut self, ty: FieldType) {
        match ty {
            FieldType::List(inner) | FieldType::Map(inner) => self.note_all(*inner),
            other => {
                if let Some(name) = definition_name(other) {
                    self.note(Text::of(name));
                }
            }
        }
    }

    /// All names in order, with those that the named definitions refer to.
    pub fn close(mut self, own: &Own<'_>) -> BTreeSet<Text> {
        while let Some(name) = self.pending.pop() {
            own.references(&name).into_iter().for_each(|name| self.note(name));
            if let Some(id) = type_by_name(&name) {
                id.def().fields.iter().for_each(|field| self.note_all(field.ty));
            }
        }
        self.known
    }
}

/// The definition behind a type; none for what is written in place.
fn definition_name(ty: FieldType) -> Option<&'static str> {
    const CRD: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";
    Some(match ty {
        FieldType::Object(id) => id.def().name,
        FieldType::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        FieldType::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        FieldType::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        FieldType::Duration => "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
        FieldType::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        FieldType::FieldsV1 => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        FieldType::Raw => "io.k8s.apimachinery.pkg.runtime.RawExtension",
        FieldType::Json => CRD,
        FieldType::SchemaOrArray => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        FieldType::SchemaOrBool => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        FieldType::SchemaOrStrings => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"
        }
        _ => return None,
    })
}

/// Writes one definition by name; an unknown name is an empty schema, which allows everything.
pub(super) fn definition(json: &mut Json, dialect: Dialect, name: &str, scope: Scope<'_>, docs: &Descriptions) {
    json.object(|json| {
        if let Some(text) = docs.of_type(name) {
            json.key("description").text(&text);
        }
        let Some(def) = type_by_name(name).map(|id| id.def()) else { return };
        if scalar(json, dialect, name) {
            return;
        }
        if !def.fields.is_empty() {
            json.key("properties").object(|json| {
                for field in &def.fields {
                    json.key(field.name);
                    property(json, dialect, def, field, docs);
                }
            });
        }
        let required = || def.fields.iter().filter(|field| field.is_required());
        if required().next().is_some() {
            json.key("required").texts(required().map(|field| field.name));
        }
        json.key("type").text("object");
        extensions(json, def, scope);
    });
}

/// Writes the definitions that are no structures.
fn scalar(json: &mut Json, dialect: Dialect, name: &str) -> bool {
    let mut simple = |ty: &str, format: &str| {
        json.key("type").text(ty);
        if !format.is_empty() {
            json.key("format").text(format);
        }
    };
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" if dialect == Dialect::V2 => simple("string", ""),
        "IntOrString" if dialect == Dialect::V2 => simple("string", "int-or-string"),
        "Quantity" => json.key("oneOf").raw(r#"[{"type":"string"},{"type":"number"}]"#),
        "IntOrString" => {
            json.key("oneOf").raw(r#"[{"type":"integer"},{"type":"string"}]"#);
            json.key("format").text("int-or-string");
        }
        "Time" | "MicroTime" => simple("string", "date-time"),
        "Duration" => simple("string", ""),
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => {}
        _ => return false,
    }
    true
}

fn property(json: &mut Json, dialect: Dialect, def: &TypeDef, field: &FieldDef, docs: &Descriptions) {
    json.object(|json| {
        let description = docs.of_field(def.name, field.name);
        if let Some(text) = &description {
            json.key("description").text(text);
        }
        match definition_name(field.ty) {
            // A reference has no siblings in version 3.
            Some(name) if dialect == Dialect::V3 && !(description.is_none() && is_bare(field)) => {
                json.key("allOf").list(|json| json.object(|json| reference(json, dialect, name)));
            }
            _ => type_of(json, dialect, field.ty),
        }
        if let Some(default) = field.default_json().filter(|_| dialect == Dialect::V3) {
            json.key("default").raw(default);
        }
        if let Some(list) = field.declared_list_type() {
            if field.map_keys().next().is_some() {
                json.key("x-kubernetes-list-map-keys").texts(field.map_keys());
            }
            json.key("x-kubernetes-list-type").text(list);
        }
        if let Some(kind) = field.map_type() {
            json.key("x-kubernetes-map-type").text(kind);
        }
        if let Some(key) = field.merge_key() {
            json.key("x-kubernetes-patch-merge-key").text(key);
        }
        if let Some(strategy) = field.patch_strategy() {
            json.key("x-kubernetes-patch-strategy").text(strategy);
        }
    });
}

fn is_bare(field: &FieldDef) -> bool {
    field.default_json().is_none() && field.map_type().is_none() && field.patch_strategy().is_none()
}

fn reference(json: &mut Json, dialect: Dialect, name: &str) {
    json.key("$ref").text(&dialect.reference(name));
}

/// Writes the keys that say what a value is, into an object that is open already.
fn type_of(json: &mut Json, dialect: Dialect, ty: FieldType) {
    let (name, format) = match ty {
        FieldType::String => ("string", ""),
        FieldType::Bool => ("boolean", ""),
        FieldType::Int32 => ("integer", "int32"),
        FieldType::Int64 => ("integer", "int64"),
        FieldType::Double => ("number", "double"),
        FieldType::Bytes => ("string", "byte"),
        FieldType::List(inner) => {
            json.key("type").text("array");
            json.key("items").object(|json| type_of(json, dialect, *inner));
            return;
        }
        FieldType::Map(inner) => {
            json.key("type").text("object");
            json.key("additionalProperties").object(|json| type_of(json, dialect, *inner));
            return;
        }
        other => return definition_name(other).into_iter().for_each(|name| reference(json, dialect, name)),
    };
    json.key("type").text(name);
    if !format.is_empty() {
        json.key("format").text(format);
    }
}

/// Which group-versions a document is about; types of every group list the kinds of these.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a>(pub &'a [(Text, Text)]);

fn extensions(json: &mut Json, def: &TypeDef, scope: Scope<'_>) {
    let mut kinds: Vec<_> = def.kinds.iter().map(|kind| (&*kind.group, &*kind.version, &*kind.kind)).collect();
    if def.in_every_group() {
        kinds.push(("", "v1", def.short_name()));
        kinds.extend(scope.0.iter().map(|(group, version)| (&**group, &**version, def.short_name())));
        kinds.dedup();
    }
    if !kinds.is_empty() {
        json.key("x-kubernetes-group-version-kind").list(|json| {
            for (group, version, kind) in kinds {
                group_version_kind(json, group, version, kind);
            }
        });
    }
    if def.is_atomic() {
        json.key("x-kubernetes-map-type").text("atomic");
    }
    if let Some(unions) = def.unions() {
        json.key("x-kubernetes-unions").raw(unions);
    }
}

pub(super) fn group_version_kind(json: &mut Json, group: &str, version: &str, kind: &str) {
    json.object(|json| {
        json.key("group").text(group);
        json.key("kind").text(kind);
        json.key("version").text(version);
    });
}

/// The full name of a type of `meta/v1`.
pub(super) fn meta(name: &str) -> Text {
    type_by_name(&format!("{META}{name}")).map_or_else(Text::default, |id| Text::of(id.def().name))
}
