//! Which schema a request matches, by upstream's rules.
#![allow(clippy::unwrap_used)]

use http::Method;
use serde_json::{Value, json};

use super::*;

fn index(schemas: Value, levels: &[&str]) -> Index {
    let levels: Vec<_> = levels.iter().map(|name| super::super::tests::level(name)).collect();
    Index::new(serde_json::from_value(schemas).unwrap(), &levels)
}

fn schema(name: &str, precedence: i32, subjects: Value, resources: Value, paths: Value) -> Value {
    let rule = json!({"subjects": subjects, "resourceRules": resources, "nonResourceRules": paths});
    let spec = json!({"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": "l"}, "rules": [rule]});
    json!({"metadata": {"name": name, "uid": format!("{name}-uid")}, "spec": spec})
}

fn everything() -> Value {
    let all = json!(["*"]);
    json!([{"verbs": all, "apiGroups": all, "resources": all, "clusterScope": true, "namespaces": all}])
}

fn pages(urls: &[&str]) -> Value {
    json!([{"verbs": ["get"], "nonResourceURLs": urls}])
}

fn of(index: &Index, user: &UserInfo, method: Method, uri: &str) -> Option<String> {
    let info = RequestInfo::parse(&method, &uri.parse().unwrap()).unwrap();
    index.find(user, &info).map(|schema| schema.name.to_string())
}

#[test]
fn the_first_that_matches_has_it_by_precedence_and_name() {
    let group = json!([{"kind": "Group", "group": {"name": "system:authenticated"}}]);
    let user = json!([{"kind": "User", "user": {"name": "u"}}]);
    let index = index(
        json!([
            schema("late", 900, json!([{"kind": "User", "user": {"name": "*"}}]), everything(), json!([])),
            schema("b", 500, user.clone(), everything(), json!([])),
            schema("a", 500, group, everything(), json!([])),
            schema("pages", 1, user, json!([]), pages(&["/x/*", "/y"])),
        ]),
        &["l"],
    );
    let user = UserInfo::new("u", &[]);
    assert_eq!(of(&index, &user, Method::GET, "/api/v1/pods").as_deref(), Some("a"));
    assert_eq!(of(&index, &UserInfo::default(), Method::GET, "/api/v1/pods").as_deref(), Some("late"));
    for (uri, wanted) in [("/x/1", true), ("/y", true), ("/y/1", true), ("/x", false), ("/yy", false), ("/", false)] {
        assert_eq!(of(&index, &user, Method::GET, uri).is_some(), wanted, "{uri}");
    }
    assert_eq!(of(&index, &user, Method::POST, "/y"), None);
}

#[test]
fn rules_are_about_scopes_subresources_and_accounts() {
    let all = json!(["*"]);
    let accounts = |name: &str| json!([{"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": name}}]);
    let status = json!([{"verbs": all, "apiGroups": ["", "x"], "resources": ["nodes/status", "pods"], "namespaces": all, "clusterScope": false}]);
    let cluster = json!([{"verbs": ["get", "*"], "apiGroups": all, "resources": all, "clusterScope": true}]);
    let index = index(
        json!([
            schema("namespaced", 1, accounts("*"), status, json!([])),
            schema("cluster", 2, accounts("one"), cluster, json!([])),
        ]),
        &["l"],
    );
    let one = UserInfo::new("system:serviceaccount:n:one", &[]);
    let two = UserInfo::new("system:serviceaccount:n:two", &[]);
    let name = |user, method, uri| of(&index, user, method, uri);
    assert_eq!(name(&two, Method::DELETE, "/api/v1/namespaces/a/pods/p").as_deref(), Some("namespaced"));
    assert_eq!(name(&two, Method::GET, "/api/v1/namespaces/a/pods/p/status"), None);
    assert_eq!(name(&two, Method::GET, "/api/v1/pods"), None, "no namespace at all is the whole cluster");
    assert_eq!(name(&one, Method::GET, "/api/v1/nodes/n").as_deref(), Some("cluster"));
    assert_eq!(name(&one, Method::GET, "/api/v1/nodes"), None, "a star beside others is a name");
    assert_eq!(name(&one, Method::PUT, "/api/v1/nodes/n/status"), None);
    assert_eq!(
        name(&UserInfo::new("system:serviceaccount:nn:two", &[]), Method::GET, "/api/v1/namespaces/a/pods"),
        None
    );
}

#[test]
fn a_schema_without_its_level_is_none_and_the_last_one_has_the_rest() {
    let nobody = json!([{"kind": "Group", "group": {"name": "g"}}]);
    let schemas = json!([schema("catch-all", 10_000, nobody, everything(), json!([]))]);
    let user = UserInfo::new("u", &[]);
    assert_eq!(of(&index(schemas.clone(), &["l"]), &user, Method::GET, "/x").as_deref(), Some("catch-all"));
    assert_eq!(of(&index(schemas, &["other"]), &user, Method::GET, "/x"), None);
}

/// Such a schema was accepted, called well by its condition, and was nothing for requests.
#[test]
fn lists_that_are_null_are_empty() {
    let all = json!(["*"]);
    let user = json!([{"kind": "User", "user": {"name": "u"}}]);
    let rule = json!([{"verbs": all, "apiGroups": all, "resources": all, "clusterScope": true, "namespaces": null}]);
    let index = index(json!([schema("nulls", 1, user, rule, json!(null))]), &["l"]);
    let user = UserInfo::new("u", &[]);
    assert_eq!(of(&index, &user, Method::GET, "/api/v1/nodes").as_deref(), Some("nulls"));
}
