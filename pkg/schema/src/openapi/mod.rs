//! OpenAPI documents of what is served: `/openapi/v3` (one document a group-version) and `/openapi/v2`.
//!
//! Documents are large and asked for rarely (clients keep them by their hash), so they are written on demand and not
//! kept. Invariant: the same binary always writes the same bytes.

mod descriptions;
mod json;
mod merge;
mod operation;
mod own;
mod paths;
mod render;
mod schema;

pub(crate) use self::json::Json;
pub use self::merge::part_of_v2;
use self::own::Own;
pub(crate) use self::own::{CONVENTIONS, TypeMetaTexts};
pub(crate) use self::schema::Dialect;
use self::schema::Scope;
use crate::table::{Kinds, optional_groups};
use bytes::Bytes;
use kedge_meta::Text;
use std::sync::LazyLock;

/// What these fields of definitions mean, in words; nothing where that is not known. For many at once: texts are inflated for it.
pub fn descriptions(fields: &[(&str, &str)]) -> Vec<String> {
    let all = descriptions::Descriptions::load();
    fields.iter().map(|(definition, field)| all.of_field(definition, field).unwrap_or_default()).collect()
}

/// All group-versions that are served here.
fn versions(kinds: &dyn Kinds) -> impl Iterator<Item = (Text, Text)> {
    all_versions(kinds).filter(|(group, version)| kinds.elsewhere(group, version).is_none())
}

fn all_versions(kinds: &dyn Kinds) -> impl Iterator<Item = (Text, Text)> {
    kinds.groups().flat_map(|group| group.versions.iter().map(|version| (group.name.clone(), version.clone())))
}

/// Where the documents of group-versions are that others serve.
fn elsewhere(kinds: &dyn Kinds) -> impl Iterator<Item = (String, &str)> {
    all_versions(kinds).filter_map(|(group, version)| {
        let place = kinds.elsewhere(&group, &version)?.open_api_v3?;
        Some((version_path(&group, &version), place))
    })
}

fn version_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Changes whenever any document can have changed: clients cache documents by it.
static HASH: LazyLock<String> = LazyLock::new(|| {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;
    let inputs = [
        include_bytes!("../generated/facts.txt").as_slice(),
        include_bytes!("../table/optional.txt").as_slice(),
        env!("CARGO_PKG_VERSION").as_bytes(),
    ];
    let bytes = inputs.into_iter().chain([descriptions::source()]).flatten();
    format!("{:032X}", bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME)))
});

/// The hash of every document of what is served. A server that was started with other optional groups has other documents.
pub fn hash(kinds: &dyn Kinds) -> String {
    let optional = optional_groups().iter().filter(|group| kinds.groups().any(|served| served.name == group.name));
    let names: String = optional.map(|group| format!("-{}", group.name)).collect();
    format!("{}{names}{}", *HASH, kinds.generation())
}

/// `/openapi/v3`: where the documents are.
pub fn v3_index(kinds: &dyn Kinds) -> Vec<u8> {
    let hash = hash(kinds);
    let own = versions(kinds).map(|(group, version)| version_path(&group, &version));
    let own = own.chain(operation::fixed_documents(kinds).into_iter().map(|(name, _)| name));
    let place = |name: &str| format!("/openapi/v3/{name}?hash={hash}");
    let mut places: Vec<(String, String)> = own.map(|name| (name.clone(), place(&name))).collect();
    places.extend(elsewhere(kinds).map(|(name, place)| (name, place.to_owned())));
    places.sort();
    let mut json = Json::default();
    json.object(|json| {
        json.key("paths").object(|json| {
            for (name, place) in &places {
                json.key(name).object(|json| {
                    json.key("serverRelativeURL").text(place);
                });
            }
        });
    });
    json.finish()
}

/// Whether there is a document under a path.
pub fn has_v3_document(kinds: &dyn Kinds, path: &str) -> bool {
    versions(kinds).any(|(group, version)| version_path(&group, &version) == path)
        || operation::fixed_documents(kinds).iter().any(|(name, _)| name == path)
}

/// `/openapi/v3/<path>` with a path such as `api/v1` or `apis/apps/v1`; none for what is not served.
pub fn v3_document(kinds: &dyn Kinds, path: &str) -> Option<Bytes> {
    if let Some(one) = versions(kinds).find(|(group, version)| version_path(group, version) == path) {
        let items = paths::of_version(kinds, &one.0, &one.1);
        return Some(render::v3(&items, Scope(&[one]), &Own::of(kinds)).into());
    }
    let (_, item) = operation::fixed_documents(kinds).into_iter().find(|(name, _)| name == path)?;
    Some(render::v3(&[item], Scope(&[]), &Own::default()).into())
}

/// `/openapi/v2`: everything in one document of some megabytes.
pub fn v2_document(kinds: &dyn Kinds) -> Bytes {
    let scope: Vec<_> = versions(kinds).collect();
    let mut items: Vec<_> = operation::fixed_documents(kinds).into_iter().map(|(_, item)| item).collect();
    items.extend(scope.iter().flat_map(|(group, version)| paths::of_version(kinds, group, version)));
    items.sort_by(|a, b| a.path.cmp(&b.path));
    let own = render::v2(&items, Scope(&scope), &Own::of(kinds));
    let parts: Vec<&str> =
        all_versions(kinds).filter_map(|(group, version)| kinds.elsewhere(&group, &version)?.open_api_v2).collect();
    if parts.is_empty() { own.into() } else { merge::merged(own, &parts).into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::table::Builtin;
    use serde_json::Value;

    fn document(path: &str) -> Value {
        serde_json::from_slice(&v3_document(&Builtin, path).unwrap()).unwrap()
    }

    #[test]
    fn the_index_names_documents_that_exist() {
        let index: Value = serde_json::from_slice(&v3_index(&Builtin)).unwrap();
        let paths = index["paths"].as_object().unwrap();
        assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1") && paths.contains_key("version"));
        for (path, entry) in paths {
            assert!(document(path)["paths"].is_object() && has_v3_document(&Builtin, path), "{path}");
            let url = entry["serverRelativeURL"].as_str().unwrap();
            assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")), "{url}");
        }
        for none in ["apis/apps/v9", ""] {
            assert!(v3_document(&Builtin, none).is_none() && !has_v3_document(&Builtin, none));
        }
    }

    #[test]
    fn patches_take_field_validation() {
        let document = document("apis/apps/v1");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        let names: Vec<_> = patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
        assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    }

    #[test]
    fn schemas_say_how_lists_merge() {
        let document = document("api/v1");
        let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
        assert_eq!(containers["items"]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    }

    #[test]
    fn every_reference_is_answered() {
        fn visit(value: &Value, document: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                    }
                    map.values().for_each(|value| visit(value, document));
                }
                Value::Array(items) => items.iter().for_each(|value| visit(value, document)),
                _ => {}
            }
        }
        let version_2: Value = serde_json::from_slice(&v2_document(&Builtin)).unwrap();
        visit(&version_2, &version_2);
        for (group, version) in versions(&Builtin) {
            let version_3 = document(&version_path(&group, &version));
            visit(&version_3, &version_3);
        }
    }
}
