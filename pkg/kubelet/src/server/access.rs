//! Who asks, and whether they may: the API server and administrators always, others if the API says so.

use http::Method;
use kedge_client::Client;
use kedge_meta::resources;
use serde::Deserialize;
use serde_json::json;
use x509_parser::prelude::FromDer;

/// The API server's own name.
const API_SERVER: &str = "system:kube-apiserver";
const MASTERS: &str = "system:masters";

/// The owner of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

impl Identity {
    /// Common name and organizations of a certificate whose chain has been verified.
    pub(super) fn of_certificate(der: &[u8]) -> Option<Identity> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_string();
        let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_string).collect();
        (!name.is_empty()).then_some(Identity { name, groups })
    }

    fn is_privileged(&self) -> bool {
        self.name == API_SERVER || self.groups.iter().any(|g| g == MASTERS)
    }
}

/// The subresource of `nodes` that stands for a path.
fn subresource(path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => "stats",
        "metrics" => "metrics",
        "logs" => "log",
        "checkpoint" => "checkpoint",
        "pods" | "runningpods" => "pods",
        "healthz" => "healthz",
        "configz" => "configz",
        _ => "proxy",
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

#[derive(Deserialize)]
struct Review {
    #[serde(default)]
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
struct ReviewStatus {
    #[serde(default)]
    allowed: bool,
}

/// Whether the request may be served.
///
/// # Errors
/// The text of a 403, or why nothing could be found out.
pub(super) async fn authorize(
    client: &Client,
    node: &str,
    identity: &Identity,
    method: &Method,
    path: &str,
) -> Result<(), String> {
    if identity.is_privileged() {
        return Ok(());
    }
    let (verb, subresource) = (verb(method), subresource(path));
    let mut groups = identity.groups.clone();
    groups.push("system:authenticated".to_string());
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": identity.name,
            "groups": groups,
            "resourceAttributes": {
                "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node},
        },
    });
    let answer = client.create::<Review>(&resources::SUBJECT_ACCESS_REVIEWS, "", &review).await;
    match answer {
        Ok(review) if review.status.allowed => Ok(()),
        Ok(_) => Err(format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])\n",
            identity.name
        )),
        Err(error) => Err(format!("Authorization error (user={}): {error}\n", identity.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_api_server_and_masters_need_no_review() {
        let identity = |name: &str, group: &str| Identity { name: name.into(), groups: vec![group.into()] };
        assert!(identity(API_SERVER, "x").is_privileged());
        assert!(identity("admin", MASTERS).is_privileged());
        assert!(!identity("system:node:a", "system:nodes").is_privileged());
    }

    #[test]
    fn paths_stand_for_subresources() {
        assert_eq!(subresource("/containerLogs/a/b/c"), "proxy");
        assert_eq!(subresource("/stats/summary"), "stats");
        assert_eq!(subresource("/pods"), "pods");
        assert_eq!((verb(&Method::POST), verb(&Method::HEAD)), ("create", "get"));
    }
}
