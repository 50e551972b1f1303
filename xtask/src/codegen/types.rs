//! Writes the type half of the fact table: OpenAPI gives names, types, defaults and list semantics, the Go tags give
//! what OpenAPI cannot tell: pointers, `omitempty`, `omitzero`, protobuf numbers and embedding.
//! Invariant: a property without a Go field is an error, so a table that exists is complete.

use super::golang::{GoField, GoType, Sources};
use super::resources::Table;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

const REF: &str = "#/components/schemas/";
/// Types that appear in documents by their schema only and are never walked field by field.
const WITHOUT_GO: &[&str] =
    &["io.k8s.apimachinery.pkg.apis.meta.v1.Patch", "io.k8s.apimachinery.pkg.runtime.RawExtension"];

pub fn write(dir: &Path, table: &Table, go: &mut Sources, out: &mut String) -> Result<()> {
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    for gv in &table.versions {
        let file = if gv.group.is_empty() {
            format!("api__{}_openapi.json", gv.version)
        } else {
            format!("apis__{}__{}_openapi.json", gv.group, gv.version)
        };
        add_schemas(&dir.join(file), &mut schemas)?;
    }
    for file in ["api_openapi.json", "apis_openapi.json", "version_openapi.json", "apis__apps_openapi.json"] {
        add_schemas(&dir.join(file), &mut schemas)?;
    }
    for (name, schema) in &schemas {
        write_type(name, schema, go, out).with_context(|| name.clone())?;
    }
    Ok(())
}

fn add_schemas(path: &Path, schemas: &mut BTreeMap<String, Value>) -> Result<()> {
    let mut document = super::read_json(path)?;
    if let Some(Value::Object(map)) = document.pointer_mut("/components/schemas").map(Value::take) {
        schemas.extend(map);
    }
    Ok(())
}

/// Line: `T name attributes`, then one line a field. Attributes are separated by blanks, values carry none.
fn write_type(name: &str, schema: &Value, go: &mut Sources, out: &mut String) -> Result<()> {
    write!(out, "T {name}")?;
    let empty = Vec::new();
    if name.ends_with(".DeleteOptions") || name.ends_with(".WatchEvent") {
        // Every group-version registers these; the renderer knows that by itself.
        write!(out, " v=*")?;
    } else if let Some(kinds) = schema["x-kubernetes-group-version-kind"].as_array() {
        let kinds: Vec<String> = kinds.iter().map(gvk_text).collect();
        write!(out, " v={}", kinds.join(";"))?;
    }
    if let Some(kind) = schema["x-kubernetes-map-type"].as_str() {
        write!(out, " t={kind}")?;
    }
    if let Some(unions) = schema.get("x-kubernetes-unions") {
        write!(out, " u={unions}")?;
    }
    out.push('\n');
    let Some(properties) = schema["properties"].as_object() else { return Ok(()) };
    let fields = go_fields(name, go)?;
    let required: BTreeSet<&str> =
        schema["required"].as_array().unwrap_or(&empty).iter().filter_map(Value::as_str).collect();
    for field in &fields {
        let json = &field.field.json;
        let property = properties.get(json).with_context(|| format!("OpenAPI lacks the Go field {json}"))?;
        write_field(json, property, required.contains(json.as_str()), field, out).with_context(|| json.clone())?;
    }
    if let Some(missing) = properties.keys().find(|json| !fields.iter().any(|field| field.field.json == **json)) {
        bail!("no Go field for {missing}");
    }
    Ok(())
}

fn gvk_text(kind: &Value) -> String {
    let text = |key: &str| kind[key].as_str().unwrap_or_default().to_string();
    format!("{}/{}/{}", text("group"), text("version"), text("kind"))
}

/// A leaf Go field together with the embedded structs that lead to it.
struct Located {
    field: GoField,
    /// The Go type as Go itself would print it, with pointers at the front removed.
    printed: String,
    pointer: bool,
    embedding: Vec<(String, Option<u32>)>,
}

/// The fields of a type in the order of their declaration, in which Go writes them.
fn go_fields(name: &str, go: &mut Sources) -> Result<Vec<Located>> {
    let mut found = Vec::new();
    if WITHOUT_GO.contains(&name) {
        return Ok(found);
    }
    let (package, type_name) = package_of(name)?;
    collect(&package, &type_name, &[], go, &mut found)?;
    Ok(found)
}

