//! Tasks of the etcd engine that panic: each is counted and goes on, and nobody waits for it in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kedge_base::{BoxFuture, Clock, Ledger, SharedClock, Shutdown, TaskGroup, VirtualClock, system_clock};
use kedge_kv::{Error, Etcd, EtcdOptions, Event, Observer, Range, Snapshot};

use crate::backend::on_own_etcd;
use crate::engines::{PATIENCE, connect, etcd_options};
use crate::recorder::{Recorder, Told};
use crate::store::{Store, texts};

/// A store whose panics are counted apart.
async fn counting(options: EtcdOptions, clock: SharedClock) -> (Store, Ledger) {
    let ledger = Ledger::new(system_clock());
    let tasks = TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone());
    let kv = Etcd::connect(options, clock, tasks).await.unwrap();
    (Store::single(Arc::new(kv)), ledger)
}

/// Closes the store, after which no task is left.
async fn close(s: Store, ledger: &Ledger) {
    let closing = async {
        s.close().await;
        // They are counted a moment longer than they are waited for.
        while ledger.snapshot().iter().any(|report| report.running > 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closing).await.expect("a task does not end");
}

/// Panics when it is told something the first times, then remembers.
struct Fragile {
    panics: AtomicUsize,
    recorder: Arc<Recorder>,
}

impl Fragile {
    fn endure(&self) {
        let left = self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "on purpose");
    }
}

impl Observer for Fragile {
    fn committed(&self, events: &[Event]) {
        self.endure();
        self.recorder.committed(events);
    }

    fn progress(&self, revision: u64) {
        self.recorder.progress(revision);
    }

    fn reset(&self, state: Snapshot) {
        self.endure();
        self.recorder.reset(state);
    }
}

#[test]
fn an_observer_that_panics_is_given_the_whole_state_and_goes_on() {
    on_own_etcd(
        async |etcd| {
            let (s, ledger) = counting(etcd_options(vec![etcd.url()]), system_clock()).await;
            let fragile = Fragile { panics: AtomicUsize::new(2), recorder: Recorder::new() };
            let (fragile, other) = (Arc::new(fragile), Recorder::new());
            s.observe(b"/", fragile.clone()).await.unwrap();
            s.observe(b"/", other.clone()).await.unwrap();
            // It panics on the change, and once more on the state.
            let first = s.put("/a", "1").await;
            s.barrier().await.unwrap();
            assert_eq!(ledger.panics_of("etcd-observer"), 2);
            let told = fragile.recorder.told();
            let Some(Told::Reset(state)) = told.first() else { panic!("{told:?}") };
            assert!(state.revision >= first && texts(&state.kvs) == ["/a"], "{state:?}");
            let second = s.put("/b", "1").await;
            s.barrier().await.unwrap();
            let revisions = |events: &[Event]| events.iter().map(|event| event.revision).collect::<Vec<_>>();
            assert_eq!(revisions(&fragile.recorder.events()), [second]);
            assert_eq!(revisions(&other.events()), [first, second], "the other one never notices");
            close(s, &ledger).await;
        },
        "http",
        vec![],
    );
}

/// A clock that panics once: when it is looked at after it was armed, or when somebody sleeps for so long.
struct Breaking {
    clock: SharedClock,
    look: AtomicBool,
    sleep: Duration,
    slept: AtomicBool,
}

impl Breaking {
    fn new(clock: SharedClock, sleep: Duration) -> Arc<Self> {
        Arc::new(Self { clock, look: AtomicBool::new(false), sleep, slept: AtomicBool::new(false) })
    }
}

impl Clock for Breaking {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        assert!(!self.look.swap(false, Ordering::SeqCst), "on purpose");
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        assert!(duration != self.sleep || self.slept.swap(true, Ordering::SeqCst), "on purpose");
        self.clock.sleep(duration)
    }
}

/// Those who waited for a round that panicked were told that the store is closed, and those who asked a closed one waited
/// for ever.
#[test]
fn a_barrier_whose_round_panics_fails_and_the_next_one_holds() {
    on_own_etcd(
        async |etcd| {
            let clock = Breaking::new(system_clock(), Duration::MAX);
            let (s, ledger) = counting(etcd_options(vec![etcd.url()]), clock.clone()).await;
            let recorder = Recorder::new();
            s.observe(b"/", recorder.clone()).await.unwrap();
            s.barrier().await.unwrap();
            clock.look.store(true, Ordering::SeqCst);
            let failed = s.barrier().await;
            assert!(matches!(failed, Err(Error::Unavailable { unknown: false, .. })), "{failed:?}");
            let written = s.put("/a", "1").await;
            let held = tokio::time::timeout(PATIENCE, s.barrier()).await.expect("no round begins").unwrap();
            assert!(held >= written && recorder.events().len() == 1);
            assert_eq!(ledger.panics_of("etcd-barrier"), 1);
            let kv = s.kv.clone();
            close(s, &ledger).await;
            let refused = tokio::time::timeout(PATIENCE, kv.barrier()).await.expect("no answer");
            assert!(matches!(refused, Err(Error::Closed(_))), "{refused:?}");
        },
        "http",
        vec![],
    );
}

#[test]
fn compaction_goes_on_after_a_panic() {
    const INTERVAL: Duration = Duration::from_secs(300);
    on_own_etcd(
        async |etcd| {
            let plain = etcd_options(vec![etcd.url()]);
            let direct = Store::single(connect(plain.clone()).await);
            let mut options = plain;
            options.compact_interval = Some(INTERVAL);
            let clock = VirtualClock::new(Timestamp::UNIX_EPOCH);
            let (s, ledger) = counting(options, Breaking::new(Arc::new(clock.clone()), INTERVAL)).await;
            let old = direct.put("/a", "1").await;
            let gone = |outcome: Result<_, Error>| matches!(outcome, Err(Error::Compacted { .. }));
            let mut turns = 0;
            let compacting = async {
                while !gone(direct.range(Range { revision: Some(old), ..Range::key("/a") }).await) {
                    direct.put("/a", "2").await;
                    while clock.sleepers() == 0 {
                        tokio::task::yield_now().await;
                    }
                    turns += 1;
                    clock.advance(INTERVAL);
                    while direct.read("compact_rev_key").await.map_or(0, |kv| kv.version) < turns {
                        tokio::task::yield_now().await;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, compacting).await.expect("nobody compacts");
            assert_eq!(ledger.panics_of("etcd-compaction"), 1);
            close(s, &ledger).await;
        },
        "http",
        vec![],
    );
}
