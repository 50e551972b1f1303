//! Guarantees about observers and barriers.

use std::collections::BTreeMap;

use kedge_kv::{Event, KeyRange, Op, Range, Snapshot};

use crate::recorder::{Recorder, Told};
use crate::store::{Store, bytes, put, text, texts, when};

/// Key and value of each event; no value for a deletion.
fn changes(events: &[Event]) -> Vec<(String, Option<String>)> {
    events.iter().map(|e| (text(&e.key), e.current.as_ref().map(|kv| text(&kv.value)))).collect()
}

pub async fn events_come_in_order_and_once(s: Store) {
    s.put("/a", "before").await;
    let recorder = Recorder::new();
    let start = s.observe(b"/", recorder.clone()).await.unwrap();
    assert_eq!(texts(&start.kvs), ["/a"]);
    for i in 0..50 {
        s.put(&format!("/k{}", i % 7), &i.to_string()).await;
        if i % 5 == 0 {
            s.delete(&format!("/k{}", i % 7)).await;
        }
    }
    let last = s.newest().await;
    let events = recorder.wait(|events| events.last().is_some_and(|e| e.revision == last)).await;
    let revisions: Vec<u64> = events.iter().map(|e| e.revision).collect();
    assert_eq!(revisions, (start.revision + 1..=last).collect::<Vec<_>>());
}

pub async fn events_of_a_revision_come_together(s: Store) {
    let recorder = Recorder::new();
    s.observe(b"/", recorder.clone()).await.unwrap();
    let mut last = 0;
    for i in 0..20 {
        let three = vec![put("/a", &i.to_string(), 0), put("/b", &i.to_string(), 0), put("/c", &i.to_string(), 0)];
        last = s.txn(when(vec![], three, vec![])).await.unwrap().revision;
    }
    recorder.wait(|events| events.last().is_some_and(|e| e.revision == last)).await;
    let mut seen = 0;
    for call in recorder.calls() {
        assert!(call[0].revision > seen, "revision {} in two calls", call[0].revision);
        assert_eq!(call.len() % 3, 0);
        for three in call.chunks(3) {
            assert!(three.iter().all(|e| e.revision == three[0].revision));
            assert_eq!(three.iter().map(|e| text(&e.key)).collect::<Vec<_>>(), ["/a", "/b", "/c"]);
        }
        seen = call[call.len() - 1].revision;
    }
}

pub async fn events_carry_previous_values(s: Store) {
    let recorder = Recorder::new();
    s.observe(b"/", recorder.clone()).await.unwrap();
    let created = s.put("/a", "1").await;
    s.put("/a", "2").await;
    let deleted = s.delete("/a").await.revision;
    s.put("/a", "3").await;
    let events = recorder.wait(|events| events.len() == 4).await;
    let value = |e: &Event| e.previous.as_ref().map(|kv| (text(&kv.value), kv.mod_revision, kv.version));
    let previous: Vec<_> = events.iter().map(value).collect();
    assert_eq!(previous, [None, Some(("1".into(), created, 1)), Some(("2".into(), created + 1, 2)), None]);
    assert_eq!((events[2].revision, events[2].current.clone()), (deleted, None));
    let now = events[3].current.clone().unwrap();
    assert_eq!((now.create_revision, now.mod_revision, now.version), (deleted + 1, deleted + 1, 1));
    assert_eq!(Some(now), s.read("/a").await);
}

pub async fn only_the_prefix_is_reported(s: Store) {
    s.put("/a/0", "old").await;
    s.put("/b/0", "old").await;
    let recorder = Recorder::new();
    let start = s.observe(b"/a/", recorder.clone()).await.unwrap();
    assert_eq!(texts(&start.kvs), ["/a/0"]);
    for key in ["/a", "/a/1", "/a0", "/b/1", "/a/", "/"] {
        s.put(key, "1").await;
    }
    let mixed = vec![put("/b/2", "1", 0), put("/a/2", "1", 0), Op::Delete(KeyRange::prefix(b"/b/0"))];
    s.txn(when(vec![], mixed, vec![])).await.unwrap();
    s.txn(when(vec![], vec![Op::Delete(KeyRange::prefix(b"/"))], vec![])).await.unwrap();
    s.put("/a/last", "1").await;
    let events = recorder.wait(|events| events.iter().any(|e| e.key == "/a/last")).await;
    let mut keys: Vec<String> = events.iter().map(|e| text(&e.key)).collect();
    keys[3..7].sort_unstable();
    assert_eq!(keys, ["/a/1", "/a/", "/a/2", "/a/", "/a/0", "/a/1", "/a/2", "/a/last"]);
}

