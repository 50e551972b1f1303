//! What becomes of an event: a new one, a higher count of one before, or nothing. Pure; the time is given.
//!
//! The rules and their numbers are those of upstream's `EventCorrelator`: similar events are combined first, then equal
//! ones are counted, and then a token bucket for each object decides whether anything is sent.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use kedge_meta::ObjectReference;

use super::EventType;
use super::lru::Lru;

/// Entries in each of the memories.
const REMEMBERED: usize = 4_096;
/// Messages of otherwise equal events after which they are combined.
const SIMILAR: usize = 10;
/// A pause of so long, in seconds, ends a series of similar events.
const SIMILAR_WITHIN: i64 = 600;
/// Events of one object that may follow each other at once, and the seconds until a further one.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// How long a bucket is remembered that nothing is taken from, in seconds. That of an object with few events is full again by then;
/// one that had been emptied is full again sooner than it would be, but its object has been quiet.
const BUCKETS_WITHIN: i64 = 600;
/// An event that did not come again within this time, in seconds, is another one when it does: longer than any back-off between two tries
/// of the same. Upstream remembers it as long as there are not too many others; here all components are one process, and what they
/// remember is to go.
const COUNTED_WITHIN: i64 = 600;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Occurrence {
    pub(super) object: ObjectReference,
    pub(super) kind: EventType,
    pub(super) reason: String,
    pub(super) message: String,
}

/// What is to be written: a new event when `count` is one, else the change of a known one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observed {
    pub(super) occurrence: Occurrence,
    pub(super) name: String,
    pub(super) count: u32,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// Stands for what it was made of; 128 bits, so that no two things are taken for one.
type Digest = (u64, u64);

fn digest(value: &impl Hash) -> Digest {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        value.hash(&mut hasher);
        hasher.finish()
    };
    (half(0), half(1))
}

/// Messages seen in a series of events that are equal otherwise.
struct Series {
    /// Fewer than [`SIMILAR`], most often one.
    messages: Vec<Digest>,
    last: Timestamp,
}

/// An event that may have been written.
struct Counted {
    /// What follows the name of its object in its own.
    stamp: i64,
    count: u32,
    first: Timestamp,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// The memory of one component's events.
pub(super) struct Correlator {
    series: Lru<Digest, Series>,
    counted: Lru<Digest, Counted>,
    buckets: Lru<Digest, Bucket>,
    /// The time in the last name; names must differ although a clock may stand.
    named: i64,
}

impl Correlator {
    pub(super) fn new() -> Self {
        Self {
            series: Lru::new(REMEMBERED, SIMILAR_WITHIN),
            counted: Lru::new(REMEMBERED, COUNTED_WITHIN),
            buckets: Lru::new(REMEMBERED, BUCKETS_WITHIN),
            named: i64::MIN,
        }
    }

    /// What to write about an occurrence; nothing when its object has had too many.
    pub(super) fn correlate(&mut self, occurrence: Occurrence, now: Timestamp) -> Option<Observed> {
        let allowed = object_of(&occurrence);
        let (occurrence, key) = self.combine(occurrence, now);
        let observed = self.count(occurrence, key, now);
        // What is not sent is counted all the same: the next that is sent tells of it.
        self.spend(allowed, now).then_some(observed)
    }

    /// Puts one message in place of many different ones.
    fn combine(&mut self, mut occurrence: Occurrence, now: Timestamp) -> (Occurrence, Digest) {
        let similar = digest(&(object_of(&occurrence), occurrence.kind, &occurrence.reason));
        let series = self.series.entry(&similar, now.as_second(), || Series { messages: Vec::new(), last: now });
        if now.as_second() - series.last.as_second() > SIMILAR_WITHIN {
            series.messages.clear();
        }
        series.last = now;
        let message = digest(&occurrence.message);
        let mut known = series.messages.contains(&message);
        if !known && series.messages.len() + 1 < SIMILAR {
            series.messages.reserve_exact(1);
            series.messages.push(message);
            known = true;
        }
        if known {
            let key = digest(&occurrence);
            return (occurrence, key);
        }
        occurrence.message = format!("(combined from similar events): {}", occurrence.message);
        (occurrence, similar)
    }

    fn count(&mut self, occurrence: Occurrence, key: Digest, now: Timestamp) -> Observed {
        let named = &mut self.named;
        let object = &occurrence.object.name;
        let at = now;
        let known = self.counted.entry(&key, now.as_second(), || {
            let now = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
            *named = now.max(named.saturating_add(1));
            Counted { stamp: *named, count: 0, first: at }
        });
        known.count = known.count.saturating_add(1);
        let (name, count, first) = (format!("{object}.{:x}", known.stamp), known.count, known.first);
        Observed { occurrence, name, count, first, last: now }
    }

