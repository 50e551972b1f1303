//! Which resources the API server has, in their preferred versions, built-in and custom alike.
//!
//! Names that come from discovery live as long as the process, each once: there are as many as there are kinds.

use std::collections::HashSet;
use std::sync::LazyLock;

use kedge_client::{Client, Error};
use kedge_meta::Resource;
use parking_lot::Mutex;
use serde::Deserialize;
use tracing::debug;

/// A resource and what can be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    pub resource: Resource,
    pub verbs: Vec<String>,
}

impl Discovered {
    /// Whether the server offers that verb.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// What was found, and what could not be asked.
#[derive(Debug, Default)]
pub struct Discovery {
    pub resources: Vec<Discovered>,
    /// `group/version: why`, for those that failed.
    pub failures: Vec<String>,
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    versions: Vec<GroupVersion>,
    #[serde(rename = "preferredVersion")]
    preferred: Option<GroupVersion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    group_version: String,
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

/// Asks the server. Groups that cannot be asked are in `failures`; the others count.
///
/// # Errors
/// When the list of groups cannot be had.
pub async fn discover(client: &Client) -> Result<Discovery, Error> {
    let groups: GroupList = serde_json::from_slice(&client.get_raw("/apis").await?)?;
    let mut versions = vec![vec![("v1".to_owned(), "/api/v1".to_owned())]];
    for group in groups.groups {
        versions.push(preferred_first(group).into_iter().map(|v| (v.clone(), format!("/apis/{v}"))).collect());
    }
    let mut found = Discovery::default();
    for group in versions {
        // A resource that the preferred version lacks is taken from the next version that has it.
        let mut seen = HashSet::new();
        for (version, path) in group {
            match resources(client, &path).await {
                Ok(list) => take(&version, list, &mut seen, &mut found.resources),
                Err(err) if err.is_not_found() => debug!(version, "group version is gone"),
                Err(err) => found.failures.push(format!("{version}: {err}")),
            }
        }
    }
    Ok(found)
}

async fn resources(client: &Client, path: &str) -> Result<Vec<ApiResource>, Error> {
    let list: ResourceList = serde_json::from_slice(&client.get_raw(path).await?)?;
    Ok(list.resources)
}

fn preferred_first(group: Group) -> Vec<String> {
    let mut names: Vec<String> = group.preferred.into_iter().map(|v| v.group_version).collect();
    for version in group.versions {
        if !names.contains(&version.group_version) {
            names.push(version.group_version);
        }
    }
    names
}

fn take(version: &str, list: Vec<ApiResource>, seen: &mut HashSet<String>, out: &mut Vec<Discovered>) {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    for r in list {
        // Subresources have a slash in their names.
        if r.name.contains('/') || !seen.insert(r.name.clone()) {
            continue;
        }
        let resource = Resource {
            group: intern(group),
            version: intern(version),
            plural: intern(&r.name),
            kind: intern(&r.kind),
            namespaced: r.namespaced,
        };
        out.push(Discovered { resource, verbs: r.verbs });
    }
}

fn intern(text: &str) -> &'static str {
    static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock();
    if let Some(known) = names.get(text) {
        return known;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    names.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(name: &str) -> ApiResource {
        ApiResource { name: name.into(), kind: "K".into(), namespaced: true, verbs: vec!["list".into()] }
    }

    #[test]
    fn subresources_are_left_out_and_the_first_version_wins() {
        let (mut seen, mut out) = (HashSet::new(), Vec::new());
        take("g/v1", vec![api("a"), api("a/status")], &mut seen, &mut out);
        take("g/v1beta1", vec![api("a"), api("b")], &mut seen, &mut out);
        let names: Vec<_> = out.iter().map(|d| (d.resource.plural, d.resource.version)).collect();
        assert_eq!(names, [("a", "v1"), ("b", "v1beta1")]);
    }

    #[test]
    fn a_name_is_kept_once() {
        assert!(std::ptr::eq(intern("some-name"), intern(&["some-", "name"].concat())));
    }
}
