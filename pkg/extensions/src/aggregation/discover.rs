//! What another server says that it serves: from its aggregated discovery, or from the list of one group version.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Aggregation;
use super::ask::{ASKER, Question};
use super::service::ApiService;

const WITHIN: Duration = Duration::from_secs(5);
/// A document of discovery has at most this many bytes.
const LIMIT: usize = 2 << 20;
/// As upstream's client asks.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
/// What of a resource is shown.
const FIELDS: [&str; 8] =
    ["resource", "responseKind", "scope", "singularResource", "verbs", "shortNames", "categories", "subresources"];

impl Aggregation {
    /// The resources of the group version of an API service, as aggregated discovery lists them.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub(super) async fn discover(&self, service: &ApiService) -> Result<Value, String> {
        let question = |path, accept| Question { user: ASKER, path, accept, known: None, limit: LIMIT, within: WITHIN };
        let spec = &service.spec;
        let aggregated = self.ask(service, question("/apis", AGGREGATED)).await.map_err(|err| err.to_string())?;
        if aggregated.code == 503 {
            return Err("it is unavailable".to_owned());
        }
        let kind = aggregated.media_type();
        if aggregated.code == 200 && kind.contains("g=apidiscovery.k8s.io") && kind.contains("as=APIGroupDiscoveryList")
        {
            let document: Value = serde_json::from_slice(&aggregated.body).map_err(|err| err.to_string())?;
            return Ok(of_version(&document, &spec.group, &spec.version));
        }
        let path = format!("/apis/{}/{}", spec.group, spec.version);
        let legacy = self.ask(service, question(&path, "application/json")).await.map_err(|err| err.to_string())?;
        if legacy.code != 200 {
            return Err(format!("{path} is answered with {}", legacy.code.as_u16()));
        }
        let document: Value = serde_json::from_slice(&legacy.body).map_err(|err| err.to_string())?;
        Ok(of_list(&document, &spec.group, &spec.version))
    }
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// The resources of one group version in a document of aggregated discovery; none when it is not in there.
fn of_version(document: &Value, group: &str, version: &str) -> Value {
    let group = list(document, "items").find(|item| item["metadata"]["name"] == group);
    let version = group.and_then(|group| list(group, "versions").find(|item| item["version"] == version));
    version.into_iter().flat_map(|version| list(version, "resources")).filter_map(cleaned).collect()
}

/// A resource with the fields that are known. Old clients want to be told a kind of everything.
fn cleaned(resource: &Value) -> Option<Value> {
    let fields = resource.as_object()?;
    let mut out: Map<String, Value> = FIELDS
        .iter()
        .filter_map(|field| fields.get(*field).map(|value| ((*field).to_owned(), value.clone())))
        .collect();
    let kind = || json!({ "group": "", "version": "", "kind": "" });
    if !fields.get("responseKind").is_some_and(Value::is_object) {
        out.insert("responseKind".into(), kind());
    }
    if let Some(Value::Array(subresources)) = out.get_mut("subresources") {
        subresources.retain(Value::is_object);
        for subresource in subresources.iter_mut().filter(|one| !one["responseKind"].is_object()) {
            subresource["responseKind"] = kind();
        }
    }
    Some(Value::Object(out))
}

/// The same from an `APIResourceList`.
fn of_list(document: &Value, group: &str, version: &str) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    let own = |value: &Value, own: &str| match value.as_str() {
        None | Some("") => own.to_owned(),
        Some(other) => other.to_owned(),
    };
    for entry in list(document, "resources") {
        let Some(name) = entry["name"].as_str() else { continue };
        let kind = json!({
            "group": own(&entry["group"], group), "version": own(&entry["version"], version), "kind": entry["kind"],
        });
        let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let (parent, subresource) = name.split_once('/').map_or((name, None), |(parent, sub)| (parent, Some(sub)));
        let at = resources.iter().position(|resource| resource["resource"] == parent);
        let Some(subresource) = subresource else {
            let mut resource = json!({
                "resource": name, "responseKind": kind, "scope": scope,
                "singularResource": entry["singularName"].as_str().unwrap_or_default(), "verbs": entry["verbs"],
            });
            for field in ["shortNames", "categories"] {
                if entry[field].as_array().is_some_and(|all| !all.is_empty()) {
                    resource[field] = entry[field].clone();
                }
            }
            match at {
                Some(at) => {
                    resource["subresources"] = resources[at]["subresources"].take();
                    resources[at] = resource;
                }
                None => resources.push(resource),
            }
            continue;
        };
        let at = at.unwrap_or_else(|| {
            // Its parent may be named later, or not at all.
            let kind = json!({ "group": "", "version": "", "kind": "" });
            resources.push(json!({ "resource": parent, "responseKind": kind, "scope": scope, "verbs": [] }));
            resources.len() - 1
        });
        let all = &mut resources[at]["subresources"];
        if all.is_null() {
            *all = json!([]);
        }
        if let Some(all) = all.as_array_mut() {
            all.push(json!({ "subresource": subresource, "responseKind": kind, "verbs": entry["verbs"] }));
        }
    }
    resources.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_what_aggregated_discovery_shows() {
        let list = json!({"resources": [
            {"name": "widgets/status", "singularName": "", "namespaced": true, "kind": "Widget", "verbs": ["get"]},
            {"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget", "verbs": ["list"], "shortNames": ["w"]},
            {"name": "widgets/scale", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
            {"kind": "nameless"},
        ]});
        let shown = of_list(&list, "g", "v1");
        assert_eq!(shown.as_array().map(Vec::len), Some(1));
        let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
        assert_eq!(shown[0]["responseKind"], kind("g", "v1", "Widget"));
        assert_eq!((&shown[0]["scope"], &shown[0]["shortNames"]), (&json!("Namespaced"), &json!(["w"])));
        let subs: Vec<&Value> = shown[0]["subresources"].as_array().into_iter().flatten().collect();
        assert_eq!(subs.iter().map(|one| &one["subresource"]).collect::<Vec<_>>(), ["status", "scale"]);
        assert_eq!(subs[1]["responseKind"], kind("autoscaling", "v1", "Scale"));
    }

    #[test]
    fn only_the_own_group_version_is_read() {
        let document = json!({"items": [{"metadata": {"name": "g"}, "versions": [
            {"version": "v2", "resources": [{"resource": "others"}]},
            {"version": "v1", "resources": [{"resource": "widgets", "scope": "Cluster", "more": "x"}, 7]},
        ]}]});
        let kind = json!({"group": "", "version": "", "kind": ""});
        let widgets = json!([{"resource": "widgets", "scope": "Cluster", "responseKind": kind}]);
        assert_eq!(of_version(&document, "g", "v1"), widgets);
        assert_eq!(of_version(&document, "other", "v1"), json!([]));
        assert_eq!(of_version(&json!("nonsense"), "g", "v1"), json!([]));
    }
}
