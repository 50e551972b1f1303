//! An observer that remembers what it was told.

use std::sync::{Arc, Mutex};

use kedge_kv::{Event, Observer, Snapshot};
use tokio::sync::Notify;

use crate::engines::PATIENCE;

/// What an observer was told in one call.
#[derive(Debug, Clone)]
pub enum Told {
    Events(Vec<Event>),
    Progress(u64),
    Reset(Snapshot),
}

#[derive(Default)]
pub struct Recorder {
    told: Mutex<Vec<Told>>,
    more: Notify,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// All events, without the calls they came in.
    pub fn events(&self) -> Vec<Event> {
        self.calls().concat()
    }

    /// The events of each call.
    pub fn calls(&self) -> Vec<Vec<Event>> {
        let told = self.told();
        let events = told.into_iter().filter_map(|t| if let Told::Events(events) = t { Some(events) } else { None });
        events.collect()
    }

    /// Waits until `enough` says so of all events.
    pub async fn wait(&self, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let waiting = async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                let events = self.events();
                if enough(&events) {
                    return events;
                }
                more.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("the events do not come; until now: {:?}", self.events()))
    }

    fn tell(&self, told: Told) {
        self.told.lock().unwrap().push(told);
        self.more.notify_waiters();
    }
}

impl Observer for Recorder {
    fn committed(&self, events: &[Event]) {
        self.tell(Told::Events(events.to_vec()));
    }

    fn progress(&self, revision: u64) {
        self.tell(Told::Progress(revision));
    }

    fn reset(&self, state: Snapshot) {
        self.tell(Told::Reset(state));
    }
}
