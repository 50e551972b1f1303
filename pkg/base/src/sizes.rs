//! Who keeps how much: caches, rings, queues and maps say how large they are, for metrics and for whoever looks for the
//! owner of a megabyte.
//!
//! The book is one for the process, as a process has one memory. It holds its owners weakly: what has gone is not listed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

/// How much an owner keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub entries: u64,
    /// An estimate of what the entries take; 0 where only their number is known.
    pub bytes: u64,
}

impl Size {
    /// That many entries of so many bytes together.
    pub fn new(entries: usize, bytes: usize) -> Self {
        Self { entries: entries as u64, bytes: bytes as u64 }
    }

    /// Entries whose bytes nobody counts.
    pub fn entries(entries: usize) -> Self {
        Self::new(entries, 0)
    }
}

/// Something whose size can be asked for at any time. It must not wait for anything but short locks.
pub trait Measured: Send + Sync {
    /// The parts that are listed apart, each with its name; the owner's own name comes before it.
    fn sizes(&self) -> Vec<(&'static str, Size)>;
}

struct Entry {
    owner: String,
    of: Weak<dyn Measured>,
}

static BOOK: LazyLock<Mutex<Vec<Entry>>> = LazyLock::new(Mutex::default);

/// Lists `of` from now on for as long as it lives; several may have the same name, and are added up.
pub fn list<T: Measured + 'static>(owner: impl Into<String>, of: &Arc<T>) {
    let of: Weak<T> = Arc::downgrade(of);
    let mut book = BOOK.lock();
    // Those that went are found here, so that the book does not grow with what comes and goes.
    book.retain(|entry| entry.of.strong_count() > 0);
    book.push(Entry { owner: owner.into(), of });
}

/// The size of everything that is listed, by owner and part.
pub fn all() -> BTreeMap<(String, &'static str), Size> {
    let owners: Vec<(String, Arc<dyn Measured>)> =
        BOOK.lock().iter().filter_map(|entry| Some((entry.owner.clone(), entry.of.upgrade()?))).collect();
    let mut all: BTreeMap<(String, &'static str), Size> = BTreeMap::new();
    for (owner, of) in owners {
        for (part, size) in of.sizes() {
            let sum = all.entry((owner.clone(), part)).or_default();
            sum.entries += size.entries;
            sum.bytes += size.bytes;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Three;

    impl Measured for Three {
        fn sizes(&self) -> Vec<(&'static str, Size)> {
            vec![("things", Size::new(3, 30))]
        }
    }

    #[test]
    fn those_of_one_name_are_added_up_and_what_has_gone_is_not_listed() {
        let (one, other) = (Arc::new(Three), Arc::new(Three));
        list("a test of sizes", &one);
        list("a test of sizes", &other);
        let key = ("a test of sizes".to_owned(), "things");
        assert_eq!(all().get(&key), Some(&Size::new(6, 60)));
        drop(other);
        assert_eq!(all().get(&key), Some(&Size::new(3, 30)));
        drop(one);
        assert_eq!(all().get(&key), None);
    }
}
