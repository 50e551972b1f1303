//! Certificates by a clock that the tests move.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use kedge_base::{Shutdown, TaskGroup, VirtualClock};
use kedge_certs::Pki;
use tokio::sync::mpsc;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

struct Fixture {
    clock: VirtualClock,
    renewal: Renewal,
    pki: Pki,
    tasks: TaskGroup,
    dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let clock = VirtualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
    let shared: SharedClock = Arc::new(clock.clone());
    let pki = Pki::open(dir.path(), now(&shared)).unwrap();
    let tasks = TaskGroup::new("test", Shutdown::new());
    Fixture { clock, renewal: Renewal::new(&shared), pki, tasks, dir }
}

impl Fixture {
    fn run(&self) {
        let renewal = self.renewal.clone();
        self.tasks.spawn_worker("renewal", move || {
            let renewal = renewal.clone();
            async move { renewal.run().await }
        });
    }

    async fn asleep(&self) {
        while self.clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_leaf_is_renewed_in_time_again_and_again() {
    let f = fixture();
    let (taken, mut used) = mpsc::channel(8);
    let take = move |leaf: &Leaf| {
        taken.try_send(leaf.certificate.clone()).unwrap();
        Ok(())
    };
    f.renewal.keep(f.pki.client_leaf("client-a", "a", None), take).unwrap();
    f.run();
    let mut before = used.recv().await.unwrap();
    for _ in 0..3 {
        f.asleep().await;
        f.clock.advance(244 * DAY);
        f.asleep().await;
        assert!(used.try_recv().is_err(), "it has 121 days left");
        f.clock.advance(2 * DAY);
        let next = used.recv().await.unwrap();
        assert_ne!(next, before);
        assert_eq!(std::fs::read_to_string(f.dir.path().join("client-a.crt")).unwrap(), next, "on disk before");
        before = next;
    }
    assert!(f.tasks.join(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn what_fails_is_tried_again_until_it_is_used() {
    let f = fixture();
    let (taken, mut used) = mpsc::channel(8);
    let works = Arc::new(AtomicBool::new(true));
    let allowed = works.clone();
    let take = move |leaf: &Leaf| {
        let result = if allowed.load(Ordering::SeqCst) { Ok(()) } else { Err(Error::Tls("on purpose".into())) };
        taken.try_send((leaf.certificate.clone(), result.is_ok())).unwrap();
        result
    };
    f.renewal.keep(f.pki.client_leaf("client-a", "a", None), take).unwrap();
    let (first, _) = used.recv().await.unwrap();
    works.store(false, Ordering::SeqCst);
    f.run();
    f.asleep().await;
    f.clock.advance(250 * DAY);
    let (second, ok) = used.recv().await.unwrap();
    assert!(!ok && second != first);
    works.store(true, Ordering::SeqCst);
    f.asleep().await;
    f.clock.advance(LAST_PAUSE);
    assert_eq!(used.recv().await.unwrap(), (second, true), "the one that was issued, not yet another");
    assert!(f.tasks.join(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn who_asks_gets_new_ones_of_those_that_are_named() {
    let f = fixture();
    let credential = |file: &str| f.renewal.credential(f.pki.client_leaf(file, "a", None)).unwrap();
    let (_one, _two) = (credential("client-a"), credential("client-b"));
    let read = |file: &str| std::fs::read_to_string(f.dir.path().join(file)).unwrap();
    let (a, b) = (read("client-a.crt"), read("client-b.crt"));
    assert_eq!(f.renewal.rotate(&["client-b".into(), "unknown".into()]).await.unwrap(), ["client-b"]);
    assert_eq!(read("client-a.crt"), a);
    assert_ne!(read("client-b.crt"), b);
}