fn package_of(name: &str) -> Result<(String, String)> {
    let rest = name.strip_prefix("io.k8s.").context("definition outside io.k8s")?;
    let (path, type_name) = rest.rsplit_once('.').context("definition without package")?;
    Ok((path.replace('.', "/"), type_name.to_string()))
}

fn collect(
    package: &str,
    type_name: &str,
    embedding: &[(String, Option<u32>)],
    go: &mut Sources,
    found: &mut Vec<Located>,
) -> Result<()> {
    let parsed = go.package(package)?.clone();
    let fields = match parsed.types.get(type_name) {
        Some(GoType::Struct(fields)) => fields.clone(),
        Some(GoType::Defined(other)) => return collect(package, other.as_str(), embedding, go, found),
        None => bail!("no Go type {type_name} in {package}"),
    };
    for field in fields {
        if field.json == "-" {
            continue;
        }
        if field.embedded && field.json.is_empty() {
            let (inner_package, inner_type) = match field.go_type.trim_start_matches('*').split_once('.') {
                Some((alias, inner)) => {
                    let path = parsed.imports.get(alias).with_context(|| format!("import {alias}"))?;
                    (path.clone(), inner.to_string())
                }
                None => (package.to_string(), field.go_type.trim_start_matches('*').to_string()),
            };
            let mut chain = embedding.to_vec();
            chain.push((field.name.clone(), field.proto));
            collect(&inner_package, &inner_type, &chain, go, found)?;
            continue;
        }
        let pointer = field.go_type.starts_with('*');
        let printed = printed_type(package, field.go_type.trim_start_matches('*'), go)?;
        let located = Located { field, printed, pointer, embedding: embedding.to_vec() };
        // A field hides one of the same name from deeper inside.
        match found.iter_mut().find(|other| other.field.json == located.field.json) {
            Some(other) => *other = located,
            None => found.push(located),
        }
    }
    Ok(())
}

/// Spells a type as `reflect.Type.String` does: the declaring package's last path part in front of every name.
fn printed_type(package: &str, text: &str, go: &mut Sources) -> Result<String> {
    if let Some(rest) = text.strip_prefix('*') {
        return Ok(format!("*{}", printed_type(package, rest, go)?));
    }
    if let Some(rest) = text.strip_prefix("[]") {
        return Ok(format!("[]{}", printed_type(package, rest, go)?.replace("byte", "uint8")));
    }
    if let Some((key, value)) = text.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        let key = printed_type(package, key, go)?;
        return Ok(format!("map[{key}]{}", printed_type(package, value, go)?));
    }
    if let Some((alias, name)) = text.split_once('.') {
        let parsed = go.package(package)?;
        let last = parsed.imports.get(alias).map_or(alias, |path| path.rsplit('/').next().unwrap_or(path));
        return Ok(format!("{last}.{name}"));
    }
    const BUILT_IN: &[&str] =
        &["string", "bool", "int", "int32", "int64", "uint8", "uint64", "float64", "byte", "uint32"];
    if BUILT_IN.contains(&text) {
        return Ok(text.to_string());
    }
    Ok(format!("{}.{text}", package.rsplit('/').next().unwrap_or(package)))
}

