//! Authorizers of a configuration, and of the one that takes its place.
#![allow(clippy::unwrap_used)]

use std::path::Path as FilePath;

use async_trait::async_trait;
use bytes::Bytes;
use kedge_base::system_clock;
use kedge_webhook::CallError;

use super::*;
use crate::MASTERS;
use crate::authorization::ConnectionInfo;
use crate::webhook::Reviewer;

/// Says of everything that it is refused, once it was let.
struct Refuses;

#[async_trait]
impl Reviewer for Refuses {
    async fn review(&self, _: Bytes, _: std::time::Duration) -> Result<Bytes, CallError> {
        tokio::task::yield_now().await;
        Ok(Bytes::from_static(br#"{"status": {"denied": true, "reason": "refused"}}"#))
    }
}

struct ByName;

impl Connect for ByName {
    fn connect(&self, kubeconfig: &FilePath) -> Result<Arc<dyn Reviewer>, String> {
        if kubeconfig == FilePath::new("/bad") { Err("it is bad".into()) } else { Ok(Arc::new(Refuses)) }
    }
}

fn config(modes: &[&str], kubeconfig: &str) -> AuthorizationConfiguration {
    let webhook = WebhookConfiguration {
        subject_access_review_version: "v1".into(),
        connection_info: ConnectionInfo::kubeconfig(FilePath::new(kubeconfig)),
        ..WebhookConfiguration::default()
    };
    let modes: Vec<String> = modes.iter().map(|mode| (*mode).to_owned()).collect();
    AuthorizationConfiguration::of_modes(&modes, &webhook)
}

fn authorizers(modes: &[&str]) -> Result<Authorizers, String> {
    let ground = Ground {
        nodes: None,
        rbac: None,
        connect: Arc::new(ByName),
        clock: system_clock(),
        reloads: Arc::new(Reloads::new("authorization", "id")),
    };
    Authorizers::new(ground, &config(modes, "/w"))
}

#[tokio::test]
async fn another_configuration_takes_the_place_of_the_first_unless_it_cannot_be_used() {
    let all = authorizers(&["AlwaysAllow"]).unwrap();
    let jane = UserInfo::new("jane", &[]);
    let request = Request { user: Some(&jane), verb: "get", path: "/x", ..Request::default() };
    let allowed = Decision::Allow(String::new());
    assert_eq!(all.authorize(&request).now(), Some(allowed.clone()));
    let why = all.replace(&config(&["Webhook"], "/bad")).unwrap_err();
    assert_eq!((why.as_str(), all.authorize(&request).now()), ("it is bad", Some(allowed.clone())), "the first stays");
    let why = all.replace(&config(&["RBAC"], "/w")).unwrap_err();
    assert_eq!(why, "authorizer type RBAC is not allowed if it was not enabled at initial server startup");
    all.replace(&config(&["Webhook", "AlwaysAllow"], "/w")).unwrap();
    let deciding = all.authorize(&request);
    // Who is being decided about is not decided about by others.
    all.replace(&config(&["AlwaysDeny"], "/w")).unwrap();
    assert_eq!(deciding.await, Decision::Deny("refused".into()));
    assert_eq!(all.authorize(&request).now(), Some(Decision::NoOpinion("Everything is forbidden.".into())));
    let masters = UserInfo::new("admin", &[MASTERS]);
    let request = Request { user: Some(&masters), ..request };
    assert_eq!(all.authorize(&request).now(), Some(allowed));
    let mut out = Exposition::default();
    all.show(&mut out);
    let metrics = out.into_text();
    for line in [
        "{decision=\"denied\",name=\"default\",type=\"Webhook\"} 1",
        "{decision=\"allowed\",name=\"alwaysallow\",type=\"AlwaysAllow\"} 2",
    ] {
        assert!(metrics.contains(&format!("apiserver_authorization_decisions_total{line}")), "{line}: {metrics}");
    }
}

#[test]
fn rules_are_those_of_all_of_them() {
    let jane = UserInfo::new("jane", &[]);
    let all = authorizers(&["Webhook", "AlwaysAllow"]).unwrap().rules_of(&jane, "default");
    assert!(all.incomplete && all.rules.len() == 2);
    assert_eq!(all.errors, ["webhook authorizer does not support user rule resolution"]);
    assert!(authorizers(&["ABAC"]).err().unwrap().contains("unknown authorization mode ABAC"));
}
