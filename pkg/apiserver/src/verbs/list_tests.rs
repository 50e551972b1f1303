//! Versions of lists: which state a client is shown.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use http::Method;
use kedge_registry::{ClusterConfig, Registry};
use kedge_storage::{Storage, With};

use super::*;

pub(in crate::verbs) async fn config_maps(names: &[&str]) -> (Served, Vec<u64>) {
    config_maps_on(Arc::new(kedge_kv::Embedded::memory(kedge_base::system_clock()).unwrap()), names).await
}

pub(in crate::verbs) async fn config_maps_on(kv: Arc<kedge_kv::Embedded>, names: &[&str]) -> (Served, Vec<u64>) {
    let clock = kedge_base::system_clock();
    let configs = Registry::storage_configs();
    let storage = Storage::open(kv, &configs, Arc::default(), clock.clone()).await.unwrap();
    let config = ClusterConfig { service_cidr: "10.43.0.0/24".into(), node_ports: (30_000, 30_100) };
    let registry = Registry::new(Arc::new(storage), clock, config);
    let served = registry.get("", "v1", "configmaps").unwrap().clone();
    let mut versions = Vec::new();
    for name in names {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}});
        let made = served.store.create(&format!("a/{name}"), &object, With::default()).await.unwrap();
        versions.push(made.revision);
    }
    (served, versions)
}

async fn listed(served: &Served, query: &str, limit: usize) -> Result<Vec<String>, Status> {
    let uri = format!("/api/v1/namespaces/a/configmaps?{query}").parse().unwrap();
    let info = RequestInfo::parse(&Method::GET, &uri).unwrap();
    let listing = select(&info, served, "a/", &Matcher::default(), limit).await?;
    Ok(listing.objects.iter().map(|(key, _)| key.trim_start_matches("a/").to_owned()).collect())
}

#[tokio::test]
async fn a_version_that_has_not_come_is_waited_for_and_never_ignored() {
    let (served, versions) = config_maps(&["x"]).await;
    assert_eq!(not_older_than(&served, "").await.unwrap(), 0);
    assert_eq!(not_older_than(&served, "0").await.unwrap(), 0);
    assert_eq!(not_older_than(&served, &versions[0].to_string()).await.unwrap(), versions[0]);
    let future = not_older_than(&served, "999999").await.unwrap_err();
    assert_eq!(future.code, 504);
    assert!(future.message.contains("Too large resource version"), "{}", future.message);
    assert_eq!(not_older_than(&served, "x").await.unwrap_err().code, 400);
}

#[tokio::test]
async fn a_page_at_a_version_is_of_exactly_that_version() {
    let (served, versions) = config_maps(&["x", "y"]).await;
    let first = format!("resourceVersion={}", versions[0]);
    assert_eq!(listed(&served, &first, 0).await.unwrap(), ["x", "y"]);
    assert_eq!(listed(&served, &first, 5).await.unwrap(), ["x"]);
    assert_eq!(listed(&served, &format!("{first}&resourceVersionMatch=Exact"), 0).await.unwrap(), ["x"]);
    assert_eq!(listed(&served, &format!("{first}&resourceVersionMatch=NotOlderThan"), 5).await.unwrap(), ["x", "y"]);
    assert_eq!(listed(&served, "resourceVersion=0", 5).await.unwrap(), ["x", "y"]);
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let (served, versions) = config_maps(&["x"]).await;
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "resourceVersionMatch=x&resourceVersion=1",
    ] {
        assert_eq!(listed(&served, query, 0).await.unwrap_err().code, 422, "{query}");
    }
    let token = |rv: u64| {
        let token = Token { v: TOKEN_VERSION.into(), rv, start: "x".into() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap())
    };
    let version = versions[0];
    assert_eq!(listed(&served, &format!("continue={}", token(version)), 5).await.unwrap(), ["x"]);
    let both = format!("continue={}&resourceVersion={version}", token(version));
    assert_eq!(listed(&served, &both, 5).await.unwrap_err().code, 400);
    assert_eq!(listed(&served, &format!("continue={}", token(0)), 5).await.unwrap_err().code, 400);
    assert_eq!(listed(&served, &format!("continue={}", token(999_999)), 5).await.unwrap_err().code, 504);
}

/// Upstream's servers on the same store go on where a page of ours ended, and the other way round.
#[tokio::test]
async fn continue_tokens_begin_below_what_is_listed() {
    let (served, versions) = config_maps(&["x", "y", "z"]).await;
    let page = served.store.list("a/", &Matcher::default(), 1);
    let meta = list_meta(&page, "a/", 1, &Matcher::default());
    let token: Token = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&meta.continue_).unwrap()).unwrap();
    assert_eq!((token.v.as_str(), token.rv, token.start.as_str()), ("meta.k8s.io/v1", versions[2], "x\0"));
    assert_eq!(listed(&served, &format!("continue={}", meta.continue_), 0).await.unwrap(), ["y", "z"]);
    let from = |start: &str| {
        let token = Token { v: TOKEN_VERSION.into(), rv: versions[2], start: start.into() };
        format!("continue={}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap()))
    };
    assert_eq!(listed(&served, &from("/y\0"), 0).await.unwrap(), ["z"]);
    for hostile in ["", "/", "..", "../b/x", "/../b", "x/../../b", "./x", "x//y", "x/"] {
        assert_eq!(listed(&served, &from(hostile), 0).await.unwrap_err().code, 400, "{hostile:?}");
    }
    // All namespaces: the namespace is a part of what is below.
    let all = list_meta(&served.store.list("", &Matcher::default(), 1), "", 1, &Matcher::default());
    let token: Token = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&all.continue_).unwrap()).unwrap();
    assert_eq!(token.start, "a/x\0");
}