/// The state after events, from the state before.
fn replay(start: Snapshot, events: &[Event]) -> BTreeMap<String, (String, u64)> {
    let mut state: BTreeMap<_, _> =
        start.kvs.iter().map(|kv| (text(&kv.key), (text(&kv.value), kv.mod_revision))).collect();
    for event in events {
        assert!(event.revision > start.revision);
        match &event.current {
            Some(kv) => state.insert(text(&kv.key), (text(&kv.value), kv.mod_revision)),
            None => state.remove(&text(&event.key)),
        };
    }
    state
}

pub async fn snapshot_and_events_make_the_state(s: Store) {
    let writer = {
        let s = s.clone();
        tokio::spawn(async move {
            for i in 0..150 {
                s.put(&format!("/k/{:02}", (i * 7) % 30), &i.to_string()).await;
                if i % 4 == 0 {
                    s.delete(&format!("/k/{:02}", (i * 3) % 30)).await;
                }
            }
        })
    };
    // Observers that come while it writes.
    let mut watching = Vec::new();
    for _ in 0..8 {
        let recorder = Recorder::new();
        watching.push((s.observe(b"/k/", recorder.clone()).await.unwrap(), recorder));
        s.barrier().await.unwrap();
    }
    writer.await.unwrap();
    s.barrier().await.unwrap();
    let now = s.range(Range::prefix(b"/k/")).await.unwrap();
    let now = replay(Snapshot { revision: now.revision, kvs: now.kvs }, &[]);
    for (start, recorder) in watching {
        assert_eq!(replay(start, &recorder.events()), now);
    }
}

pub async fn a_barrier_covers_what_was_acknowledged(s: Store) {
    let recorder = Recorder::new();
    s.observe(b"/a/", recorder.clone()).await.unwrap();
    for i in 0..20 {
        // By another handle, so that this one learns of it only through the store. Some of it the observer is not told.
        let key = if i % 3 == 0 { "/b/x" } else { "/a/x" };
        let written = s.other.txn(when(vec![], vec![put(key, &i.to_string(), 0)], vec![])).await.unwrap().revision;
        assert!(s.barrier().await.unwrap() >= written);
        let newest = recorder.events().last().map_or(0, |e| e.revision);
        assert!(if i % 3 == 0 { newest < written } else { newest == written }, "{i}: {newest} after {written}");
    }
}

pub async fn barriers_share_and_hold(s: Store) {
    let recorders: Vec<_> = (0..3).map(|_| Recorder::new()).collect();
    for recorder in &recorders {
        s.observe(b"/", recorder.clone()).await.unwrap();
    }
    let clients = (0..32).map(|client| {
        let (s, recorders) = (s.clone(), recorders.clone());
        tokio::spawn(async move {
            for i in 0..5 {
                let written = s.put(&format!("/{client}"), &i.to_string()).await;
                s.barrier().await.unwrap();
                for recorder in &recorders {
                    assert!(recorder.events().iter().any(|e| e.revision == written));
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

pub async fn many_observers_see_the_same(s: Store) {
    let recorders: Vec<_> = (0..40).map(|_| Recorder::new()).collect();
    for recorder in &recorders {
        s.observe(b"/", recorder.clone()).await.unwrap();
    }
    for i in 0..25 {
        s.put(&format!("/{}", i % 4), &i.to_string()).await;
    }
    s.barrier().await.unwrap();
    let first = changes(&recorders[0].events());
    assert_eq!(first.len(), 25);
    for recorder in &recorders {
        assert_eq!(changes(&recorder.events()), first);
    }
}

/// More than one message may be: the parts are put together again.
pub async fn large_transactions_are_reported_whole(s: Store) {
    let recorder = Recorder::new();
    s.observe(b"/", recorder.clone()).await.unwrap();
    let value = "x".repeat(11_000);
    let mut last = 0;
    for round in 0..3 {
        let ops = (0..100).map(|i| put(&format!("/{i:03}"), &format!("{round}{value}"), 0)).collect();
        last = s.txn(when(vec![], ops, vec![])).await.unwrap().revision;
    }
    let events = recorder.wait(|events| events.last().is_some_and(|e| e.revision == last)).await;
    assert_eq!(events.len(), 300);
    for call in recorder.calls() {
        assert_eq!(call.len() % 100, 0, "a revision was torn");
    }
    assert_eq!(events[299].previous.as_ref().unwrap().value, bytes(&format!("1{value}")));
}

pub async fn observers_outlive_compaction(s: Store) {
    let recorder = Recorder::new();
    s.observe(b"/", recorder.clone()).await.unwrap();
    // The observer has begun, so compaction is behind it.
    s.barrier().await.unwrap();
    for i in 0..30 {
        let written = s.put("/a", &i.to_string()).await;
        if i % 10 == 9 {
            s.compact(written).await.unwrap();
        }
    }
    s.barrier().await.unwrap();
    let told = recorder.told();
    assert!(!told.iter().any(|told| matches!(told, Told::Reset(_))), "nothing was lost, so nothing is replaced");
    assert_eq!(recorder.events().len(), 30);
}
