//! The judge of histories: what clients did and what observers were told, against one order of states.
//!
//! A revision is the place of a transaction in that order, so a history is linearizable when the states that the revisions
//! make agree with every answer, and when no answer has a revision from before what had been answered when it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kedge_kv::{Event, KeyValue, Snapshot};

use crate::recorder::Told;

type State = BTreeMap<Bytes, KeyValue>;

/// What a client asked for.
#[derive(Debug, Clone)]
pub enum Action {
    /// Sets the keys to one value, unless the first has another modification revision than expected.
    Put {
        keys: Vec<Bytes>,
        value: Bytes,
        expected: Option<u64>,
    },
    Delete {
        key: Bytes,
    },
    Read {
        prefix: Bytes,
    },
    Barrier,
}

/// What it was answered.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// `previous` of each key that was written or deleted.
    Wrote {
        revision: u64,
        previous: Vec<Option<KeyValue>>,
    },
    /// The condition did not hold, and this is why.
    Refused {
        revision: u64,
        current: Option<KeyValue>,
    },
    Read {
        revision: u64,
        kvs: Vec<KeyValue>,
    },
    Barrier {
        revision: u64,
    },
    /// It may have happened.
    Unknown,
    /// It did not happen.
    Failed,
}

#[derive(Debug, Clone)]
pub struct Done {
    pub start: Duration,
    pub end: Duration,
    pub action: Action,
    pub outcome: Outcome,
}

/// The order of states, built from what one observer of everything was told.
pub struct Model {
    states: BTreeMap<u64, State>,
    events: BTreeMap<u64, Vec<Event>>,
}

fn state_of(kvs: &[KeyValue]) -> State {
    kvs.iter().map(|kv| (kv.key.clone(), kv.clone())).collect()
}

impl Model {
    pub fn new(start: &Snapshot) -> Self {
        Self { states: BTreeMap::from([(start.revision, state_of(&start.kvs))]), events: BTreeMap::new() }
    }

    pub fn newest(&self) -> u64 {
        *self.states.last_key_value().unwrap().0
    }

    /// The state at a revision.
    pub fn at(&self, revision: u64) -> &State {
        self.states.range(..=revision).next_back().map(|(_, state)| state).expect("a revision before the beginning")
    }

    /// A state that was read must be the newest one known, after a restart for example.
    pub fn resumes(&self, snapshot: &Snapshot) {
        assert!(snapshot.revision >= self.newest(), "the revision went back");
        assert_eq!(&state_of(&snapshot.kvs), self.at(snapshot.revision), "the state changed without events");
    }

    /// Takes what the witness was told: ordered, unique, atomic, with true previous values and true creations.
    pub fn extend(&mut self, told: &[Told]) {
        for told in told {
            match told {
                Told::Events(events) => {
                    for of_one in events.chunk_by(|a, b| a.revision == b.revision) {
                        self.commit(of_one);
                    }
                }
                Told::Progress(_) => {}
                Told::Reset(state) => panic!("the witness lost history at {}", state.revision),
            }
        }
    }

    fn commit(&mut self, events: &[Event]) {
        let revision = events[0].revision;
        assert!(
            revision > self.newest(),
            "revision {revision} came after {}: unordered, repeated or torn",
            self.newest()
        );
        let mut state = self.at(revision).clone();
        let keys: BTreeSet<&Bytes> = events.iter().map(|e| &e.key).collect();
        assert_eq!(keys.len(), events.len(), "a key twice in revision {revision}");
        for event in events {
            let before = state.get(&event.key).cloned();
            if event.previous.is_some() {
                assert_eq!(event.previous, before, "a wrong previous value in {event:?}");
            }
            match &event.current {
                Some(kv) => {
                    let (created, version) =
                        before.map_or((revision, 1), |before| (before.create_revision, before.version + 1));
                    let is = (&kv.key, kv.create_revision, kv.mod_revision, kv.version);
                    assert_eq!(is, (&event.key, created, revision, version), "a change before it was not reported");
                    state.insert(kv.key.clone(), kv.clone());
                }
                None => {
                    assert!(before.is_some(), "a deletion of nothing: {event:?}");
                    state.remove(&event.key);
                }
            }
        }
        self.states.insert(revision, state);
        self.events.insert(revision, events.to_vec());
    }

