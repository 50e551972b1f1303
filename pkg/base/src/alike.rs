//! Values that are alike, kept once.
//!
//! Thousands of pods come from one template. What a component reads of their specs is the same in all of them, and what is the
//! same need not be kept a thousand times.

use std::borrow::Borrow;
use std::sync::{Arc, PoisonError, Weak};

/// Gives out one shared value for those that are equal, as far as it remembers: the last ones that were asked for, and only
/// while somebody else holds them.
#[derive(Debug)]
pub struct Alike<T: ?Sized> {
    /// The most recently used last.
    recent: std::sync::Mutex<Vec<Weak<T>>>,
}

/// Comparing stops at the first difference, so that looking through this many costs little beside reading the object.
const REMEMBERED: usize = 16;

impl<T: Eq + ?Sized> Alike<T> {
    /// Remembers nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { recent: std::sync::Mutex::new(Vec::new()) }
    }

    /// The value, shared with those given before that are equal.
    pub fn share(&self, value: impl Borrow<T> + Into<Arc<T>>) -> Arc<T> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().enumerate().rev().find_map(|(at, weak)| {
            let known = weak.upgrade()?;
            (*known == *value.borrow()).then_some((at, known))
        });
        if let Some((at, known)) = found {
            recent[at..].rotate_left(1);
            return known;
        }
        let new: Arc<T> = value.into();
        if recent.len() == REMEMBERED {
            recent.remove(0);
        }
        recent.push(Arc::downgrade(&new));
        new
    }
}

impl<T: Eq + ?Sized> Default for Alike<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_while_somebody_holds_them() {
        let alike = Alike::<String>::new();
        let (a, b) = (alike.share("a".to_owned()), alike.share("b".to_owned()));
        assert!(Arc::ptr_eq(&a, &alike.share("a".to_owned())) && Arc::ptr_eq(&b, &alike.share("b".to_owned())));
        drop(a);
        assert_eq!(Arc::strong_count(&alike.share("a".to_owned())), 1, "nothing is kept for its own sake");
    }

    #[test]
    fn it_remembers_what_was_used_last() {
        let alike = Alike::<usize>::new();
        let first = alike.share(0);
        let others: Vec<_> = (1..REMEMBERED).map(|n| alike.share(n)).collect();
        assert!(Arc::ptr_eq(&first, &alike.share(0)));
        let more = alike.share(REMEMBERED);
        assert!(Arc::ptr_eq(&first, &alike.share(0)), "used since, so kept");
        assert!(!Arc::ptr_eq(&others[0], &alike.share(1)), "forgotten");
        drop(more);
    }
}
