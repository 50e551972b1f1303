//! What a stored definition says, and what the registry is told of it. Schemas, which are most of it, are skipped, and read from the stored
//! bytes when they are needed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_meta::Text;
use kedge_registry::printers::{ColumnDefinition, Columns, Print};
use kedge_registry::{Custom, CustomResource, DefinedVersion, Definition, ScalePaths, Stored};
use kedge_schema::structural::Structural;
use kedge_schema::{KindInfo, ResourceInfo, SchemaRef, SubresourceInfo};
use kedge_storage::{Field, Object};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::conversion::{self, Asking};

/// A definition, without its schemas.
#[derive(Debug, Deserialize)]
pub(crate) struct Crd {
    pub metadata: Metadata,
    pub spec: Spec,
    #[serde(default)]
    pub status: CrdStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub name: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub generation: i64,
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
    #[serde(default)]
    pub finalizers: Option<Vec<String>>,
    #[serde(default)]
    pub annotations: Option<Annotations>,
}

/// The one that is read: others may be as long as the definition.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Annotations {
    #[serde(rename = "api-approved.kubernetes.io", default)]
    pub approved: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    pub group: Text,
    pub names: Names,
    pub scope: String,
    pub versions: Vec<Version>,
    #[serde(default)]
    pub conversion: Option<Conversion>,
    #[serde(default)]
    pub preserve_unknown_fields: bool,
}

