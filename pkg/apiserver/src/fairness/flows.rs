//! What is counted of each flow schema at a priority level.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::exposition::Histogram;

use super::queues::Refused;

/// Upstream's buckets, in seconds.
const SECONDS: [f64; 11] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// By the names of the schemas.
#[derive(Debug, Default)]
pub(super) struct Flows(BTreeMap<Arc<str>, Flow>);

/// Of a schema.
#[derive(Debug)]
pub(super) struct Flow {
    pub waiting: usize,
    pub executing: usize,
    pub seats: usize,
    pub dispatched: u64,
    /// By upstream's reasons.
    pub refused: BTreeMap<&'static str, u64>,
    /// How long those waited that were served, and those that were not.
    pub waits: [Histogram<11>; 2],
    pub took: Histogram<11>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            waiting: 0,
            executing: 0,
            seats: 0,
            dispatched: 0,
            refused: BTreeMap::new(),
            waits: [Histogram::new(&SECONDS), Histogram::new(&SECONDS)],
            took: Histogram::new(&SECONDS),
        }
    }
}

impl Flows {
    fn of(&mut self, schema: &Arc<str>) -> &mut Flow {
        self.0.entry(schema.clone()).or_default()
    }

    pub fn waits(&mut self, schema: &Arc<str>) {
        self.of(schema).waiting += 1;
    }

    /// One waits no longer; whether it is served now.
    pub fn waited(&mut self, schema: &Arc<str>, wait: Duration, served: bool) {
        let flow = self.of(schema);
        flow.waiting -= 1;
        flow.waits[usize::from(!served)].observe(wait.as_secs_f64());
    }

    pub fn refused(&mut self, schema: &Arc<str>, why: Refused) {
        *self.of(schema).refused.entry(why.reason()).or_default() += 1;
    }

    pub fn begins(&mut self, schema: &Arc<str>, seats: usize) {
        let flow = self.of(schema);
        flow.dispatched += 1;
        flow.executing += 1;
        flow.seats += seats;
    }

    pub fn ends(&mut self, schema: &Arc<str>, seats: usize, took: Duration) {
        let flow = self.of(schema);
        flow.executing -= 1;
        flow.seats -= seats;
        flow.took.observe(took.as_secs_f64());
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Flow)> {
        self.0.iter()
    }

    /// Forgets schemas that are gone, once nobody of them is there.
    pub fn keep(&mut self, is_known: impl Fn(&str) -> bool) {
        self.0.retain(|schema, flow| flow.waiting > 0 || flow.executing > 0 || is_known(schema));
    }
}
