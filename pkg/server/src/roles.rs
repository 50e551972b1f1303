//! Default roles and bindings are completed at every start, as upstream: what is missing is added, what others have added
//! is kept, and those whose annotation `rbac.authorization.kubernetes.io/autoupdate` says `false` are left alone.

use futures::{StreamExt as _, TryStreamExt as _};
use kedge_auth::{PolicyRule, uncovered};
use kedge_base::BoxFuture;
use kedge_client::{Client, DeleteOptions, Error as ClientError};
use kedge_meta::{Resource, resources};
use serde_json::{Map, Value};
use tracing::{info, warn};

use crate::error::Error;

pub(crate) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// How many are brought up to date at a time: so many share one write to the disk.
const AT_A_TIME: usize = 32;
/// How often one is tried when others change it at the same time.
const ATTEMPTS: u32 = 5;
/// The roles that once had rules of their own, and the ones that those rules are in now.
const GATHERED: [(&str, &str); 3] = [
    ("admin", "system:aggregate-to-admin"),
    ("edit", "system:aggregate-to-edit"),
    ("view", "system:aggregate-to-view"),
];

/// What makes an object what it should be.
#[derive(Debug, PartialEq)]
enum Action {
    Nothing,
    Create,
    Update(Value),
    /// The role of a binding cannot be changed.
    Replace,
}

/// Brings all of `policy` up to date.
pub(crate) async fn ensure(client: &Client, policy: &[Value]) -> Result<(), Error> {
    keep_rules(client, policy).await?;
    // In a box each: whether a closure over references may go to another thread is more than the compiler sees.
    let each: Vec<BoxFuture<'_, _>> = policy.iter().map(|wanted| Box::pin(ensure_one(client, wanted)) as _).collect();
    futures::stream::iter(each).buffer_unordered(AT_A_TIME).try_collect().await
}

fn resource_of(object: &Value) -> Option<&'static Resource> {
    let all =
        [&resources::CLUSTER_ROLES, &resources::CLUSTER_ROLE_BINDINGS, &resources::ROLES, &resources::ROLE_BINDINGS];
    all.into_iter().find(|r| object["kind"] == *r.kind)
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

