//! Who may become whom.
#![allow(clippy::unwrap_used)]

use super::*;
use futures::FutureExt as _;
use kedge_auth::Deciding;

/// Allows what is in a list of `verb resource name`, where `resource` names the group and subresource as RBAC does.
struct Rules(&'static [&'static str]);

impl Authorizer for Rules {
    fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
        let sub = if request.subresource.is_empty() { String::new() } else { format!("/{}", request.subresource) };
        let group = if request.group.is_empty() { String::new() } else { format!(".{}", request.group) };
        let place = if request.namespace.is_empty() { String::new() } else { format!("{}/", request.namespace) };
        let asked = format!("{} {}{sub}{group} {place}{}", request.verb, request.resource, request.name);
        let all = self.0.contains(&"*");
        let allowed = all || self.0.contains(&asked.as_str());
        (if allowed { Decision::Allow(String::new()) } else { Decision::NoOpinion(asked) }).into()
    }
}

fn taken(rules: &'static [&'static str], headers: &[(&'static str, &str)]) -> Result<UserInfo, Status> {
    taken_as(UserInfo::new("me", &[]), rules, headers)
}

fn taken_as(
    user: UserInfo,
    rules: &'static [&'static str],
    headers: &[(&'static str, &str)],
) -> Result<UserInfo, Status> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let info = RequestInfo::parse(&http::Method::GET, &"/api/v1/namespaces/a/pods".parse().unwrap()).unwrap();
    impersonate(&Rules(rules), &map, &info, user).now_or_never().unwrap().map(|acting| acting.user)
}

fn groups(user: Result<UserInfo, Status>) -> Vec<String> {
    user.unwrap().groups
}

/// Whoever becomes nobody is not authenticated; once it could do what every authenticated user may.
#[test]
fn the_groups_that_come_with_an_identity() {
    assert_eq!(groups(taken(&["*"], &[])), [AUTHENTICATED], "nobody else is asked for");
    assert_eq!(groups(taken(&["*"], &[(USER, ANONYMOUS)])), [UNAUTHENTICATED]);
    let anonymous = [(USER, ANONYMOUS), (GROUP, "g"), (GROUP, UNAUTHENTICATED)];
    assert_eq!(groups(taken(&["*"], &anonymous)), ["g", UNAUTHENTICATED]);
    assert_eq!(groups(taken(&["*"], &[(USER, "x"), (GROUP, "g")])), ["g", AUTHENTICATED]);
    assert_eq!(groups(taken(&["*"], &[(USER, "x"), (GROUP, AUTHENTICATED)])), [AUTHENTICATED]);
    assert_eq!(groups(taken(&["*"], &[(USER, "x"), (GROUP, UNAUTHENTICATED)])), [UNAUTHENTICATED]);
    let account = "system:serviceaccount:a:b";
    let own = ["system:serviceaccounts", "system:serviceaccounts:a", AUTHENTICATED];
    assert_eq!(groups(taken(&["*"], &[(USER, account)])), own);
    assert_eq!(groups(taken(&["*"], &[(USER, account), (GROUP, "g")])), ["g", AUTHENTICATED]);
    assert_eq!(groups(taken(&["*"], &[(USER, "system:node:n")])), [NODES, AUTHENTICATED]);
}

#[test]
fn each_part_of_an_identity_is_asked_about() {
    let headers = [
        (USER, "x"),
        (UID, "u"),
        (GROUP, "g"),
        ("impersonate-extra-acme.io%2fscope", "one"),
        ("impersonate-extra-acme.io%2fscope", "two"),
    ];
    let rules: &[&str] = &[
        "impersonate users x",
        "impersonate uids.authentication.k8s.io u",
        "impersonate groups g",
        "impersonate userextras/acme.io/scope.authentication.k8s.io one",
        "impersonate userextras/acme.io/scope.authentication.k8s.io two",
    ];
    let user = taken(rules, &headers).unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("x", "u"));
    assert_eq!(user.extra["acme.io/scope"], ["one", "two"]);
    assert_eq!(groups(Ok(user)), ["g", AUTHENTICATED]);
    for missing in 0..rules.len() {
        let mut fewer = rules.to_vec();
        fewer.remove(missing);
        let refused = taken(Box::leak(fewer.into_boxed_slice()), &headers).unwrap_err();
        assert_eq!(refused.code, 403, "without {}", rules[missing]);
    }
}

#[test]
fn constrained_impersonation_is_by_request_and_by_kind_of_user() {
    let user: &[&str] =
        &["impersonate-on:user-info:list pods a/", "impersonate:user-info users.authentication.k8s.io x"];
    assert_eq!(taken(user, &[(USER, "x")]).unwrap().name, "x");
    let refused = taken(user, &[(USER, "y")]).unwrap_err();
    let wanted = "users.authentication.k8s.io \"y\" is forbidden: User \"me\" cannot impersonate:user-info resource \"users\" in API group \"authentication.k8s.io\" at the cluster scope";
    assert!(refused.message.starts_with(wanted), "{}", refused.message);
    let refused =
        taken(&["impersonate-on:user-info:list pods a/"], &[(USER, "system:serviceaccount:a:b")]).unwrap_err();
    let wanted = "pods is forbidden: User \"me\" cannot impersonate-on:serviceaccount:list resource \"pods\" in API group \"\" in the namespace \"a\"";
    assert!(refused.message.starts_with(wanted), "{}", refused.message);
    let masters: &[&str] = &[
        "impersonate-on:user-info:list pods a/",
        "impersonate:user-info users.authentication.k8s.io x",
        "impersonate:user-info groups.authentication.k8s.io system:masters",
    ];
    let refused = taken(masters, &[(USER, "x"), (GROUP, MASTERS)]).unwrap_err();
    assert!(refused.message.ends_with("impersonating the system:masters group is not allowed"), "{}", refused.message);
}

#[test]
fn a_service_account_may_be_allowed_to_be_its_own_node() {
    let rules: &[&str] =
        &["impersonate-on:associated-node:list pods a/", "impersonate:associated-node nodes.authentication.k8s.io *"];
    let mut account = UserInfo::new("system:serviceaccount:a:agent", &[]);
    account.extra.insert(NODE_NAME.into(), vec!["n1".into()]);
    assert_eq!(groups(taken_as(account.clone(), rules, &[(USER, "system:node:n1")])), [NODES, AUTHENTICATED]);
    assert_eq!(taken_as(account, rules, &[(USER, "system:node:n2")]).unwrap_err().code, 403);
}

#[test]
fn an_identity_without_a_user_is_none() {
    for header in [GROUP, UID, "impersonate-extra-a"] {
        let refused = taken(&["*"], &[(header, "g")]).unwrap_err();
        assert_eq!(refused.code, 400);
        assert!(refused.message.ends_with("without impersonating a user name"), "{}", refused.message);
    }
    let refused = taken(&["*"], &[(GROUP, "g")]).unwrap_err();
    let text = r#"&user.DefaultInfo{Name:"", UID:"", Groups:[]string{"g"}, Extra:map[string][]string(nil)}"#;
    assert_eq!(refused.message, format!("requested {text} without impersonating a user name"));
}
