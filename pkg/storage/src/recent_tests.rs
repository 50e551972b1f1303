//! The budget over several rings.
#![allow(clippy::unwrap_used)]

use kedge_base::{Clock as _, VirtualClock};

use super::*;
use crate::cache::{Content, Matcher};
use crate::object::Object;
use crate::store::ResourceConfig;
use crate::watch::Watcher;

struct Bed {
    clock: VirtualClock,
    budget: Arc<Budget>,
    revision: u64,
}

impl Bed {
    fn new() -> Self {
        let clock = VirtualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let budget = Arc::new(Budget::new(Arc::new(clock.clone())));
        Self { clock, budget, revision: 0 }
    }

    fn cache(&self) -> Arc<Cache> {
        cache(&self.budget)
    }

    fn put(&mut self, cache: &Arc<Cache>, name: &str, bytes: usize) {
        self.revision += 1;
        let value =
            serde_json::json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": name}, "data": "d".repeat(bytes)});
        let object = Object::from_stored(name, Object::encode(None, &value).unwrap(), self.revision).unwrap();
        cache.apply(name.into(), Content::Object(Arc::new(object)), self.revision);
    }

    fn bytes(&self, caches: &[&Arc<Cache>]) -> usize {
        caches.iter().map(|cache| cache.state.read().ring.size().bytes as usize).sum()
    }
}

fn cache(budget: &Arc<Budget>) -> Arc<Cache> {
    let config = ResourceConfig::new("x", "x");
    let cache = Arc::new(Cache::new("/registry/x/", &config, budget.clone()));
    cache.fill(0, crate::cache::Contents::default());
    cache
}

fn len(cache: &Cache) -> usize {
    cache.state.read().ring.events.len()
}

#[test]
fn a_busy_resource_leaves_a_quiet_one_its_floor_and_all_together_keep_to_the_budget() {
    let mut bed = Bed::new();
    let (busy, quiet) = (bed.cache(), bed.cache());
    for i in 0..200 {
        bed.put(&quiet, &format!("q{}", i % 10), 10);
    }
    let before = bed.revision;
    for i in 0..400 {
        bed.put(&busy, &format!("b{}", i % 7), 100 << 10);
    }
    let room = BYTES + 2 * FLOOR_BYTES;
    assert!(bed.bytes(&[&busy, &quiet]) <= room, "{} of {room}", bed.bytes(&[&busy, &quiet]));
    let kept = len(&quiet);
    assert!((50..=FLOOR_EVENTS).contains(&kept), "{kept} events of the quiet one are left");
    // Whoever has seen the quiet one's last event goes on, however much has happened elsewhere.
    assert!(quiet.position_after(before).is_ok());
    assert!(quiet.position_after(before - kept as u64).is_ok());
    assert!(busy.position_after(before).is_err(), "the busy one's own past is gone");
}

#[test]
fn a_watcher_whose_events_were_dropped_for_another_resource_is_told() {
    let mut bed = Bed::new();
    let (busy, slow) = (bed.cache(), bed.cache());
    let mut watcher = Watcher::new(slow.clone(), "", Matcher::default(), 0, 0);
    for i in 0..300 {
        bed.put(&slow, &format!("s{i}"), 100);
    }
    assert!(watcher.try_next().unwrap().is_some(), "they are all there yet");
    for _ in 0..300 {
        bed.put(&busy, "b", 100 << 10);
    }
    assert!(matches!(watcher.try_next(), Err(crate::Error::TooOld { .. })));
}

#[test]
fn events_of_age_go_down_to_the_floor_and_nothing_is_counted_twice() {
    let mut bed = Bed::new();
    let cache = bed.cache();
    for i in 0..1_000 {
        bed.put(&cache, &format!("s{}", i % 3), 10);
    }
    assert_eq!(len(&cache), 1_000);
    bed.clock.advance(AGE);
    while !bed.budget.state.lock().events.is_empty() {
        bed.budget.sweep(bed.clock.monotonic());
    }
    assert_eq!(len(&cache), FLOOR_EVENTS);
    assert_eq!(bed.budget.bytes(), 0);
    // A large one does not stay for being one of the last.
    bed.put(&cache, "large", FLOOR_BYTES);
    assert_eq!(len(&cache), FLOOR_EVENTS + 1);
    bed.clock.advance(AGE);
    bed.budget.sweep(bed.clock.monotonic());
    assert_eq!((len(&cache), bed.bytes(&[&cache])), (0, 0));
    assert!(cache.position_after(bed.revision).is_ok() && cache.position_after(bed.revision - 1).is_err());
}