/// Names as they are asked for, or accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Names {
    pub plural: Text,
    pub singular: Text,
    pub short_names: Option<Vec<Text>>,
    pub kind: Text,
    pub list_kind: Text,
    pub categories: Option<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Version {
    pub name: Text,
    #[serde(default)]
    pub served: bool,
    #[serde(default)]
    pub storage: bool,
    #[serde(default)]
    pub deprecated: bool,
    #[serde(default)]
    pub deprecation_warning: Option<Text>,
    #[serde(default)]
    pub subresources: Option<Subresources>,
    #[serde(default)]
    pub additional_printer_columns: Option<Vec<Column>>,
    #[serde(default)]
    pub selectable_fields: Option<Vec<SelectableField>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subresources {
    #[serde(default)]
    pub status: Option<IgnoredAny>,
    #[serde(default)]
    pub scale: Option<Scale>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Scale {
    pub spec_replicas_path: Text,
    pub status_replicas_path: Text,
    #[serde(default)]
    pub label_selector_path: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Column {
    pub name: Text,
    #[serde(rename = "type")]
    pub kind: Text,
    #[serde(default)]
    pub format: Text,
    #[serde(default)]
    pub description: Text,
    #[serde(default)]
    pub priority: i32,
    pub json_path: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SelectableField {
    pub json_path: Text,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Conversion {
    pub strategy: String,
    #[serde(default)]
    pub webhook: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CrdStatus {
    pub conditions: Option<Vec<Condition>>,
    pub accepted_names: Option<Names>,
    pub stored_versions: Option<Vec<Text>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

impl Crd {
    /// Reads a stored definition.
    pub(crate) fn read(object: &Object) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(&object.stored())
    }

    pub(crate) fn is_true(&self, condition: &str) -> bool {
        self.condition(condition).is_some_and(|found| found.status == "True")
    }

    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().flatten().find(|condition| condition.kind == kind)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The names that are accepted.
    pub(crate) fn accepted(&self) -> &Names {
        self.status.accepted_names.as_ref().unwrap_or(&self.spec.names)
    }

    fn storage_version(&self) -> Text {
        let stored = self.spec.versions.iter().find(|version| version.storage);
        stored.or(self.spec.versions.first()).map(|version| version.name.clone()).unwrap_or_default()
    }
}

/// Versions of a definition.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    Served,
    /// The one that objects are stored in.
    Stored,
}

/// What the registry is told of some versions of a definition; nothing when there are none. `object` is what `crd` was read from.
pub(crate) fn definition(crd: &Crd, object: &Arc<Object>, asking: &Asking, which: Which) -> Option<Definition> {
    let schemas: Vec<(Text, Arc<Structural>)> =
        crd.spec.versions.iter().map(|version| (version.name.clone(), schema(crd, version, object))).collect();
    let schema_of = |name: &Text| schemas.iter().find(|(known, _)| known == name).map(|(_, schema)| schema.clone());
    let chosen = crd.spec.versions.iter().filter(|version| match which {
        Which::Served => version.served,
        Which::Stored => version.storage,
    });
    let versions: Option<Vec<DefinedVersion>> =
        chosen.map(|version| Some(defined(crd, version, schema_of(&version.name)?))).collect();
    let versions = versions.filter(|versions| !versions.is_empty())?;
    let mut fields: Vec<Field> = Vec::new();
    for path in versions.iter().flat_map(|version| &version.custom.selectable) {
        if !fields.iter().any(|field| field.path == *path) {
            fields.push(Field { path: path.clone(), zero: Text::default() });
        }
    }
    let stored = schema_of(&crd.storage_version()).map(|schema| (SchemaRef::Structural(schema), object.revision));
    let others = crd.spec.versions.iter().map(|version| version.name.clone());
    let others = others.chain(crd.status.stored_versions.iter().flatten().cloned()).collect();
    let conversion = conversion::of(crd, &schemas, asking);
    Some(Definition { versions, conversion, fields, stored: Stored { others, shape: stored } })
}

/// The schema of a version, read from the stored definition when it is needed.
fn schema(crd: &Crd, version: &Version, object: &Arc<Object>) -> Arc<Structural> {
    let group = crd.spec.group.split('.').rev().collect::<Vec<_>>().join(".");
    let definition = format!("{group}.{}.{}", version.name, crd.accepted().kind).into();
    if crd.spec.preserve_unknown_fields {
        return Arc::new(Structural::later(definition, || None));
    }
    let (name, object) = (version.name.clone(), object.clone());
    Arc::new(Structural::later(definition, move || source(&object, &name)).selectable(selectable(version)))
}

/// The fields that objects can be selected by, without the leading dot.
fn selectable(version: &Version) -> impl Iterator<Item = Text> {
    let fields = version.selectable_fields.iter().flatten();
    fields.map(|field| field.json_path.trim_start_matches('.').to_owned().into())
}

/// What a version says of its objects.
fn source(object: &Object, version: &str) -> Option<Value> {
    #[derive(Deserialize)]
    struct Whole {
        spec: Versions,
    }
    #[derive(Deserialize)]
    struct Versions {
        versions: Vec<Described>,
    }
    #[derive(Deserialize)]
    struct Described {
        name: String,
        #[serde(default)]
        schema: Option<Validation>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Validation {
        #[serde(rename = "openAPIV3Schema", default)]
        schema: Option<Box<serde_json::value::RawValue>>,
    }
    let whole: Whole = serde_json::from_slice(&object.stored()).ok()?;
    let described = whole.spec.versions.into_iter().find(|described| described.name == version)?;
    serde_json::from_str(described.schema?.schema?.get()).ok()
}

fn defined(crd: &Crd, version: &Version, schema: Arc<Structural>) -> DefinedVersion {
    let scale = version.subresources.as_ref().and_then(|subresources| subresources.scale.as_ref());
    let custom = Arc::new(Custom {
        selectable: selectable(version).collect(),
        deprecation: deprecation(crd, version),
        scale: scale.map(|scale| ScalePaths {
            spec_replicas: scale.spec_replicas_path.clone(),
            status_replicas: scale.status_replicas_path.clone(),
            label_selector: scale.label_selector_path.clone(),
        }),
        terminating: crd.is_true("Terminating") || crd.is_deleted(),
    });
    let info = info(crd, version, &schema, custom.terminating);
    let strategy = Arc::new(CustomResource::new(schema, custom.clone()));
    DefinedVersion { info, strategy, printer: printer(version), custom }
}

fn deprecation(crd: &Crd, version: &Version) -> Option<Text> {
    if !version.deprecated {
        return None;
    }
    if let Some(warning) = &version.deprecation_warning {
        return Some(warning.clone());
    }
    let (group, kind) = (&crd.spec.group, &crd.spec.names.kind);
    let rank = kedge_registry::version_rank;
    let newer = crd.spec.versions.iter().filter(|other| other.served && !other.deprecated);
    let newer = newer.filter(|other| rank(&other.name) > rank(&version.name));
    let instead = newer.max_by_key(|other| rank(&other.name));
    let instead = instead.map(|other| format!("; use {group}/{} {kind}", other.name)).unwrap_or_default();
    Some(format!("{group}/{} {kind} is deprecated{instead}", version.name).into())
}

fn printer(version: &Version) -> Arc<dyn Print> {
    let created = ColumnDefinition {
        name: Text::of("Age"),
        kind: Text::of("date"),
        format: Text::default(),
        description: Text::default(),
        priority: 0,
        json_path: Text::of(".metadata.creationTimestamp"),
    };
    let column = |column: &Column| ColumnDefinition {
        name: column.name.clone(),
        kind: column.kind.clone(),
        format: column.format.clone(),
        description: match column.description.is_empty() {
            true => format!("Custom resource definition column (in JSONPath format): {}", column.json_path).into(),
            false => column.description.clone(),
        },
        priority: column.priority,
        json_path: column.json_path.clone(),
    };
    let columns: Vec<ColumnDefinition> = match &version.additional_printer_columns {
        Some(columns) if !columns.is_empty() => columns.iter().map(column).collect(),
        _ => vec![created],
    };
    Arc::new(Columns::new(&columns))
}

/// The order of upstream's discovery.
const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const VERBS_AT_THE_END: [&str; 5] = ["delete", "deletecollection", "get", "list", "watch"];

fn info(crd: &Crd, version: &Version, schema: &Arc<Structural>, terminating: bool) -> ResourceInfo {
    let names = crd.accepted();
    let (group, stored) = (crd.spec.group.clone(), crd.storage_version());
    let kind = KindInfo { group: group.clone(), version: version.name.clone(), kind: names.kind.clone() };
    let verbs: &[&'static str] = if terminating { &VERBS_AT_THE_END } else { &VERBS };
    let sub = |name: &'static str, kind: KindInfo, schema: Option<SchemaRef>| {
        let verbs = ["get", "patch", "update"].map(Text::of).to_vec();
        SubresourceInfo { name: Text::of(name), kind, schema, verbs }
    };
    let subresources = version.subresources.as_ref();
    let mut own = Vec::new();
    if subresources.is_some_and(|subresources| subresources.status.is_some()) {
        own.push(sub("status", kind, Some(SchemaRef::Structural(schema.clone()))));
    }
    if subresources.is_some_and(|subresources| subresources.scale.is_some()) {
        let [group, version, kind] = ["autoscaling", "v1", "Scale"].map(Text::of);
        let schema = SchemaRef::builtin_kind(&group, &version, &kind);
        own.push(sub("scale", KindInfo { group, version, kind }, schema));
    }
    ResourceInfo {
        group: group.clone(),
        version: version.name.clone(),
        plural: names.plural.clone(),
        singular: names.singular.clone(),
        kind: names.kind.clone(),
        list_kind: names.list_kind.clone(),
        namespaced: crd.spec.scope == "Namespaced",
        verbs: verbs.iter().map(|verb| Text::of(verb)).collect(),
        short_names: names.short_names.clone().unwrap_or_default(),
        categories: names.categories.clone().unwrap_or_default(),
        storage_version_hash: hash(&group, &stored, &names.kind),
        storage_prefix: format!("{group}/{}", names.plural).into(),
        storage_group: group,
        storage_version: stored,
        schema: SchemaRef::Structural(schema.clone()),
        subresources: own,
    }
}

/// Discovery's hash of the version that is stored.
fn hash(group: &str, version: &str, kind: &str) -> Text {
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    STANDARD.encode(&digest[..8]).into()
}
