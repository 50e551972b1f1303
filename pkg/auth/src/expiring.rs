//! Answers that are kept for a while: the newest, bounded in number and in bytes.
//!
//! Keys are digests with a key of this process, so that neither a token nor what somebody asked about is kept, and nobody can find out
//! which of them would fall together.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kedge_base::random;
use kedge_base::sizes::{Measured, Size};
use parking_lot::Mutex;
use ring::hmac;

/// As upstream keeps of a webhook's answers.
const ENTRIES: usize = 8_192;
/// What the answers may take together.
const BYTES: usize = 8 << 20;
/// What an entry takes beside its answer.
const OVERHEAD: usize = 160;

/// What an answer is found by.
pub type Key = [u8; 32];

/// Answers, the one that was not used for the longest time first to go.
pub struct Expiring<V> {
    digests: hmac::Key,
    kept: Mutex<Kept<V>>,
}

struct Kept<V> {
    entries: HashMap<Key, Entry<V>>,
    /// By when they were used.
    order: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

struct Entry<V> {
    value: V,
    until: Duration,
    bytes: usize,
    used: u64,
}

impl<V> Default for Expiring<V> {
    /// Nothing yet.
    fn default() -> Self {
        let kept = Kept { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0 };
        Self { digests: hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()), kept: Mutex::new(kept) }
    }
}

impl<V: Clone> Expiring<V> {
    /// The key of a question, all of whose parts count, and where they end.
    pub fn key<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
        let mut context = hmac::Context::with_key(&self.digests);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut key = Key::default();
        key.copy_from_slice(context.sign().as_ref());
        key
    }

    /// What is kept and still counts; `now` is the clock's monotonic time.
    pub fn get(&self, key: &Key, now: Duration) -> Option<V> {
        let mut kept = self.kept.lock();
        let Kept { entries, order, uses, .. } = &mut *kept;
        let entry = entries.get_mut(key)?;
        if entry.until <= now {
            kept.forget(key);
            return None;
        }
        order.remove(&entry.used);
        *uses += 1;
        entry.used = *uses;
        order.insert(entry.used, *key);
        Some(entry.value.clone())
    }

    /// Keeps an answer of so many bytes until then.
    pub fn keep(&self, key: Key, value: V, bytes: usize, until: Duration) {
        let bytes = bytes + OVERHEAD;
        if bytes > BYTES / 8 {
            return;
        }
        let mut kept = self.kept.lock();
        kept.forget(&key);
        while kept.entries.len() >= ENTRIES || kept.bytes + bytes > BYTES {
            let Some((_, oldest)) = kept.order.pop_first() else { break };
            kept.forget(&oldest);
        }
        kept.uses += 1;
        let used = kept.uses;
        kept.order.insert(used, key);
        kept.bytes += bytes;
        kept.entries.insert(key, Entry { value, until, bytes, used });
    }
}

impl<V> Kept<V> {
    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}

impl<V: Send> Measured for Expiring<V> {
    fn sizes(&self) -> Vec<(&'static str, Size)> {
        let kept = self.kept.lock();
        vec![("answers", Size::new(kept.entries.len(), kept.bytes))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(of: &Expiring<u32>, part: &str) -> Key {
        of.key([part.as_bytes()])
    }

    #[test]
    fn an_answer_counts_until_its_time_has_come() {
        let answers = Expiring::default();
        let a = key(&answers, "a");
        answers.keep(a, 1, 10, SECOND * 5);
        assert_eq!((answers.get(&a, SECOND * 4), answers.get(&key(&answers, "b"), SECOND)), (Some(1), None));
        assert_eq!(answers.get(&a, SECOND * 5), None);
        assert_eq!(answers.sizes(), [("answers", Size::new(0, 0))], "it is gone");
    }

    #[test]
    fn parts_do_not_run_together_and_keys_are_those_of_one_process() {
        let (answers, others) = (Expiring::<u32>::default(), Expiring::<u32>::default());
        let parts = |of: &Expiring<u32>, parts: [&str; 2]| of.key(parts.map(str::as_bytes));
        assert_ne!(parts(&answers, ["ab", "c"]), parts(&answers, ["a", "bc"]));
        assert_eq!(parts(&answers, ["ab", "c"]), parts(&answers, ["ab", "c"]));
        assert_ne!(parts(&answers, ["ab", "c"]), parts(&others, ["ab", "c"]));
    }

    #[test]
    fn the_longest_unused_go_first_by_number_and_by_bytes() {
        let answers = Expiring::default();
        let keys: Vec<Key> = (0..=ENTRIES).map(|at| key(&answers, &at.to_string())).collect();
        for key in &keys[..ENTRIES] {
            answers.keep(*key, 1, 1, SECOND * 5);
        }
        assert_eq!(answers.get(&keys[0], SECOND), Some(1));
        answers.keep(keys[ENTRIES], 1, 1, SECOND * 5);
        assert_eq!((answers.get(&keys[0], SECOND), answers.get(&keys[1], SECOND)), (Some(1), None));
        for key in &keys[..20] {
            answers.keep(*key, 2, BYTES / 10, SECOND * 5);
        }
        let [(_, size)] = answers.sizes()[..] else { unreachable!() };
        assert!(size.entries < 20 && size.bytes <= BYTES as u64, "{size:?}");
        answers.keep(keys[30], 2, BYTES, SECOND * 5);
        assert_eq!(answers.get(&keys[30], SECOND), None, "what is too large is not kept");
    }
}
