//! Discovery documents of what is served: the plain ones and the aggregated one.

use serde_json::{Map, Value, json};

use kedge_meta::Text;

use crate::table::{GroupInfo, KindInfo, Kinds, ResourceInfo};

/// In which order fields stand, below the top, where kind and version come first. One order does for all documents.
const ORDER: [&str; 24] = [
    "name",
    "resource",
    "subresource",
    "metadata",
    "singularName",
    "namespaced",
    "responseKind",
    "scope",
    "singularResource",
    "group",
    "groupVersion",
    "version",
    "kind",
    "verbs",
    "shortNames",
    "categories",
    "subresources",
    "storageVersionHash",
    "versions",
    "preferredVersion",
    "resources",
    "freshness",
    "clientCIDR",
    "serverAddress",
];

fn bytes(value: &Value) -> Vec<u8> {
    let mut out = String::new();
    write(&mut out, value, true);
    out.into_bytes()
}

fn write(out: &mut String, value: &Value, top: bool) {
    match value {
        Value::Object(map) => {
            let rank = |key: &str| match key {
                "kind" if top => (0, 0),
                "apiVersion" if top => (0, 1),
                other => (1, ORDER.iter().position(|known| *known == other).unwrap_or(ORDER.len())),
            };
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            fields.sort_by_key(|(key, _)| rank(key));
            out.push('{');
            for (i, (key, value)) in fields.into_iter().enumerate() {
                out.push_str(if i == 0 { "\"" } else { ",\"" });
                out.push_str(key);
                out.push_str("\":");
                write(out, value, false);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write(out, item, false);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn group_version(group: &str, version: &str) -> String {
    crate::table::api_version(group, version)
}

/// `/api`: the versions of the core group. `address` is where clients reach the server, such as `10.0.0.5:6443`.
pub fn api_versions(address: &str) -> Vec<u8> {
    bytes(&json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    }))
}

fn group_json(group: &GroupInfo) -> Value {
    let version = |v: &Text| json!({ "groupVersion": group_version(&group.name, v), "version": v });
    json!({
        "name": group.name,
        "versions": group.versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": version(&group.preferred_version()),
    })
}

/// `/apis`: all groups but the core one.
pub fn api_group_list(kinds: &dyn Kinds) -> Vec<u8> {
    let list: Vec<Value> = kinds.groups().filter(|g| !g.name.is_empty()).map(group_json).collect();
    bytes(&json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list }))
}

/// `/apis/<group>`; none for an unknown group.
pub fn api_group(kinds: &dyn Kinds, name: &str) -> Option<Vec<u8>> {
    let group = kinds.groups().find(|g| g.name == name && !name.is_empty())?;
    let mut value = group_json(group);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(bytes(&value))
}

fn put_list(map: &mut Map<String, Value>, field: &str, list: &[Text]) {
    if !list.is_empty() {
        map.insert(field.into(), json!(list));
    }
}

/// Group and version of a kind are only told where they are not those of the list.
fn foreign(map: &mut Map<String, Value>, kind: &KindInfo, resource: &ResourceInfo) {
    if (&kind.group, &kind.version) != (&resource.group, &resource.version) {
        if !kind.group.is_empty() {
            map.insert("group".into(), json!(kind.group));
        }
        map.insert("version".into(), json!(kind.version));
    }
}

fn resource_entries(resource: &ResourceInfo) -> Vec<Value> {
    let mut entry = Map::new();
    entry.insert("name".into(), json!(resource.plural));
    entry.insert("singularName".into(), json!(resource.singular));
    entry.insert("namespaced".into(), json!(resource.namespaced));
    entry.insert("kind".into(), json!(resource.kind));
    entry.insert("verbs".into(), json!(resource.verbs));
    put_list(&mut entry, "shortNames", &resource.short_names);
    put_list(&mut entry, "categories", &resource.categories);
    if resource.is_stored() {
        entry.insert("storageVersionHash".into(), json!(resource.storage_version_hash));
    }
    let mut entries = vec![Value::Object(entry)];
    for sub in &resource.subresources {
        let mut entry = Map::new();
        entry.insert("name".into(), json!(format!("{}/{}", resource.plural, sub.name)));
        entry.insert("singularName".into(), json!(""));
        entry.insert("namespaced".into(), json!(resource.namespaced));
        foreign(&mut entry, &sub.kind, resource);
        entry.insert("kind".into(), json!(sub.kind.kind));
        entry.insert("verbs".into(), json!(sub.verbs));
        entries.push(Value::Object(entry));
    }
    entries
}

