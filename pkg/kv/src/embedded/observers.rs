//! Who is told of commits.

use std::sync::Arc;

use crate::api::{Event, KeyRange, Observer};

/// Names an observer, see [`crate::Embedded::unobserve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObserverId(u64);

struct Observing {
    id: ObserverId,
    keys: KeyRange,
    /// It is told of changes from this revision on.
    from: u64,
    observer: Arc<dyn Observer>,
    /// The revision that it knows everything up to.
    told: u64,
}

/// All observers. Whoever holds them keeps everything from being reported meanwhile.
#[derive(Default)]
pub(super) struct Observers {
    all: Vec<Observing>,
    next: u64,
}

impl Observers {
    /// Adds one that knows everything up to `told`.
    pub(super) fn add(&mut self, keys: KeyRange, from: u64, observer: Arc<dyn Observer>, told: u64) -> ObserverId {
        let id = ObserverId(self.next);
        self.next += 1;
        self.all.push(Observing { id, keys, from, observer, told });
        id
    }

    pub(super) fn remove(&mut self, id: ObserverId) {
        self.all.retain(|observing| observing.id != id);
    }

    /// Tells everybody what concerns them.
    pub(super) fn report(&mut self, events: &[Event]) {
        let Some(last) = events.last() else { return };
        for observing in &mut self.all {
            let concerns = |event: &&Event| event.revision >= observing.from && observing.keys.contains(&event.key);
            let matching: Vec<Event> = events.iter().filter(concerns).cloned().collect();
            if !matching.is_empty() {
                observing.observer.committed(&matching);
                observing.told = last.revision;
            }
        }
    }

    /// Tells those who do not know it yet that there is nothing more up to `revision`.
    pub(super) fn progress(&mut self, revision: u64) {
        for observing in self.all.iter_mut().filter(|observing| observing.told < revision) {
            observing.observer.progress(revision);
            observing.told = revision;
        }
    }
}