    /// What an observer of `prefix` that began at `start` must have been told, when it was told `told`.
    pub fn judge_observer(&self, prefix: &[u8], start: &Snapshot, told: &[Told]) {
        let filtered = |state: &State| -> State {
            state.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        assert_eq!(state_of(&start.kvs), filtered(self.at(start.revision)), "the first state at {}", start.revision);
        let mut until = start.revision;
        let expected = |from: u64, to: u64| -> Vec<&Event> {
            let events = self.events.range(from + 1..(to + 1).max(from + 1)).flat_map(|(_, events)| events);
            events.filter(|e| e.key.starts_with(prefix)).collect()
        };
        for told in told {
            let (to, got) = match told {
                Told::Events(events) => (events.last().unwrap().revision, events.as_slice()),
                Told::Progress(revision) => (*revision, &[][..]),
                Told::Reset(state) => {
                    assert!(state.revision >= until, "a reset into the past");
                    assert_eq!(state_of(&state.kvs), filtered(self.at(state.revision)), "a reset to a wrong state");
                    until = state.revision;
                    continue;
                }
            };
            assert!(to >= until, "revision {to} after {until}");
            let expected = expected(until, to);
            assert_eq!(expected.len(), got.len(), "from {until} to {to}: {expected:?} became {got:?}");
            for (expected, got) in expected.into_iter().zip(got) {
                let is = (expected.revision, &expected.key, &expected.current);
                assert_eq!(is, (got.revision, &got.key, &got.current));
                assert!(got.previous.is_none() || got.previous == expected.previous, "previous value of {got:?}");
            }
            until = to;
        }
        assert_eq!(expected(until, self.newest()).len(), 0, "events after {until} are missing");
    }

    /// Every answer agrees with the states, in real time order; every change has one client behind it.
    pub fn judge_clients(&self, done: &[Done]) {
        for one in done {
            self.judge_answer(one);
        }
        judge_real_time(done);
        self.judge_causes(done);
    }

    fn judge_answer(&self, done: &Done) {
        match (&done.action, &done.outcome) {
            (_, Outcome::Unknown | Outcome::Failed) | (Action::Barrier, Outcome::Barrier { .. }) => {}
            (Action::Put { keys, value, expected }, Outcome::Wrote { revision, previous }) => {
                let events =
                    self.events.get(revision).unwrap_or_else(|| panic!("an acknowledged write is lost: {done:?}"));
                let written: Vec<_> = events.iter().map(|e| (&e.key, e.current.as_ref().map(|kv| &kv.value))).collect();
                assert_eq!(written, keys.iter().map(|key| (key, Some(value))).collect::<Vec<_>>(), "{done:?}");
                let before = self.at(revision - 1);
                assert_eq!(previous, &keys.iter().map(|key| before.get(key).cloned()).collect::<Vec<_>>(), "{done:?}");
                let was = before.get(&keys[0]).map_or(0, |kv| kv.mod_revision);
                assert!(expected.is_none_or(|expected| expected == was), "it was {was}: {done:?}");
            }
            (Action::Put { keys, expected, .. }, Outcome::Refused { revision, current }) => {
                assert_eq!(current.as_ref(), self.at(*revision).get(&keys[0]), "{done:?}");
                let is = current.as_ref().map_or(0, |kv| kv.mod_revision);
                assert_ne!(Some(is), *expected, "refused without reason: {done:?}");
            }
            (Action::Delete { key }, Outcome::Wrote { revision, previous }) => match previous.first() {
                Some(previous) => {
                    let events = self.events.get(revision).unwrap_or_else(|| panic!("a deletion is lost: {done:?}"));
                    assert_eq!((events.len(), &events[0].key, &events[0].current), (1, key, &None), "{done:?}");
                    assert_eq!(previous.as_ref(), self.at(revision - 1).get(key), "{done:?}");
                }
                None => assert!(!self.at(*revision).contains_key(key), "{done:?}"),
            },
            (Action::Read { prefix }, Outcome::Read { revision, kvs }) => {
                let state = self.at(*revision).values().filter(|kv| kv.key.starts_with(prefix)).cloned();
                assert_eq!(kvs, &state.collect::<Vec<_>>(), "{done:?}");
            }
            other => panic!("an answer of another kind: {other:?}"),
        }
    }

    /// Each revision was made by exactly one acknowledged write, or by one whose outcome its client does not know.
    fn judge_causes(&self, done: &[Done]) {
        let mut claimed = BTreeSet::new();
        let mut unknown = Vec::new();
        for one in done {
            match &one.outcome {
                Outcome::Wrote { revision, previous } if !previous.is_empty() => {
                    assert!(claimed.insert(*revision), "two writes got revision {revision}");
                }
                Outcome::Unknown => unknown.push(&one.action),
                _ => {}
            }
        }
        for (revision, events) in &self.events {
            if claimed.contains(revision) {
                continue;
            }
            let made_by = |action: &&Action| match action {
                Action::Put { value, .. } => events[0].current.as_ref().is_some_and(|kv| kv.value == *value),
                Action::Delete { key } => events.len() == 1 && events[0].current.is_none() && events[0].key == *key,
                Action::Read { .. } | Action::Barrier => false,
            };
            let cause = unknown.iter().position(made_by);
            let cause = cause.unwrap_or_else(|| panic!("nobody made revision {revision}: {events:?}"));
            // It happened once, if at all.
            unknown.swap_remove(cause);
        }
    }
}

/// What was answered before a request began is part of what it is answered.
fn judge_real_time(done: &[Done]) {
    let answered = |done: &Done| match &done.outcome {
        Outcome::Wrote { revision, previous } => Some((*revision, !previous.is_empty())),
        Outcome::Refused { revision, .. } | Outcome::Read { revision, .. } | Outcome::Barrier { revision } => {
            Some((*revision, false))
        }
        Outcome::Unknown | Outcome::Failed => None,
    };
    let mut by_end: Vec<_> = done.iter().filter_map(|one| Some((one.end, answered(one)?.0))).collect();
    by_end.sort_unstable();
    let mut by_start: Vec<&Done> = done.iter().filter(|one| answered(one).is_some()).collect();
    by_start.sort_unstable_by_key(|one| one.start);
    let (mut ended, mut newest) = (by_end.into_iter().peekable(), 0);
    for one in by_start {
        while let Some((_, revision)) = ended.next_if(|(end, _)| *end < one.start) {
            newest = newest.max(revision);
        }
        let (revision, wrote) = answered(one).unwrap();
        let right = if wrote { revision > newest } else { revision >= newest };
        assert!(right, "revision {newest} had been answered before this began: {one:?}");
    }
}

#[cfg(test)]
mod tests {
    //! The judge finds what it is there for.
    use super::*;