/// `/api/v1`, `/apis/<group>/<version>`; none for what is not served.
pub fn api_resource_list(kinds: &dyn Kinds, group: &str, version: &str) -> Option<Vec<u8>> {
    kinds.groups().find(|g| g.name == group && g.versions.iter().any(|v| v == version))?;
    let list: Vec<Value> = kinds.resources(group, version).flat_map(resource_entries).collect();
    let group_version = group_version(group, version);
    let mut document = json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": list });
    // Upstream leaves the list of the core group without an API version of its own.
    if !group.is_empty() {
        document["apiVersion"] = json!("v1");
    }
    Some(bytes(&document))
}

fn response_kind(kind: &KindInfo, resource: &ResourceInfo) -> Value {
    // Upstream leaves it out for the kinds that it has built in, and says it for all others.
    let built_in = resource.schema.builtin().is_some();
    if built_in && (&kind.group, &kind.version) == (&resource.group, &resource.version) {
        return json!({ "group": "", "version": "", "kind": kind.kind });
    }
    json!({ "group": kind.group, "version": kind.version, "kind": kind.kind })
}

fn aggregated_resource(resource: &ResourceInfo) -> Value {
    let mut entry = Map::new();
    entry.insert("resource".into(), json!(resource.plural));
    entry.insert("responseKind".into(), response_kind(&resource.own_kind(), resource));
    entry.insert("scope".into(), json!(if resource.namespaced { "Namespaced" } else { "Cluster" }));
    entry.insert("singularResource".into(), json!(resource.singular));
    entry.insert("verbs".into(), json!(resource.verbs));
    put_list(&mut entry, "shortNames", &resource.short_names);
    put_list(&mut entry, "categories", &resource.categories);
    let subresource = |sub: &crate::SubresourceInfo| json!({ "subresource": sub.name, "responseKind": response_kind(&sub.kind, resource), "verbs": sub.verbs });
    let subresources: Vec<Value> = resource.subresources.iter().map(subresource).collect();
    if !subresources.is_empty() {
        entry.insert("subresources".into(), subresources.into());
    }
    Value::Object(entry)
}

fn aggregated(kinds: &dyn Kinds, wanted: impl Fn(&GroupInfo) -> bool) -> Vec<u8> {
    let version = |group: &GroupInfo, version: &str| {
        if let Some(elsewhere) = kinds.elsewhere(&group.name, version) {
            let freshness = if elsewhere.stale { "Stale" } else { "Current" };
            let mut shown = json!({ "version": version, "freshness": freshness });
            if let Some(resources) = elsewhere.resources {
                shown["resources"] = resources.clone();
            }
            return shown;
        }
        let of_version = kinds.resources(&group.name, version);
        json!({
            "version": version,
            "freshness": "Current",
            "resources": of_version.map(aggregated_resource).collect::<Vec<_>>(),
        })
    };
    let item = |group: &GroupInfo| {
        let metadata = if group.name.is_empty() { json!({}) } else { json!({ "name": group.name }) };
        let versions: Vec<Value> = group.versions.iter().map(|v| version(group, v)).collect();
        json!({ "metadata": metadata, "versions": versions })
    };
    let items: Vec<Value> = kinds.groups_by_name().filter(|g| wanted(g)).map(item).collect();
    bytes(&json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    }))
}

/// `/api` as an `APIGroupDiscoveryList`.
pub fn aggregated_core(kinds: &dyn Kinds) -> Vec<u8> {
    aggregated(kinds, |group| group.name.is_empty())
}

/// `/apis` as an `APIGroupDiscoveryList`.
pub fn aggregated_groups(kinds: &dyn Kinds) -> Vec<u8> {
    aggregated(kinds, |group| !group.name.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::table::{Builtin, resources};

    #[test]
    fn a_scale_names_its_own_group() {
        let list: Value = serde_json::from_slice(&api_resource_list(&Builtin, "apps", "v1").unwrap()).unwrap();
        let scale = list["resources"].as_array().unwrap().iter().find(|r| r["name"] == "deployments/scale").unwrap();
        assert_eq!(
            (&scale["group"], &scale["version"], &scale["kind"]),
            (&json!("autoscaling"), &json!("v1"), &json!("Scale"))
        );
        assert!(api_resource_list(&Builtin, "apps", "v9").is_none());
    }

    #[test]
    fn every_resource_is_in_the_aggregated_document() {
        let count = |bytes: Vec<u8>| {
            let list: Value = serde_json::from_slice(&bytes).unwrap();
            let versions =
                list["items"].as_array().unwrap().iter().flat_map(|i| i["versions"].as_array().unwrap().clone());
            versions.map(|v| v["resources"].as_array().unwrap().len()).sum::<usize>()
        };
        assert_eq!(count(aggregated_core(&Builtin)) + count(aggregated_groups(&Builtin)), resources().len());
    }
}
