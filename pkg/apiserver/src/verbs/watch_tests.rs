//! What a watch begins with.
#![allow(clippy::unwrap_used)]

use http::{HeaderMap, Method};
use kedge_storage::Matcher;

use super::*;
use crate::request_info::RequestInfo;
use crate::verbs::list::tests::config_maps;

#[tokio::test]
async fn the_state_comes_first_and_is_encoded_as_it_is_taken() {
    let (served, versions) = config_maps(&["x", "y"]).await;
    let uri = "/api/v1/configmaps?watch=true".parse().unwrap();
    let info = RequestInfo::parse(&Method::GET, &uri).unwrap();
    let clock = kedge_base::system_clock();
    let form = Form {
        served: served.clone(),
        accepted: negotiate::accepted(&HeaderMap::new()).unwrap(),
        options: table::Options::from_query(&info).unwrap(),
        clock: clock.clone(),
    };
    let (state, watcher) = served.store.watch_with_state("", Matcher::default()).unwrap();
    let mut body = WatchBody {
        ready: VecDeque::new(),
        state: state.into_iter(),
        initial_end: Some(form.bookmark(watcher.seen(), true)),
        form,
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
