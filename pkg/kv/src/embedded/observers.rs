//! Who is told of commits.

use std::sync::Arc;

use crate::api::{Event, KeyRange, Observer};

struct Observing {
    keys: KeyRange,
    observer: Arc<dyn Observer>,
    /// The revision that it knows everything up to.
    told: u64,
}

/// All observers. Whoever holds them keeps everything from being reported meanwhile.
#[derive(Default)]
pub(super) struct Observers(Vec<Observing>);

impl Observers {
    /// Adds one that knows everything up to `told`.
    pub(super) fn add(&mut self, keys: KeyRange, observer: Arc<dyn Observer>, told: u64) {
        self.0.push(Observing { keys, observer, told });
    }

    /// Tells everybody what concerns them.
    pub(super) fn report(&mut self, events: &[Event]) {
        let Some(last) = events.last() else { return };
        for observing in &mut self.0 {
            let concerns = |event: &&Event| observing.keys.contains(&event.key);
            let matching: Vec<Event> = events.iter().filter(concerns).cloned().collect();
            if !matching.is_empty() {
                observing.observer.committed(&matching);
                observing.told = last.revision;
            }
        }
    }

    /// Tells those who do not know it yet that there is nothing more up to `revision`.
    pub(super) fn progress(&mut self, revision: u64) {
        for observing in self.0.iter_mut().filter(|observing| observing.told < revision) {
            observing.observer.progress(revision);
            observing.told = revision;
        }
    }
}
