//! Rules and requests.
#![allow(clippy::unwrap_used)]

use kedge_meta::UserInfo;
use serde_json::json;

use super::*;

/// A request, told as `CREATE apps/v1/deployments/scale in a`.
fn matches(rule: &Value, request: &str) -> bool {
    let (what, namespace) = request.split_once(" in ").unwrap_or((request, ""));
    let (operation, path) = what.split_once(' ').unwrap();
    let parts: Vec<&str> = path.split('/').collect();
    let (group, version, plural, sub) = match parts[..] {
        ["v1", plural] => ("", "v1", plural, ""),
        ["v1", plural, sub] => ("", "v1", plural, sub),
        [group, version, plural] => (group, version, plural, ""),
        [group, version, plural, sub] => (group, version, plural, sub),
        _ => panic!("{request}"),
    };
    let resource = kedge_schema::resource(group, version, plural).unwrap();
    let user = UserInfo::new("u", &[]);
    let all = [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect];
    let operation = all.into_iter().find(|one| one.as_str() == operation).unwrap();
    let mut attributes = Attributes::new(operation, resource, &user);
    (attributes.subresource, attributes.namespace) = (sub, namespace);
    Rule::read(rule).matches(&attributes, resource)
}

fn rule(operations: &[&str], groups: &[&str], versions: &[&str], resources: &[&str], scope: &str) -> Value {
    json!({"operations": operations, "apiGroups": groups, "apiVersions": versions, "resources": resources, "scope": scope})
}

#[test]
fn operations_groups_and_versions_are_named_or_all() {
    let pods = rule(&["CREATE", "DELETE"], &[""], &["v1"], &["pods"], "*");
    assert!(matches(&pods, "CREATE v1/pods in a"));
    assert!(matches(&pods, "DELETE v1/pods in a"));
    assert!(!matches(&pods, "UPDATE v1/pods in a"));
    assert!(!matches(&pods, "CREATE v1/services in a"));
    let all = rule(&["*"], &["*"], &["*"], &["*"], "");
    assert!(matches(&all, "CONNECT v1/pods in a"));
    assert!(matches(&all, "UPDATE apps/v1/deployments in a"));
    assert!(!matches(&rule(&["*"], &["apps"], &["v1"], &["*"], "*"), "CREATE v1/pods in a"));
    assert!(!matches(&rule(&["*"], &["*"], &["v2"], &["*"], "*"), "CREATE v1/pods in a"));
    assert!(matches(&rule(&["*"], &["*"], &["v2", "v1"], &["*"], "*"), "CREATE v1/pods in a"));
}

#[test]
fn subresources_are_named_apart() {
    let with = |resources: &[&str]| rule(&["*"], &["*"], &["*"], resources, "*");
    let (pod, status) = ("UPDATE v1/pods in a", "UPDATE v1/pods/status in a");
    for (resources, wanted) in [
        (&["pods"][..], (true, false)),
        (&["*"], (true, false)),
        (&["pods/status"], (false, true)),
        (&["pods/*"], (true, true)),
        (&["*/*"], (true, true)),
        (&["*/status"], (false, true)),
        (&["*/exec"], (false, false)),
        (&["services/*", "pods"], (true, false)),
    ] {
        let rule = with(resources);
        assert_eq!((matches(&rule, pod), matches(&rule, status)), wanted, "{resources:?}");
    }
}

#[test]
fn a_namespace_is_in_none() {
    let with = |scope| rule(&["*"], &["*"], &["*"], &["*/*"], scope);
    for (request, namespaced) in [
        ("CREATE v1/pods in a", true),
        ("CREATE v1/nodes", false),
        ("CREATE v1/namespaces in a", false),
        ("UPDATE v1/namespaces/status in a", false),
    ] {
        assert_eq!(matches(&with("Namespaced"), request), namespaced, "{request}");
        assert_eq!(matches(&with("Cluster"), request), !namespaced, "{request}");
        assert!(matches(&with("*"), request));
        assert!(!matches(&with("Bogus"), request));
    }
}

#[test]
fn names_may_be_told() {
    let named = json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "resourceNames": ["a", "b"]});
    let resource = kedge_schema::resource("", "v1", "pods").unwrap();
    let user = UserInfo::new("u", &[]);
    for (name, wanted) in [("a", true), ("c", false), ("", false)] {
        let mut attributes = Attributes::new(Operation::Update, resource, &user);
        (attributes.namespace, attributes.name) = ("n", name);
        assert_eq!(Rule::read(&named).matches(&attributes, resource), wanted, "{name}");
    }
}
