//! The routes of a server: what its discovery and its index say that there is, and what they leave out.
//!
//! Requests are such that who may make them changes nothing: they name nothing that is there, or are dry runs.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::ask::Asker;
use super::table::Key;

/// Namespaces of the table, and what they are called on the server.
pub const NAMESPACES: [(&str, &str); 2] = [("a", "matrix-a"), ("b", "matrix-b")];
/// Nothing has this name.
const NAME: &str = "absent";
const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON: &str = "application/json";
/// No index names them. The last one is nowhere.
const UNLISTED: [&str; 14] = [
    "/",
    "/debug/api_priority_and_fairness/dump_priority_levels",
    "/debug/api_priority_and_fairness/dump_queues",
    "/debug/api_priority_and_fairness/dump_requests",
    "/debug/flags/v",
    "/debug/pprof/",
    "/debug/pprof/heap",
    "/kedge/v1/certificates",
    "/kedge/v1/encryption",
    "/kedge/v1/snapshots",
    "/kedge/v1/token",
    "/logs/",
    "/swagger-2.0.0.json",
    "/nowhere",
];
const METHODS: [&str; 6] = ["get", "post", "put", "patch", "delete", "options"];

/// Something to ask for.
#[derive(Debug, Clone)]
pub struct Route {
    pub key: Key,
    pub method: &'static str,
    pub path: String,
    pub content_type: &'static str,
    pub body: String,
    /// Whether controllers are asked too: where a namespace is bound to somebody makes no difference for them.
    pub controllers: bool,
}

impl Route {
    /// As a request.
    ///
    /// # Errors
    /// When the path is none.
    pub fn request(&self) -> anyhow::Result<Request<Bytes>> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        if !self.content_type.is_empty() {
            request = request.header("content-type", self.content_type);
        }
        request.body(self.body.clone().into()).with_context(|| self.path.clone())
    }
}