#[test]
fn filling_a_cache_anew_gives_back_what_its_events_counted() {
    let mut bed = Bed::new();
    let (cache, other) = (bed.cache(), bed.cache());
    bed.put(&cache, "a", 100);
    bed.put(&other, "a", 100);
    cache.fill(bed.revision, crate::cache::Contents::default());
    bed.put(&cache, "b", 100);
    let counted = bed.bytes(&[&cache, &other]);
    assert_eq!(bed.budget.bytes(), counted.cast_signed());
    bed.clock.advance(AGE);
    bed.budget.sweep(bed.clock.monotonic());
    assert_eq!(bed.budget.bytes(), 0);
}

#[tokio::test]
async fn tending_waits_for_age_and_ends_with_its_task_only() {
    let mut bed = Bed::new();
    let cache = bed.cache();
    bed.put(&cache, "large", FLOOR_BYTES);
    let budget = bed.budget.clone();
    let tending = budget.tend();
    tokio::pin!(tending);
    assert!(futures::poll!(tending.as_mut()).is_pending());
    assert_eq!(len(&cache), 1);
    bed.clock.advance(AGE + AGE / 4);
    while len(&cache) > 0 {
        assert!(futures::poll!(tending.as_mut()).is_pending());
        bed.clock.advance(AGE / 8);
    }
}

/// Once a cache asked for the budget while it was held, and the budget for the cache: neither came back.
#[test]
fn filling_a_cache_anew_and_making_room_in_it_do_not_wait_for_each_other() {
    let mut bed = Bed::new();
    let (filled, busy) = (bed.cache(), bed.cache());
    for i in 0..200 {
        bed.put(&busy, &format!("b{}", i % 3), 100 << 10);
        bed.put(&filled, "f", 100 << 10);
    }
    let revision = bed.revision;
    let filling = std::thread::spawn({
        let filled = filled.clone();
        move || (1..=2_000).for_each(|_| filled.fill(revision, crate::cache::Contents::default()))
    });
    while !filling.is_finished() {
        bed.put(&busy, "b", 100 << 10);
        bed.put(&filled, "f", 100);
    }
    filling.join().unwrap();
    filled.fill(bed.revision, crate::cache::Contents::default());
    let counted = bed.bytes(&[&busy]) - busy.state.read().ring.floor_bytes;
    assert_eq!(bed.budget.bytes(), counted.cast_signed(), "what each side gave back and took adds up");
}

#[test]
fn a_write_does_not_wait_for_readers_of_another_resource() {
    let mut bed = Bed::new();
    let (read, written) = (bed.cache(), bed.cache());
    for i in 0..50 {
        bed.put(&read, &format!("r{i}"), 100 << 10);
    }
    let reading = read.state.read();
    for _ in 0..200 {
        bed.put(&written, "w", 100 << 10);
    }
    assert_eq!(reading.ring.events.len(), 50, "nothing of it was taken");
    drop(reading);
    bed.put(&written, "w", 100 << 10);
    assert!(bed.bytes(&[&read, &written]) <= BYTES + 2 * FLOOR_BYTES);
}

/// What the events of a cache that was dropped counted was counted for ever: in the end every event was let go at once.
#[test]
fn a_cache_that_goes_gives_back_what_its_events_counted() {
    let mut bed = Bed::new();
    let (stays, goes) = (bed.cache(), bed.cache());
    for i in 0..60 {
        bed.put(&goes, &format!("g{i}"), 100 << 10);
        bed.put(&stays, &format!("s{}", i % 3), 10);
    }
    drop(goes);
    let counted = stays.state.read().ring.counted;
    assert_eq!(bed.budget.bytes(), counted.cast_signed());
    for i in 0..60 {
        bed.put(&stays, &format!("s{}", i % 3), 100 << 10);
    }
    assert!(len(&stays) >= 60, "there is room for all of it again");
    bed.clock.advance(AGE);
    while !bed.budget.state.lock().events.is_empty() {
        bed.budget.sweep(bed.clock.monotonic());
    }
    assert_eq!(bed.budget.bytes(), 0);
}

/// Whoever looks for something to drop may hold a cache last.
#[test]
fn a_cache_may_go_while_room_is_made_in_it() {
    let mut bed = Bed::new();
    let busy = bed.cache();
    bed.put(&busy, "b", BYTES / 4);
    let (large, budget) = (busy.get("b").unwrap().unwrap(), bed.budget.clone());
    let mut put = |cache: &Arc<Cache>| {
        bed.revision += 1;
        cache.apply("b".into(), Content::Object(large.clone()), bed.revision);
    };
    for _ in 0..500 {
        let goes = cache(&budget);
        put(&goes);
        let going = std::thread::spawn(move || drop(goes));
        (0..4).for_each(|_| put(&busy));
        going.join().unwrap();
    }
    let counted = busy.state.read().ring.counted;
    assert_eq!(bed.budget.bytes(), counted.cast_signed());
}
