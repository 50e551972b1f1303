//! A cache that differs is found and mended.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::json;

use crate::store::tests::storage;
use crate::watch::Next;
use crate::{Difference, Error, Matcher, With};

#[tokio::test]
async fn a_difference_is_named_and_mended_and_watchers_list_again() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(dir.path()).await;
    let pods = storage.resource("pods").unwrap();
    let pod = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"}});
    let x = pods.create("a/x", &pod("x"), With::default()).await.unwrap();
    let y = pods.create("a/y", &pod("y"), With::default()).await.unwrap();
    assert_eq!(storage.check().await.unwrap(), []);

    let mut watcher = pods.watch("", Matcher::default(), pods.revision()).await.unwrap();
    {
        let mut state = pods.cache.state.write();
        let stray = state.objects.remove("a/x").unwrap();
        state.objects.insert(Arc::from("a/z"), stray);
    }
    let found = storage.check().await.unwrap();
    let difference = |key: &str, cached, stored| Difference { key: key.into(), cached, stored };
    assert_eq!(found, [difference("a/x", 0, x.revision), difference("a/z", x.revision, 0)]);
    assert_eq!(storage.check().await.unwrap(), []);
    assert_eq!(pods.get("a/x").unwrap().unwrap().revision, x.revision);
    assert!(pods.get("a/z").unwrap().is_none());
    assert_eq!(pods.get("a/y").unwrap().unwrap().revision, y.revision);
    assert!(matches!(watcher.next().await, Next::Failed(Error::TooOld { .. })));
}
