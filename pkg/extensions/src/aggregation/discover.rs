//! What another server says that it serves: from its aggregated discovery, or from the list of one group version.
//!
//! Invariant: what is kept has the form that clients decode, and a bounded size. What has another is refused as a whole: shown to
//! clients it would keep them from seeing what everybody else serves.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use kedge_meta::nullable;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Aggregation;
use super::ask::{ASKER, Question};
use super::service::ApiService;

const WITHIN: Duration = Duration::from_secs(5);
/// A document of discovery has at most this many bytes.
const LIMIT: usize = 2 << 20;
/// As upstream's client asks.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
/// How many resources a group version may have, with their subresources.
const RESOURCES: usize = 2_000;
/// How many verbs, names or subresources a resource may have.
const EACH: usize = 50;

impl Aggregation {
    /// The resources of the group version of an API service, as aggregated discovery lists them.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub(super) async fn discover(&self, service: &ApiService) -> Result<Value, String> {
        let question =
            |path, accept| Question { user: ASKER, path, accept, known: None, limit: Some(LIMIT), within: WITHIN };
        let spec = &service.spec;
        let aggregated = self.ask(service, question("/apis", AGGREGATED)).await.map_err(|err| err.to_string())?;
        if aggregated.code == 503 {
            return Err("it is unavailable".to_owned());
        }
        let kind = aggregated.media_type();
        if aggregated.code == 200 && kind.contains("g=apidiscovery.k8s.io") && kind.contains("as=APIGroupDiscoveryList")
        {
            return shown(of_version(&aggregated.body, &spec.group, &spec.version));
        }
        let path = format!("/apis/{}/{}", spec.group, spec.version);
        let legacy = self.ask(service, question(&path, "application/json")).await.map_err(|err| err.to_string())?;
        if legacy.code != 200 {
            return Err(format!("{path} is answered with {}", legacy.code.as_u16()));
        }
        shown(of_list(&legacy.body, &spec.group, &spec.version))
    }
}

fn shown(resources: Result<Vec<Resource>, serde_json::Error>) -> Result<Value, String> {
    resources.and_then(|resources| serde_json::to_value(&resources)).map_err(|err| err.to_string())
}

/// A list of at most `MOST` entries, or nothing.
struct Few<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Few<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} entries")
    }

    fn visit_unit<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = entries.next_element()? {
            if all.len() == MOST {
                return Err(A::Error::custom(format!("a list has more than {MOST} entries")));
            }
            all.push(entry);
        }
        Ok(all)
    }
}

fn many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(Few::<T, RESOURCES>(PhantomData))
}

fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(Few::<T, EACH>(PhantomData))
}

/// A document of aggregated discovery, of which only the own group version is looked into.
#[derive(Deserialize)]
struct Groups<'a> {
    #[serde(borrow, default, deserialize_with = "many")]
    items: Vec<Group<'a>>,
}

#[derive(Deserialize)]
struct Group<'a> {
    #[serde(default, deserialize_with = "nullable")]
    metadata: Named,
    #[serde(borrow, default, deserialize_with = "few")]
    versions: Vec<Version<'a>>,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default, deserialize_with = "nullable")]
    name: String,
}

#[derive(Deserialize)]
struct Version<'a> {
    #[serde(default, deserialize_with = "nullable")]
    version: String,
    #[serde(borrow, default)]
    resources: Option<&'a RawValue>,
}

/// A resource, with what is shown of it. Old clients want to be told a kind of everything.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    #[serde(deserialize_with = "nullable")]
    resource: String,
    #[serde(deserialize_with = "nullable")]
    response_kind: Kind,
    #[serde(deserialize_with = "nullable")]
    scope: String,
    #[serde(deserialize_with = "nullable")]
    singular_resource: String,
    #[serde(deserialize_with = "few")]
    verbs: Vec<String>,
    #[serde(deserialize_with = "few", skip_serializing_if = "Vec::is_empty")]
    short_names: Vec<String>,
    #[serde(deserialize_with = "few", skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[serde(deserialize_with = "few", skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<Subresource>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Subresource {
    #[serde(deserialize_with = "nullable")]
    subresource: String,
    #[serde(deserialize_with = "nullable")]
    response_kind: Kind,
    #[serde(deserialize_with = "few")]
    verbs: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
struct Kind {
    #[serde(deserialize_with = "nullable")]
    group: String,
    #[serde(deserialize_with = "nullable")]
    version: String,
    #[serde(deserialize_with = "nullable")]
    kind: String,
}

