//! Who asks, and whether they may: the API server and administrators always, others if the API says so.

use std::time::Duration;

use http::Method;
use kedge_base::SharedClock;
use kedge_client::Client;
use kedge_meta::resources;
use serde::Deserialize;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;

use super::tokens::Remembered;

/// The API server's own name.
const API_SERVER: &str = "system:kube-apiserver";
const MASTERS: &str = "system:masters";
/// Upstream's `authorization.webhook.cacheAuthorizedTTL` and `cacheUnauthorizedTTL`.
const ALLOWED: Duration = Duration::from_secs(300);
const REFUSED: Duration = Duration::from_secs(30);

/// The owner of a client certificate or of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
    pub(super) uid: String,
    /// More about them, for who decides: lists of texts by name.
    pub(super) extra: Value,
}

impl Identity {
    pub(super) fn new(name: String, groups: Vec<String>) -> Identity {
        Identity { name, groups, uid: String::new(), extra: Value::Null }
    }

    /// Common name and organizations of a certificate whose chain has been verified.
    pub(super) fn of_certificate(der: &[u8]) -> Option<Identity> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_string();
        let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_string).collect();
        (!name.is_empty()).then(|| Identity::new(name, groups))
    }

    fn is_privileged(&self) -> bool {
        self.name == API_SERVER || self.groups.iter().any(|g| g == MASTERS)
    }
}

/// The subresources of `nodes` that stand for a path: who may use one of them may use the path. What stood for all before it was
/// told apart still does.
fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "statusz" => &["statusz"],
        "flagz" => &["configz"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
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

/// What the API was asked about who may do what.
pub(super) struct Decisions(Remembered<String, bool>);

impl Decisions {
    pub(super) fn new(clock: SharedClock) -> Decisions {
        Decisions(Remembered::new(clock))
    }

    /// Whether the request may be served.
    ///
    /// # Errors
    /// The text of a 403, or why nothing could be found out.
    pub(super) async fn authorize(
        &self,
        client: &Client,
        node: &str,
        identity: &Identity,
        method: &Method,
        path: &str,
    ) -> Result<(), String> {
        if identity.is_privileged() {
            return Ok(());
        }
        let verb = verb(method);
        let allowed = |subresource| self.allowed(client, node, identity, verb, subresource);
        one_allowed(&identity.name, verb, subresources(path), allowed).await
    }

    async fn allowed(
        &self,
        client: &Client,
        node: &str,
        identity: &Identity,
        verb: &str,
        subresource: &str,
    ) -> Result<bool, String> {
        let mut groups = identity.groups.clone();
        if !groups.iter().any(|group| group == "system:authenticated") {
            groups.push("system:authenticated".to_string());
        }
        let mut spec = json!({
            "user": identity.name,
            "groups": groups,
            "resourceAttributes": {
                "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node},
        });
        if !identity.uid.is_empty() {
            spec["uid"] = json!(identity.uid);
        }
        if identity.extra.is_object() {
            spec["extra"] = identity.extra.clone();
        }
        let asked = spec.to_string();
        if let Some(known) = self.0.get(&asked) {
            return Ok(known);
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let answer = client.create::<Review>(&resources::SUBJECT_ACCESS_REVIEWS, "", &review).await;
        let allowed = answer.map(|review| review.status.allowed).map_err(|error| error.to_string())?;
        self.0.put(asked, allowed, if allowed { ALLOWED } else { REFUSED });
        Ok(allowed)
    }
}

/// Asks about one subresource after the other until one is allowed.
async fn one_allowed<F: Future<Output = Result<bool, String>>>(
    user: &str,
    verb: &str,
    subresources: &'static [&'static str],
    allowed: impl Fn(&'static str) -> F,
) -> Result<(), String> {
    for subresource in subresources {
        match allowed(subresource).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return Err(format!("Authorization error (user={user}): {error}\n")),
        }
    }
    let all = subresources.join(" ");
    Err(format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{all}])\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_api_server_and_masters_need_no_review() {
        let identity = |name: &str, group: &str| Identity::new(name.into(), vec![group.into()]);
        assert!(identity(API_SERVER, "x").is_privileged());
        assert!(identity("admin", MASTERS).is_privileged());
        assert!(!identity("system:node:a", "system:nodes").is_privileged());
    }

    #[test]
    fn paths_stand_for_subresources() {
        assert_eq!(subresources("/containerLogs/a/b/c"), ["proxy"]);
        assert_eq!(subresources("/stats/summary"), ["stats"]);
        assert_eq!(subresources("/statsx"), ["proxy"]);
        assert_eq!(subresources("/pods"), ["pods", "proxy"]);
        assert_eq!((verb(&Method::POST), verb(&Method::HEAD)), ("create", "get"));
    }

    /// Roles from before pods, health and configuration had subresources of their own were once worth nothing here.
    #[tokio::test]
    async fn who_may_use_all_of_the_kubelet_may_use_each_part() {
        let asked = async |path: &str, may: &str| {
            let allowed = |subresource| std::future::ready(Ok(subresource == may));
            one_allowed("jane", "get", subresources(path), allowed).await
        };
        for path in ["/pods", "/runningpods/", "/healthz", "/healthz/ping", "/configz"] {
            assert_eq!(asked(path, "proxy").await, Ok(()), "{path}");
        }
        assert_eq!(asked("/pods", "pods").await, Ok(()));
        let refused = asked("/pods", "stats").await.unwrap_err();
        assert_eq!(refused, "Forbidden (user=jane, verb=get, resource=nodes, subresource(s)=[pods proxy])\n");
        assert!(asked("/stats/summary", "proxy").await.is_err(), "that always had one of its own");
        let failed = one_allowed("jane", "get", &["pods"], |_| std::future::ready(Err("no answer".into()))).await;
        assert_eq!(failed.unwrap_err(), "Authorization error (user=jane): no answer\n");
    }
}
