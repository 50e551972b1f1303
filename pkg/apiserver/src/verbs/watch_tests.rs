//! What a watch begins with.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::listing::tests::config_maps;
use http::{HeaderMap, Method};

#[tokio::test]
async fn the_state_comes_first_and_is_encoded_as_it_is_taken() {
    let (served, versions) = config_maps(&["x", "y"]).await;
    let uri = "/api/v1/configmaps?watch=true".parse().unwrap();
    let info = RequestInfo::parse(&Method::GET, &uri).unwrap();
    let clock = kedge_base::system_clock();
    let form = Form {
        served: served.clone(),
        accepted: negotiate::accepted(&HeaderMap::new(), Offer::stream(&served.info)).unwrap(),
        has_columns: false,
        options: table::Options::from_query(&info).unwrap(),
        clock: clock.clone(),
    };
    let (state, watcher) = served.store.watch_with_state("", Matcher::default()).unwrap();
    let mut body = WatchBody {
        ready: VecDeque::new(),
        state: state.into_iter(),
        initial_end: Some(watcher.seen()),
        form,
        shown: fields::Selector::default(),
        bookmarks: true,
        end: clock.sleep(Duration::from_secs(3_600)),
        step: None,
        watcher: Some(watcher),
        shutdown: Shutdown::new(),
    };
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "z", "namespace": "a"}});
    served.store.create("a/z", &object, kedge_storage::With::default()).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        assert!(body.ready.is_empty());
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let event: Value = serde_json::from_slice(&frame).unwrap();
        let (name, kind) = (&event["object"]["metadata"]["name"], &event["type"]);
        seen.push(format!("{} {}", kind.as_str().unwrap(), name.as_str().unwrap_or("-")));
        if kind == "BOOKMARK" {
            assert_eq!(event["object"]["metadata"]["resourceVersion"], versions[1].to_string());
        }
    }
    assert_eq!(seen, ["ADDED x", "ADDED y", "BOOKMARK -", "ADDED z"]);
}

#[tokio::test]
async fn a_watch_begins_with_the_state_or_now_as_it_is_asked_to() {
    let (served, versions) = config_maps(&["x", "y"]).await;
    let begun = async |query: &str| {
        let uri = format!("/api/v1/configmaps?watch=true&{query}").parse().unwrap();
        let info = RequestInfo::parse(&Method::GET, &uri).unwrap();
        let (state, watcher) = begin(&info, &served, Matcher::default()).await.map_err(|status| status.message)?;
        Ok::<_, String>((state.map(|state| state.len()), watcher.seen()))
    };
    let (first, newest) = (versions[0], versions[1]);
    let rule = "resourceVersionMatch=NotOlderThan";
    for (query, wanted) in [
        (String::new(), (Some(2), newest)),
        ("resourceVersion=0".into(), (Some(2), newest)),
        (format!("resourceVersion={first}"), (None, first)),
        (format!("sendInitialEvents=true&{rule}"), (Some(2), newest)),
        (format!("sendInitialEvents=true&{rule}&resourceVersion={first}"), (Some(2), newest)),
        // Not the state: from now on.
        (format!("sendInitialEvents=false&{rule}"), (None, newest)),
        (format!("sendInitialEvents=false&{rule}&resourceVersion=0"), (None, newest)),
        (format!("sendInitialEvents=false&{rule}&resourceVersion={first}"), (None, first)),
    ] {
        assert_eq!(begun(&query).await, Ok(wanted), "{query}");
    }
    for (query, wrong) in [
        ("sendInitialEvents=false", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        (rule, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"),
        ("sendInitialEvents=true&resourceVersionMatch=Exact", "supported values: \"NotOlderThan\""),
        (&format!("sendInitialEvents=true&{rule}&continue=x"), "forbidden when continue is provided"),
    ] {
        let refused = begun(query).await.unwrap_err();
        assert!(refused.contains(wrong), "{query}: {refused}");
    }
}
