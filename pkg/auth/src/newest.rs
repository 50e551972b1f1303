//! A value made of others that change: made anew when it is wanted and they have changed, by one who wants it.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

/// A value and the version of what it was made of.
#[derive(Debug)]
pub(crate) struct Newest<V, T> {
    made: RwLock<Option<(V, Arc<T>)>>,
    making: Mutex<()>,
}

// === impl Newest ===

impl<V, T> Default for Newest<V, T> {
    fn default() -> Self {
        Self { made: RwLock::new(None), making: Mutex::new(()) }
    }
}

impl<V: PartialEq, T> Newest<V, T> {
    /// The value of the version that there is, or of a later one. Others who want it while one makes it wait, since an older one is
    /// wrong for them.
    pub(crate) fn get(&self, version: impl Fn() -> V, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(value) = self.made_of(&version()) {
            return value;
        }
        let _making = self.making.lock();
        // Read before the value is made: what changes meanwhile has it made once more.
        let version = version();
        if let Some(value) = self.made_of(&version) {
            return value;
        }
        let value = Arc::new(make());
        *self.made.write() = Some((version, value.clone()));
        value
    }

    fn made_of(&self, version: &V) -> Option<Arc<T>> {
        self.made.read().as_ref().filter(|(of, _)| of == version).map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// After each change of a role every request that came meanwhile once compiled all roles of the cluster for itself.
    #[test]
    fn one_makes_it_and_the_others_wait() {
        const ASKERS: usize = 8;
        let (newest, asked, made) = (Newest::<u64, u64>::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = || {
            let first = Cell::new(true);
            let version = || {
                if first.replace(false) {
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                7
            };
            let make = || {
                made.fetch_add(1, Ordering::SeqCst);
                // Not made before all have seen that it is not there.
                while asked.load(Ordering::SeqCst) < ASKERS {
                    thread::yield_now();
                }
                42
            };
            *newest.get(version, make)
        };
        thread::scope(|scope| {
            let askers: Vec<_> = (0..ASKERS).map(|_| scope.spawn(ask)).collect();
            assert!(askers.into_iter().all(|asker| asker.join().unwrap() == 42));
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_change_is_seen_at_once_also_one_that_comes_while_it_is_made() {
        let (newest, version) = (Newest::<u64, u64>::default(), Cell::new(1));
        let current = || version.get();
        let during = || {
            version.set(2);
            10
        };
        assert_eq!(*newest.get(current, during), 10);
        assert_eq!(*newest.get(current, || 20), 20, "it may lack what changed");
        assert_eq!(*newest.get(current, || unreachable!("nothing has changed")), 20);
        version.set(3);
        assert_eq!(*newest.get(current, || 30), 30);
    }
}