    fn kv(key: &'static str, value: &'static str, revision: u64) -> KeyValue {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
        KeyValue { key, value, create_revision: revision, mod_revision: revision, version: 1, lease: 0 }
    }

    fn event(key: &'static str, value: &'static str, revision: u64) -> Event {
        let current = kv(key, value, revision);
        Event { revision, key: current.key.clone(), current: Some(current), previous: None }
    }

    fn start() -> Snapshot {
        Snapshot { revision: 1, kvs: vec![] }
    }

    fn model(events: &[Event]) -> Model {
        let mut model = Model::new(&start());
        model.extend(&[Told::Events(events.to_vec())]);
        model
    }

    fn put(key: &'static str, value: &'static str, at: u64, revision: u64) -> Done {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
        Done {
            start: Duration::from_secs(at),
            end: Duration::from_secs(at + 1),
            action: Action::Put { keys: vec![key], value, expected: None },
            outcome: Outcome::Wrote { revision, previous: vec![None] },
        }
    }

    #[test]
    fn a_right_history_passes() {
        let model = model(&[event("/a", "1", 2), event("/b", "2", 3)]);
        model.judge_clients(&[put("/a", "1", 0, 2), put("/b", "2", 5, 3)]);
        model.judge_observer(b"/b", &start(), &[Told::Progress(2), Told::Events(vec![event("/b", "2", 3)])]);
    }

    #[test]
    #[should_panic(expected = "an acknowledged write is lost")]
    fn a_lost_write_is_found() {
        model(&[event("/a", "1", 2)]).judge_clients(&[put("/a", "1", 0, 2), put("/b", "2", 5, 3)]);
    }

    #[test]
    #[should_panic(expected = "had been answered before")]
    fn a_stale_order_is_found() {
        let model = model(&[event("/a", "1", 2), event("/b", "2", 3)]);
        model.judge_clients(&[put("/a", "1", 5, 2), put("/b", "2", 0, 3)]);
    }

    #[test]
    #[should_panic(expected = "nobody made revision 3")]
    fn a_write_from_nowhere_is_found() {
        model(&[event("/a", "1", 2), event("/b", "2", 3)]).judge_clients(&[put("/a", "1", 0, 2)]);
    }

    #[test]
    #[should_panic(expected = "events after 1 are missing")]
    fn a_gap_in_a_watch_is_found() {
        model(&[event("/a", "1", 2)]).judge_observer(b"/", &start(), &[]);
    }

    #[test]
    #[should_panic(expected = "from 1 to 2")]
    fn early_progress_is_found() {
        model(&[event("/a", "1", 2)]).judge_observer(b"/", &start(), &[Told::Progress(2)]);
    }

    #[test]
    #[should_panic(expected = "a change before it was not reported")]
    fn a_missing_change_is_found() {
        let mut second = event("/a", "2", 3);
        second.current.as_mut().unwrap().version = 3;
        model(&[event("/a", "1", 2), second]);
    }
}
