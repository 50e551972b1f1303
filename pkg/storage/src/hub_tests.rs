//! What happens before the caches are filled, and while a key is not known yet.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::codec::Codec;
use crate::encryption::Encryption;
use crate::store::ResourceConfig;
use crate::watch::{EventKind, Watcher};
use crate::{Matcher, Object};

const PREFIX: &str = "/registry/secrets/";
const KEY: &str = "/registry/secrets/a/b";

fn hub() -> Arc<Hub> {
    let config = ResourceConfig::new("secrets", "secrets");
    let budget = Arc::new(crate::recent::Budget::new(kedge_base::system_clock()));
    let caches = BTreeMap::from([(Box::from(PREFIX), Arc::new(Cache::new(PREFIX, &config, budget)))]);
    Arc::new(Hub::new(caches, Codec::default(), kedge_base::system_clock()))
}

fn secret(data: &str) -> Bytes {
    let value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}, "data": data});
    Object::encode(None, &value).unwrap()
}

fn stored(value: Bytes, revision: u64) -> KeyValue {
    let key = Bytes::from(KEY);
    KeyValue { key, value, create_revision: 1, mod_revision: revision, version: 1, lease: 0 }
}

fn event(value: Bytes, revision: u64) -> Event {
    Event { key: Bytes::from(KEY), current: Some(stored(value, revision)), previous: None, revision }
}

fn snapshot(revision: u64, kvs: Vec<KeyValue>) -> Snapshot {
    Snapshot { revision, kvs }
}

fn revision_of(hub: &Hub) -> Option<u64> {
    hub.caches()[PREFIX].get("a/b").unwrap().map(|object| object.revision)
}

#[test]
fn a_newer_state_is_not_replaced_by_the_one_that_was_read_at_first() {
    let hub = hub();
    let starting = Starting::new(hub.clone());
    starting.committed(&[event(secret("x"), 5)]);
    starting.reset(snapshot(20, vec![stored(secret("y"), 15)]));
    starting.begin(&snapshot(4, Vec::new()));
    assert_eq!((revision_of(&hub), hub.applied()), (Some(15), 20));
}

#[test]
fn progress_before_the_caches_are_filled_counts() {
    let hub = hub();
    let starting = Starting::new(hub.clone());
    starting.committed(&[event(secret("x"), 5)]);
    starting.progress(9);
    assert_eq!(hub.applied(), 0);
    starting.begin(&snapshot(4, Vec::new()));
    assert_eq!((revision_of(&hub), hub.applied()), (Some(5), 9));
}

fn encryption() -> Encryption {
    let secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let keys = json!([{"name": "k", "secret": secret}]);
    Encryption::from_value(json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [{"aesgcm": {"keys": keys}}, {"identity": {}}]}],
    }))
    .unwrap()
}

#[tokio::test]
async fn a_value_whose_key_comes_later_is_never_missing() {
    let hub = hub();
    hub.follow_keys();
    hub.fill(&snapshot(4, vec![stored(secret("x"), 3)]));
    let cache = hub.caches()[PREFIX].clone();
    let mut watcher = Watcher::new(cache, "", Matcher::default(), 0, 4);
    let sealed = encryption().seal("secrets", KEY, secret("y")).unwrap();
    hub.committed(&[event(sealed, 7)]);
    hub.committed(&[event(secret("z"), 8)]);
    hub.progress(9);
    // Readers wait for it; nobody is told that the secret is gone.
    assert_eq!((revision_of(&hub), hub.applied()), (Some(3), 4));
    assert!(watcher.try_next().unwrap().is_none());
    hub.key_missing.notified().await;
    // An encryption that does not have the key yet: another server was faster.
    hub.release(0);
    assert_eq!((revision_of(&hub), hub.applied()), (Some(3), 4));
    hub.key_missing.notified().await;
    hub.codec.replace(Arc::new(encryption()), None);
    hub.release(0);
    assert_eq!((revision_of(&hub), hub.applied()), (Some(8), 9));
    for revision in [7, 8] {
        let (kind, event) = watcher.try_next().unwrap().unwrap();
        assert_eq!((kind, event.revision), (EventKind::Modified, revision));
    }
}

#[test]
fn a_value_whose_key_does_not_come_cannot_be_read_and_holds_up_nothing_else() {
    let hub = hub();
    hub.follow_keys();
    hub.fill(&snapshot(4, vec![stored(secret("x"), 3)]));
    hub.committed(&[event(encryption().seal("secrets", KEY, secret("y")).unwrap(), 7)]);
    hub.release(7);
    assert_eq!(hub.applied(), 7);
    let cache = &hub.caches()[PREFIX];
    assert!(matches!(cache.get("a/b"), Err(Error::Unreadable { .. })));
    assert!(!hub.has_become_readable(cache));
    hub.codec.replace(Arc::new(encryption()), None);
    assert!(hub.has_become_readable(cache));
}