/// The table's spelling of an OpenAPI type: a scalar name, `@definition`, `[]element` or `{}element`.
fn schema_type(property: &Value) -> Result<String> {
    let reference = property["$ref"].as_str().or_else(|| property.pointer("/allOf/0/$ref").and_then(Value::as_str));
    if let Some(reference) = reference {
        let name = reference.strip_prefix(REF).context("foreign reference")?;
        return Ok(match name {
            "io.k8s.apimachinery.pkg.api.resource.Quantity" => "quantity".into(),
            "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => "time".into(),
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => "microtime".into(),
            "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => "fieldsv1".into(),
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => "intorstring".into(),
            "io.k8s.apimachinery.pkg.runtime.RawExtension" => "raw".into(),
            name => match name.strip_prefix("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.") {
                Some("JSON") => "json".into(),
                Some("JSONSchemaPropsOrArray") => "schemaorarray".into(),
                Some("JSONSchemaPropsOrBool") => "schemaorbool".into(),
                Some("JSONSchemaPropsOrStringArray") => "schemaorstrings".into(),
                _ => format!("@{name}"),
            },
        });
    }
    let kind = property["type"].as_str().unwrap_or_default();
    let format = property["format"].as_str().unwrap_or_default();
    Ok(match (kind, format) {
        ("string", "") => "string".into(),
        ("string", "byte") => "bytes".into(),
        ("boolean", "") => "bool".into(),
        ("integer", "int32") => "int32".into(),
        ("integer", "int64") => "int64".into(),
        ("number", "double") => "double".into(),
        ("array", "") => format!("[]{}", schema_type(&property["items"])?),
        ("object", "") => format!("{{}}{}", schema_type(&property["additionalProperties"])?),
        other => bail!("unknown type {other:?}"),
    })
}

/// What `printed_type` gives for a field whose Go type follows from the schema type alone.
fn derived_type(schema: &str) -> String {
    if let Some(inner) = schema.strip_prefix("[]") {
        return format!("[]{}", derived_type(inner));
    }
    if let Some(inner) = schema.strip_prefix("{}") {
        return format!("map[string]{}", derived_type(inner));
    }
    if let Some(name) = schema.strip_prefix('@') {
        let mut parts = name.rsplit('.');
        let (last, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        return format!("{package}.{last}");
    }
    match schema {
        "double" => "float64",
        "bytes" => "[]uint8",
        "quantity" => "resource.Quantity",
        "time" => "v1.Time",
        "microtime" => "v1.MicroTime",
        "fieldsv1" => "v1.FieldsV1",
        "intorstring" => "intstr.IntOrString",
        "raw" => "runtime.RawExtension",
        "json" => "v1.JSON",
        "schemaorarray" => "v1.JSONSchemaPropsOrArray",
        "schemaorbool" => "v1.JSONSchemaPropsOrBool",
        "schemaorstrings" => "v1.JSONSchemaPropsOrStringArray",
        scalar => scalar,
    }
    .to_string()
}

/// Line: `name type flags attributes…`; flags are letters or `-`: r required, o omitempty, z omitzero, p pointer.
fn write_field(json: &str, property: &Value, required: bool, go: &Located, out: &mut String) -> Result<()> {
    let schema = schema_type(property)?;
    let mut flags = String::new();
    let option = |name: &str| go.field.options.iter().any(|option| option == name);
    for (set, letter) in [(required, 'r'), (option("omitempty"), 'o'), (option("omitzero"), 'z'), (go.pointer, 'p')] {
        if set {
            flags.push(letter);
        }
    }
    write!(out, "{json} {schema} {}", if flags.is_empty() { "-" } else { &flags })?;
    if let Some(number) = go.field.proto {
        write!(out, " n={number}")?;
    }
    if go.printed != derived_type(&schema) {
        write!(out, " g={}", go.printed)?;
    }
    if !go.embedding.is_empty() {
        let chain: Vec<String> = go
            .embedding
            .iter()
            .map(|(name, proto)| proto.map_or_else(|| name.clone(), |number| format!("{name}:{number}")))
            .collect();
        write!(out, " e={}", chain.join("."))?;
    }
    if let Some(default) = property.get("default") {
        anyhow::ensure!(!default.to_string().contains(' '), "a default with a blank");
        write!(out, " d={default}")?;
    }
    if let Some(kind) = property["x-kubernetes-list-type"].as_str() {
        write!(out, " l={kind}")?;
    }
    if let Some(keys) = property["x-kubernetes-list-map-keys"].as_array() {
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        write!(out, " k={}", keys.join(","))?;
    }
    if let Some(strategy) = property["x-kubernetes-patch-strategy"].as_str() {
        write!(out, " s={strategy}")?;
    }
    if let Some(key) = property["x-kubernetes-patch-merge-key"].as_str() {
        write!(out, " m={key}")?;
    }
    if let Some(kind) = property["x-kubernetes-map-type"].as_str() {
        write!(out, " t={kind}")?;
    }
    out.push('\n');
    Ok(())
}