/// The resources of one group version in a document of aggregated discovery.
fn of_version(document: &[u8], group: &str, version: &str) -> Result<Vec<Resource>, serde_json::Error> {
    #[derive(Deserialize)]
    struct All(#[serde(deserialize_with = "many")] Vec<Resource>);

    let document: Groups<'_> = serde_json::from_slice(document)?;
    let group = document.items.into_iter().find(|item| item.metadata.name == group);
    let version = group.and_then(|group| group.versions.into_iter().find(|item| item.version == version));
    // A server that is starting may not say it yet.
    let version = version.ok_or_else(|| serde_json::Error::custom("it does not name the group version"))?;
    let Some(resources) = version.resources else { return Ok(Vec::new()) };
    let All(mut resources) = serde_json::from_str(resources.get())?;
    resources.retain(|resource| !resource.resource.is_empty());
    for resource in &mut resources {
        resource.subresources.retain(|subresource| !subresource.subresource.is_empty());
    }
    Ok(resources)
}

/// An `APIResourceList`.
#[derive(Deserialize)]
struct List {
    #[serde(default, deserialize_with = "many")]
    resources: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    singular_name: String,
    #[serde(deserialize_with = "nullable")]
    namespaced: bool,
    #[serde(deserialize_with = "nullable")]
    group: String,
    #[serde(deserialize_with = "nullable")]
    version: String,
    #[serde(deserialize_with = "nullable")]
    kind: String,
    #[serde(deserialize_with = "few")]
    verbs: Vec<String>,
    #[serde(deserialize_with = "few")]
    short_names: Vec<String>,
    #[serde(deserialize_with = "few")]
    categories: Vec<String>,
}

/// The resources of such a list, as aggregated discovery has them.
fn of_list(document: &[u8], group: &str, version: &str) -> Result<Vec<Resource>, serde_json::Error> {
    let list: List = serde_json::from_slice(document)?;
    let mut resources: Vec<Resource> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let or = |value: String, own: &str| if value.is_empty() { own.to_owned() } else { value };
    for entry in list.resources.into_iter().filter(|entry| !entry.name.is_empty()) {
        let response_kind =
            Kind { group: or(entry.group, group), version: or(entry.version, version), kind: entry.kind };
        let scope = if entry.namespaced { "Namespaced" } else { "Cluster" };
        let (parent, subresource) = match entry.name.split_once('/') {
            Some((parent, subresource)) => (parent.to_owned(), Some(subresource.to_owned())),
            None => (entry.name, None),
        };
        // The parent of a subresource may be named later, or not at all.
        let at = *places.entry(parent).or_insert_with_key(|name| {
            resources.push(Resource { resource: name.clone(), scope: scope.to_owned(), ..Resource::default() });
            resources.len() - 1
        });
        let Some(resource) = resources.get_mut(at) else { continue };
        match subresource {
            Some(subresource) => {
                resource.subresources.push(Subresource { subresource, response_kind, verbs: entry.verbs });
            }
            None => {
                (resource.response_kind, resource.verbs) = (response_kind, entry.verbs);
                scope.clone_into(&mut resource.scope);
                (resource.short_names, resource.categories) = (entry.short_names, entry.categories);
                resource.singular_resource = entry.singular_name;
            }
        }
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_becomes_what_aggregated_discovery_shows() {
        let list = json!({"resources": [
            {"name": "widgets/status", "singularName": "", "namespaced": true, "kind": "Widget", "verbs": ["get"]},
            {"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget", "verbs": ["list"], "shortNames": ["w"]},
            {"name": "widgets/scale", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
            {"kind": "nameless"},
        ]});
        let shown = shown(of_list(list.to_string().as_bytes(), "g", "v1")).unwrap();
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
            {"version": "v2", "resources": [{"resource": 7}]},
            {"version": "v1", "resources": [{"resource": "widgets", "scope": "Cluster", "more": "x"}, {"resource": ""}]},
        ]}]})
        .to_string();
        let kind = json!({"group": "", "version": "", "kind": ""});
        let widgets = json!([{"resource": "widgets", "scope": "Cluster", "responseKind": kind, "singularResource": "", "verbs": []}]);
        assert_eq!(shown(of_version(document.as_bytes(), "g", "v1")).unwrap(), widgets);
        assert!(of_version(document.as_bytes(), "g", "v2").is_err());
        assert!(of_version(document.as_bytes(), "other", "v1").is_err(), "it may say so later");
        assert!(of_version(b"\"nonsense\"", "g", "v1").is_err());
    }

    /// Verbs that were null, or no list, were once shown as they are: then no client could read anything about anybody.
    #[test]
    fn what_clients_could_not_decode_is_not_shown() {
        let of = |resource: Value| {
            let document = json!({"items": [{"metadata": {"name": "g"}, "versions": [{"version": "v1", "resources": [resource]}]}]});
            shown(of_version(document.to_string().as_bytes(), "g", "v1"))
        };
        let null =
            json!({"resource": "widgets", "verbs": null, "responseKind": null, "scope": null, "subresources": null});
        assert_eq!(of(null).unwrap()[0]["verbs"], json!([]));
        assert_eq!(of(json!({})).unwrap(), json!([]));
        assert!(of(json!({"resource": "widgets", "verbs": 5})).is_err());
        assert!(of(json!({"resource": "widgets", "verbs": vec!["get"; 51]})).is_err());
        let list = |entry: Value| shown(of_list(json!({"resources": [entry]}).to_string().as_bytes(), "g", "v1"));
        assert_eq!(list(json!({"name": "widgets", "verbs": null})).unwrap()[0]["responseKind"]["kind"], "");
        assert!(list(json!({"name": "widgets", "namespaced": "yes"})).is_err());
    }

    /// Two MiB of `{}` once became gigabytes.
    #[test]
    fn a_group_version_has_a_bounded_number_of_resources() {
        let many = vec![json!({}); RESOURCES + 1];
        assert!(of_list(json!({ "resources": many }).to_string().as_bytes(), "g", "v1").is_err());
        let document =
            json!({"items": [{"metadata": {"name": "g"}, "versions": [{"version": "v1", "resources": many}]}]});
        assert!(of_version(document.to_string().as_bytes(), "g", "v1").is_err());
    }
}
