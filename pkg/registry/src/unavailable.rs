//! How often API services became unavailable, and why.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// So many pairs of names and reasons are counted.
const COUNTED: usize = 2_048;

/// Counters by name and reason.
#[derive(Default)]
pub struct Unavailable(Mutex<BTreeMap<(String, &'static str), u64>>);

impl Unavailable {
    /// One has become unavailable.
    pub fn count(&self, name: &str, reason: &'static str) {
        let mut all = self.0.lock();
        let key = (name.to_owned(), reason);
        if all.contains_key(&key) || all.len() < COUNTED {
            *all.entry(key).or_default() += 1;
        }
    }

    /// One has gone, and its counters with it.
    pub fn forget(&self, name: &str) {
        self.0.lock().retain(|(counted, _), _| counted != name);
    }

    /// All counters.
    pub fn all(&self) -> Vec<(String, &'static str, u64)> {
        self.0.lock().iter().map(|((name, reason), times)| (name.clone(), *reason, *times)).collect()
    }
}
