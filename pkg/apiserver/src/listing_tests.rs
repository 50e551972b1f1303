//! Versions of lists: which state a client is shown.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use http::Method;
use kedge_kv::Kv as _;
use kedge_registry::{ClusterConfig, Registry};
use kedge_storage::{Storage, With};

use super::*;
use serde_json::{Value, json};

pub(crate) async fn config_maps(names: &[&str]) -> (Arc<Served>, Vec<u64>) {
    let (served, _, versions) = config_maps_on(names).await;
    (served, versions)
}

async fn config_maps_on(names: &[&str]) -> (Arc<Served>, Arc<kedge_kv::Embedded>, Vec<u64>) {
    let clock = kedge_base::system_clock();
    let kv = Arc::new(kedge_kv::Embedded::memory(clock.clone()).unwrap());
    let configs = Registry::storage_configs();
    let storage = Storage::open(kv.clone(), &configs, Arc::default(), clock.clone()).await.unwrap();
    let config = ClusterConfig {
        service_cidrs: vec!["10.43.0.0/24".parse().unwrap()],
        node_ports: (30_000, 30_100),
        shared: false,
    };
    let registry = Registry::new(Arc::new(storage), clock, config);
    let served = registry.builtin("", "v1", "configmaps").unwrap().clone();
    let mut versions = Vec::new();
    for name in names {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}});
        let made = served.store.create(&format!("a/{name}"), &object, With::default()).await.unwrap();
        versions.push(made.revision);
    }
    (served, kv, versions)
}

fn info(query: &str) -> RequestInfo {
    let uri = format!("/api/v1/namespaces/a/configmaps?{query}").parse().unwrap();
    RequestInfo::parse(&Method::GET, &uri).unwrap()
}

async fn listed(served: &Served, query: &str, limit: usize) -> Result<Vec<String>, Status> {
    let listing = select(&info(query), served, "a/", &Selection::default(), limit).await?;
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
    // As upstream, which takes it for a fault of its own.
    let wrong = not_older_than(&served, "x").await.unwrap_err();
    assert_eq!((wrong.code, wrong.message.ends_with("parsing \"x\": invalid syntax")), (500, true), "{wrong:?}");
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
    let token = |rv: i64| Token::new(rv, "x").encode();
    let version = i64::try_from(versions[0]).unwrap();
    assert_eq!(listed(&served, &format!("continue={}", token(version)), 5).await.unwrap(), ["x"]);
    // Below 0 is the newest version; it comes from an answer that a list has expired.
    assert_eq!(listed(&served, &format!("continue={}", token(-1)), 5).await.unwrap(), ["x"]);
    assert_eq!(listed(&served, "sendInitialEvents=true", 0).await.unwrap_err().code, 422);
    let both = format!("continue={}&resourceVersion={version}", token(version));
    assert_eq!(listed(&served, &both, 5).await.unwrap_err().code, 400);
    assert_eq!(listed(&served, &format!("continue={}", token(0)), 5).await.unwrap_err().code, 400);
    assert_eq!(listed(&served, &format!("continue={}", token(999_999)), 5).await.unwrap_err().code, 504);
}

#[tokio::test]
async fn a_list_that_has_expired_is_gone_on_with_at_the_newest_version() {
    let (served, kv, versions) = config_maps_on(&["v", "x", "z"]).await;
    let first = format!("resourceVersion={}&resourceVersionMatch=Exact", versions[2]);
    let listing = select(&info(&first), &served, "a/", &Selection::default(), 1).await.unwrap();
    let meta = list_meta(&listing, "a/", 1, &Selection::default());
    let next = format!("continue={}", meta.continue_);
    assert_eq!(listed(&served, &next, 1).await.unwrap(), ["x"]);
    // What is written before the list goes on, and may be shown or not.
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "y", "namespace": "a"}});
    let newest = served.store.create("a/y", &object, With::default()).await.unwrap().revision;
    kv.compact(newest).await.unwrap();
    let expired = listed(&served, &next, 1).await.unwrap_err();
    assert_eq!((expired.code, expired.reason), (410, kedge_meta::Reason::Expired));
    assert!(expired.message.contains("use the continue token in this response"), "{}", expired.message);
    // From the next key on, and by further pages of one version.
    let (mut seen, mut token) = (Vec::new(), expired.metadata.continue_.clone());
    while !token.is_empty() {
        let info = info(&format!("continue={token}"));
        let listing = select(&info, &served, "a/", &Selection::default(), 1).await.unwrap();
        assert_eq!(listing.revision, newest);
        seen.extend(listing.objects.iter().map(|(key, _)| key.to_string()));
        token = list_meta(&listing, "a/", 1, &Selection::default()).continue_;
    }
    assert_eq!(seen, ["a/x", "a/y", "a/z"]);
    let shown = serde_json::to_value(&expired).unwrap();
    assert_eq!(shown["metadata"], json!({"continue": expired.metadata.continue_}));
}

#[tokio::test]
async fn a_token_that_is_none_is_refused_with_what_is_wrong() {
    let (served, _) = config_maps(&["x"]).await;
    let of = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for (token, wrong) in [
        ("%%".to_owned(), "continue key is not valid"),
        (of(json!({"v": "meta.k8s.io/v2", "rv": 1, "start": "x"})), "does not recognize this encoded version"),
        (of(json!({"v": TOKEN_VERSION, "start": "x"})), "incorrect encoded start resourceVersion"),
        (of(json!({"v": TOKEN_VERSION, "rv": 1})), "encoded start key empty"),
        (of(json!({"v": TOKEN_VERSION, "rv": 1, "start": "../b/x"})), "continue key is not valid: ../b/x"),
    ] {
        let refused = listed(&served, &format!("continue={token}"), 5).await.unwrap_err();
        assert_eq!(refused.code, 400);
        let all = refused.message.starts_with("invalid continue token: ") && refused.message.contains(wrong);
        assert!(all, "{}", refused.message);
    }
}

/// Upstream's servers on the same store go on where a page of ours ended, and the other way round.
#[tokio::test]
async fn continue_tokens_begin_below_what_is_listed() {
    let (served, versions) = config_maps(&["x", "y", "z"]).await;
    let page = served.store.list("a/", &Matcher::default(), 1).unwrap();
    let meta = list_meta(&page, "a/", 1, &Selection::default());
    let version = i64::try_from(versions[2]).unwrap();
    let token = Token::decode(&meta.continue_).unwrap();
    assert_eq!((token.v.as_str(), token.rv, token.start.as_str()), ("meta.k8s.io/v1", version, "x\0"));
    assert_eq!(listed(&served, &format!("continue={}", meta.continue_), 0).await.unwrap(), ["y", "z"]);
    let from = |start: &str| format!("continue={}", Token::new(version, start).encode());
    assert_eq!(listed(&served, &from("/y\0"), 0).await.unwrap(), ["z"]);
    for hostile in ["", "/", "..", "../b/x", "/../b", "x/../../b", "./x", "x//y", "x/"] {
        assert_eq!(listed(&served, &from(hostile), 0).await.unwrap_err().code, 400, "{hostile:?}");
    }
    // All namespaces: the namespace is a part of what is below.
    let all = list_meta(&served.store.list("", &Matcher::default(), 1).unwrap(), "", 1, &Selection::default());
    let token = Token::decode(&all.continue_).unwrap();
    assert_eq!(token.start, "a/x\0");
}