/// All routes of a server.
///
/// # Errors
/// When it does not say what it has, or has a verb that nobody knows.
pub async fn all(admin: &Asker) -> anyhow::Result<Vec<Route>> {
    let mut routes = Vec::new();
    let mut versions = vec![("v1".to_owned(), "/api/v1".to_owned())];
    for group in list(&admin.json("/apis").await?["groups"]) {
        for version in list(&group["versions"]) {
            let name = text(&version["groupVersion"]);
            versions.push((name.to_owned(), format!("/apis/{name}")));
        }
    }
    for (version, base) in versions {
        for resource in list(&admin.json(&base).await?["resources"]) {
            ensure!(!list(&resource["verbs"]).is_empty(), "{version} {}: no verbs", resource["name"]);
            of_resource(&mut routes, (&version, &base), resource)?;
        }
    }
    let index = admin.json("/").await?;
    let paths = list(&index["paths"]).iter().map(|path| text(path).to_owned());
    of_paths(&mut routes, paths.chain(UNLISTED.map(str::to_owned)));
    Ok(routes)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn of_resource(routes: &mut Vec<Route>, (version, base): (&str, &str), resource: &Value) -> anyhow::Result<()> {
    let name = text(&resource["name"]);
    let verbs: Vec<&str> = list(&resource["verbs"]).iter().map(text).collect();
    if resource["namespaced"] == true {
        for (scope, namespace) in NAMESPACES {
            for verb in &verbs {
                let base = format!("{base}/namespaces/{namespace}");
                let controllers = scope == "a";
                routes.push(route((version, &base), resource, (scope, verb), controllers)?);
            }
        }
        // Of all namespaces, there are lists of things alone.
        for verb in verbs.iter().filter(|verb| ["list", "watch"].contains(verb) && !name.contains('/')) {
            routes.push(route((version, base), resource, ("*", verb), true)?);
        }
        return Ok(());
    }
    for verb in &verbs {
        routes.push(route((version, base), resource, ("-", verb), true)?);
    }
    Ok(())
}

fn route(
    (version, base): (&str, &str),
    resource: &Value,
    (scope, verb): (&str, &str),
    controllers: bool,
) -> anyhow::Result<Route> {
    let full = text(&resource["name"]);
    let (name, subresource) = full.split_once('/').unwrap_or((full, ""));
    let collection = format!("{base}/{name}");
    let object = match subresource {
        "" => format!("{collection}/{NAME}"),
        subresource => format!("{collection}/{NAME}/{subresource}"),
    };
    let filled = || body(version, resource);
    // What is passed on to somebody else knows of no dry run, and there is nobody.
    let passed_on = ["attach", "exec", "portforward", "proxy"].contains(&subresource);
    let dry = |path: &str| if passed_on { path.to_owned() } else { format!("{path}?dryRun=All") };
    let (method, path, content_type, body) = match verb {
        "get" if ["exec", "attach"].contains(&subresource) => {
            ("GET", format!("{object}?command=true&stdout=true"), "", String::new())
        }
        "get" => ("GET", object, "", String::new()),
        "list" => ("GET", format!("{collection}?limit=1"), "", String::new()),
        "watch" => ("GET", format!("{collection}?watch=true&timeoutSeconds=5"), "", String::new()),
        "create" if subresource.is_empty() => ("POST", dry(&collection), JSON, filled()),
        "create" => ("POST", dry(&object), JSON, filled()),
        "update" => ("PUT", dry(&object), JSON, filled()),
        "patch" => ("PATCH", dry(&object), MERGE_PATCH, "{}".to_owned()),
        "delete" => ("DELETE", dry(&object), "", String::new()),
        "deletecollection" => {
            ("DELETE", format!("{}&labelSelector=matrix%3Dnothing", dry(&collection)), "", String::new())
        }
        other => anyhow::bail!("{full}: the verb {other} is not known"),
    };
    let key = Key { place: format!("{version} {full} {scope}"), verb: verb.to_owned() };
    Ok(Route { key, method, path, content_type, body, controllers })
}

/// Something of the kind of a resource.
fn body(version: &str, resource: &Value) -> String {
    let group = match (text(&resource["group"]), text(&resource["version"])) {
        ("", "") => version.to_owned(),
        ("", version) => version.to_owned(),
        (group, version) => format!("{group}/{version}"),
    };
    let mut body = json!({"apiVersion": group, "kind": resource["kind"], "metadata": {"name": NAME}});
    // Upstream's server has no words for these without what they are about.
    match text(&resource["kind"]) {
        "Binding" => body["target"] = json!({"kind": "Node", "name": NAME}),
        "RoleBinding" | "ClusterRoleBinding" => {
            body["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
        }
        _ => {}
    }
    body.to_string()
}

fn of_paths(routes: &mut Vec<Route>, paths: impl Iterator<Item = String>) {
    let mut seen = BTreeSet::new();
    for path in paths {
        let class = class(&path);
        if !seen.insert(class.clone()) {
            continue;
        }
        for verb in METHODS {
            let method = match verb {
                "get" => "GET",
                "post" => "POST",
                "put" => "PUT",
                "patch" => "PATCH",
                "delete" => "DELETE",
                _ => "OPTIONS",
            };
            let key = Key { place: format!("path {class}"), verb: verb.to_owned() };
            routes.push(Route {
                key,
                method,
                path: path.clone(),
                content_type: "",
                body: String::new(),
                controllers: verb == "get",
            });
        }
    }
}

/// What stands for a path and all like it: which checks and groups there are is no matter of rights.
fn class(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        [endpoint @ ("healthz" | "livez" | "readyz"), _, ..] => format!("/{endpoint}/CHECK"),
        ["apis", group] if !group.is_empty() => "/apis/GROUP".to_owned(),
        ["apis", _, _] => "/apis/GROUP/VERSION".to_owned(),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_asked_for_in_each_scope() -> anyhow::Result<()> {
        let mut routes = Vec::new();
        let scale = json!({"name": "deployments/scale", "namespaced": true, "group": "autoscaling", "version": "v1",
            "kind": "Scale", "verbs": ["get", "patch"]});
        let deployments =
            json!({"name": "deployments", "namespaced": true, "kind": "Deployment", "verbs": ["get", "list"]});
        for resource in [scale, deployments] {
            of_resource(&mut routes, ("apps/v1", "/apis/apps/v1"), &resource)?;
        }
        let keys: Vec<String> = routes.iter().map(|r| format!("{} {}", r.key.place, r.key.verb)).collect();
        assert_eq!(keys.len(), 4 + 5, "{keys:?}");
        assert!(keys.contains(&"apps/v1 deployments * list".to_owned()));
        let scale = &routes[1];
        assert_eq!(scale.path, "/apis/apps/v1/namespaces/matrix-a/deployments/absent/scale?dryRun=All");
        let unknown = json!({"name": "nodes", "namespaced": false, "kind": "Node", "verbs": ["conquer"]});
        assert!(of_resource(&mut routes, ("v1", "/api/v1"), &unknown).is_err());
        Ok(())
    }

    #[test]
    fn paths_that_are_alike_are_asked_for_once() {
        let mut routes = Vec::new();
        let paths = ["/livez", "/livez/etcd", "/livez/ping", "/apis/apps", "/apis/batch", "/apis/batch/v1"];
        of_paths(&mut routes, paths.map(str::to_owned).into_iter());
        let gets: Vec<&str> = routes.iter().filter(|r| r.method == "GET").map(|r| &*r.key.place).collect();
        assert_eq!(gets, ["path /livez", "path /livez/CHECK", "path /apis/GROUP", "path /apis/GROUP/VERSION"]);
    }
}