    fn spend(&mut self, object: Digest, now: Timestamp) -> bool {
        let bucket = self.buckets.entry(&object, now.as_second(), || Bucket { tokens: BURST, at: now });
        // A clock that was set back refills nothing.
        let seconds = (now.duration_since(bucket.at).as_secs_f64()).max(0.0);
        bucket.tokens = (bucket.tokens + seconds / REFILL_SECONDS).min(BURST);
        bucket.at = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

/// The object without the part of it that is meant.
pub(super) fn object_of(occurrence: &Occurrence) -> Digest {
    let ObjectReference { api_version, kind, namespace, name, uid, .. } = &occurrence.object;
    digest(&(api_version, kind, namespace, name, uid))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::{Clock as _, VirtualClock};
    use std::time::Duration;

    fn about(name: &str, reason: &str, message: &str) -> Occurrence {
        let object = ObjectReference { kind: "Pod".into(), name: name.into(), ..ObjectReference::default() };
        Occurrence { object, kind: EventType::Normal, reason: reason.into(), message: message.into() }
    }

    fn start() -> (VirtualClock, Correlator) {
        (VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap()), Correlator::new())
    }

    #[test]
    fn equal_events_are_counted() {
        let (clock, mut c) = start();
        let first = c.correlate(about("p", "R", "m"), clock.now()).unwrap();
        clock.advance(Duration::from_secs(5));
        let second = c.correlate(about("p", "R", "m"), clock.now()).unwrap();
        assert_eq!((first.count, second.count), (1, 2));
        assert_eq!((&second.name, second.first), (&first.name, first.first));
        assert_eq!(second.last.duration_since(second.first).as_secs(), 5);
        let other = c.correlate(about("p", "R", "another"), clock.now()).unwrap();
        assert!(other.count == 1 && other.name != first.name);
    }

    #[test]
    fn the_tenth_of_similar_events_and_those_after_it_are_combined() {
        let (clock, mut c) = start();
        let mut next = |i: i32| {
            clock.advance(Duration::from_secs(60));
            c.correlate(about("p", "R", &format!("m{i}")), clock.now()).unwrap()
        };
        for i in 0..9 {
            assert_eq!(next(i).occurrence.message, format!("m{i}"));
        }
        let combined = next(9);
        assert_eq!(combined.occurrence.message, "(combined from similar events): m9");
        let again = next(10);
        assert_eq!(again.occurrence.message, "(combined from similar events): m10");
        assert_eq!((&again.name, again.count, combined.count), (&combined.name, 2, 1));
        // Another reason, and another object, are another series.
        assert_eq!(c.correlate(about("p", "Other", "x"), clock.now()).unwrap().occurrence.message, "x");
        assert_eq!(c.correlate(about("q", "R", "x"), clock.now()).unwrap().occurrence.message, "x");
        clock.advance(Duration::from_secs(601));
        let later = c.correlate(about("p", "R", "m99"), clock.now()).unwrap();
        assert_eq!(later.occurrence.message, "m99", "ten quiet minutes end the series");
    }

    #[test]
    fn an_object_has_a_burst_and_then_one_event_in_five_minutes() {
        let (clock, mut c) = start();
        let sent = |c: &mut Correlator, name: &str| {
            (0..100).filter(|_| c.correlate(about(name, "R", "m"), clock.now()).is_some()).count()
        };
        assert_eq!(sent(&mut c, "p"), 25);
        assert_eq!(sent(&mut c, "q"), 25, "each object has its own");
        clock.advance(Duration::from_secs(299));
        assert_eq!(sent(&mut c, "p"), 0);
        clock.advance(Duration::from_secs(1));
        let told = c.correlate(about("p", "R", "m"), clock.now()).unwrap();
        assert_eq!(told.count, 201, "what was not sent is counted");
        clock.advance(Duration::from_secs(300 * 1_000));
        assert_eq!(sent(&mut c, "p"), 25, "no more than a burst is saved up");
    }

    #[test]
    fn all_parts_of_an_object_share_its_burst() {
        let (clock, mut c) = start();
        let sent = (0..100).filter(|i| {
            let mut event = about("p", "R", "m");
            event.object.field_path = format!("spec.containers{{c{i}}}");
            c.correlate(event, clock.now()).is_some()
        });
        assert_eq!(sent.count(), 25);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (clock, mut c) = start();
        for i in 0..REMEMBERED + 100 {
            assert!(c.correlate(about(&format!("p{i}"), "R", "m"), clock.now()).is_some());
        }
        assert_eq!((c.series.len(), c.counted.len(), c.buckets.len()), (REMEMBERED, REMEMBERED, REMEMBERED));
        assert_eq!(c.correlate(about("p0", "R", "m"), clock.now()).unwrap().count, 1, "forgotten");
    }
}