async fn found(
    client: &Client,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, ClientError> {
    match client.get(resource, namespace, name).await {
        Ok(object) => Ok(Some(object)),
        Err(err) if err.is_not_found() => Ok(None),
        Err(err) => Err(err),
    }
}

/// In a cluster from a time when the roles for people had rules of their own, what was added to them is kept.
async fn keep_rules(client: &Client, policy: &[Value]) -> Result<(), Error> {
    let roles = &resources::CLUSTER_ROLES;
    for (gathered, part) in GATHERED {
        let Some(wanted) = policy.iter().find(|o| o["kind"] == *roles.kind && text(o, "name") == part) else {
            continue;
        };
        let what = || format!("{} {part}", roles.kind);
        let failed = |source| Error::Bootstrap { what: what(), source };
        if found(client, roles, "", part).await.map_err(failed)?.is_some() {
            continue;
        }
        let old = found(client, roles, "", gathered).await.map_err(failed)?;
        let Some(old) = old.filter(|role| role["aggregationRule"].is_null()) else { continue };
        let mut moved = wanted.clone();
        moved["rules"] = old["rules"].clone();
        match client.create::<Value>(roles, "", &moved).await {
            Ok(_) => info!(from = gathered, to = part, "rules moved"),
            Err(err) if err.is_already_exists() => {}
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(())
}

async fn ensure_one(client: &Client, wanted: &Value) -> Result<(), Error> {
    let (namespace, name) = (text(wanted, "namespace"), text(wanted, "name"));
    let what = format!("{} {name}", wanted["kind"].as_str().unwrap_or_default());
    let Some(resource) = resource_of(wanted) else {
        return Err(Error::Manifest { name: what, what: "its kind is not one of a policy".into() });
    };
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_one(client, resource, wanted).await {
            Ok(()) => return Ok(()),
            // Another server does the same, or somebody edits it.
            Err(err) if attempt < ATTEMPTS && (err.is_conflict() || err.is_not_found() || err.is_already_exists()) => {}
            // What is in a namespace that is going away comes with the next start; the rest must not wait for it.
            Err(err) if !namespace.is_empty() && (err.is_forbidden() || err.is_not_found()) => {
                warn!(object = what, namespace, error = %err, "a default role or binding cannot be written");
                return Ok(());
            }
            Err(source) => return Err(Error::Bootstrap { what, source }),
        }
    }
}

async fn try_one(client: &Client, resource: &Resource, wanted: &Value) -> Result<(), ClientError> {
    let (namespace, name) = (text(wanted, "namespace"), text(wanted, "name"));
    let existing = found(client, resource, namespace, name).await?;
    match plan(existing.as_ref(), wanted) {
        Action::Nothing => return Ok(()),
        Action::Create => client.create::<Value>(resource, namespace, wanted).await?,
        Action::Update(completed) => {
            info!(kind = resource.kind.as_str(), name, "completed");
            client.update::<Value>(resource, namespace, name, &completed).await?
        }
        Action::Replace => {
            info!(kind = resource.kind.as_str(), name, "replaced");
            let uid = existing.as_ref().map(|o| text(o, "uid")).unwrap_or_default();
            client.delete(resource, namespace, name, &DeleteOptions::with_uid(uid)).await?;
            client.create::<Value>(resource, namespace, wanted).await?
        }
    };
    Ok(())
}

fn plan(existing: Option<&Value>, wanted: &Value) -> Action {
    let Some(existing) = existing else { return Action::Create };
    if existing["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return Action::Nothing;
    }
    let is_binding = wanted.get("roleRef").is_some();
    if is_binding && existing["roleRef"] != wanted["roleRef"] {
        return Action::Replace;
    }
    let mut completed = existing.clone();
    for field in ["labels", "annotations"] {
        complete_map(&mut completed["metadata"], field, &wanted["metadata"][field]);
    }
    if is_binding {
        let same =
            |a: &Value, b: &Value| ["kind", "namespace", "name"].iter().all(|f| a[*f].as_str() == b[*f].as_str());
        append_missing(&mut completed, &["subjects"], wanted, same);
    } else {
        complete_rules(&mut completed, wanted);
    }
    if &completed == existing { Action::Nothing } else { Action::Update(completed) }
}

/// What is there already has precedence.
fn complete_map(metadata: &mut Value, field: &str, wanted: &Value) {
    let Some(wanted) = wanted.as_object() else { return };
    let map = &mut metadata[field];
    if map.is_null() {
        *map = Map::new().into();
    }
    let Some(map) = map.as_object_mut() else { return };
    for (key, value) in wanted {
        map.entry(key).or_insert_with(|| value.clone());
    }
}

/// Appends to the list at a path what the one of `wanted` has more.
fn append_missing(object: &mut Value, path: &[&str], wanted: &Value, same: impl Fn(&Value, &Value) -> bool) {
    let list = |object: &Value| {
        let value = path.iter().fold(object, |value, field| &value[*field]);
        value.as_array().cloned().unwrap_or_default()
    };
    let existing = list(object);
    let missing = list(wanted).into_iter().filter(|w| !existing.iter().any(|e| same(e, w)));
    let missing: Vec<Value> = missing.collect();
    if !missing.is_empty() {
        let place = path.iter().fold(object, |value, field| &mut value[*field]);
        *place = existing.into_iter().chain(missing).collect();
    }
}

fn complete_rules(role: &mut Value, wanted: &Value) {
    let rules = |role: &Value| -> Vec<PolicyRule> {
        let rules = role["rules"].as_array().into_iter().flatten();
        rules.filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
    };
    let missing = uncovered(&rules(role), &rules(wanted));
    if !missing.is_empty() {
        let mut all = role["rules"].as_array().cloned().unwrap_or_default();
        all.extend(missing.iter().filter_map(|rule| serde_json::to_value(rule).ok()));
        role["rules"] = all.into();
    }
    if wanted["aggregationRule"].is_null() {
        if let Some(role) = role.as_object_mut() {
            role.remove("aggregationRule");
        }
    } else {
        append_missing(role, &["aggregationRule", "clusterRoleSelectors"], wanted, |a, b| a == b);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn role(rules: Value) -> Value {
        json!({"kind": "ClusterRole", "metadata": {"name": "r", "labels": {"b": "rbac"}}, "rules": rules})
    }

    fn rule(verbs: &[&str]) -> Value {
        json!({"verbs": verbs, "apiGroups": [""], "resources": ["pods"]})
    }

    fn updated(existing: &Value, wanted: &Value) -> Value {
        match plan(Some(existing), wanted) {
            Action::Update(object) => object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_role_lacks_is_added_and_the_rest_is_kept() {
        let wanted = role(json!([rule(&["get", "list"])]));
        assert_eq!(plan(None, &wanted), Action::Create);
        assert_eq!(plan(Some(&wanted), &wanted), Action::Nothing);
        let completed = updated(&role(json!([rule(&["delete", "get"])])), &wanted);
        assert_eq!(completed["rules"], json!([rule(&["delete", "get"]), rule(&["list"])]));
        assert_eq!(plan(Some(&role(json!([rule(&["*"])]))), &wanted), Action::Nothing, "all verbs are enough");
        assert_eq!(updated(&role(Value::Null), &wanted)["rules"], json!([rule(&["get"]), rule(&["list"])]));
        let mut other = wanted.clone();
        other["metadata"]["labels"] = json!({"own": "1", "b": "kept"});
        assert_eq!(plan(Some(&other), &wanted), Action::Nothing, "a label that is there has precedence");
        other["metadata"]["labels"] = json!({"own": "1"});
        assert_eq!(updated(&other, &wanted)["metadata"]["labels"], json!({"own": "1", "b": "rbac"}));
    }

    #[test]
    fn what_an_administrator_keeps_is_left_alone() {
        let wanted = role(json!([rule(&["list"])]));
        let mut kept = role(json!([]));
        kept["metadata"]["annotations"] = json!({AUTOUPDATE: "false"});
        assert_eq!(plan(Some(&kept), &wanted), Action::Nothing);
        kept["roleRef"] = json!({"name": "other"});
        let binding = json!({"kind": "ClusterRoleBinding", "metadata": {"name": "r"}, "roleRef": {"name": "r"}});
        assert_eq!(plan(Some(&kept), &binding), Action::Nothing, "bindings too");
    }

    #[test]
    fn a_role_becomes_one_that_gathers_and_back() {
        let selector = json!({"matchLabels": {"to-view": "true"}});
        let gathering = json!({"kind": "ClusterRole", "metadata": {"name": "view", "labels": {"b": "rbac"}},
            "aggregationRule": {"clusterRoleSelectors": [selector]}});
        let plain = role(json!([rule(&["get"])]));
        let completed = updated(&plain, &gathering);
        assert_eq!(completed["aggregationRule"]["clusterRoleSelectors"], json!([selector]));
        assert_eq!(completed["rules"], plain["rules"], "the controller replaces them");
        assert_eq!(plan(Some(&completed), &gathering), Action::Nothing);
        assert!(updated(&completed, &plain).get("aggregationRule").is_none());
    }

    #[test]
    fn bindings_get_their_subjects_or_are_replaced() {
        let binding = |role: &str, subjects: Value| json!({"kind": "ClusterRoleBinding", "metadata": {"name": "b"}, "roleRef": {"name": role}, "subjects": subjects});
        let (own, other) = (json!({"kind": "User", "name": "u"}), json!({"kind": "Group", "name": "g"}));
        let wanted = binding("r", json!([own]));
        assert_eq!(updated(&binding("r", json!([other])), &wanted)["subjects"], json!([other, own]));
        assert_eq!(plan(Some(&binding("r", json!([other, own]))), &wanted), Action::Nothing);
        assert_eq!(plan(Some(&binding("x", json!([own]))), &wanted), Action::Replace);
    }
}
