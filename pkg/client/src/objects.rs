//! The objects of an informer, found by namespace and name.
//!
//! Invariant: an object is its own key. Its names are kept once, where they were read, and a look-up builds none.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::informer::Keyed;

/// What has a namespace and a name, in whatever form.
trait Named {
    fn names(&self) -> (&str, &str);
}

impl Named for (&str, &str) {
    fn names(&self) -> (&str, &str) {
        *self
    }
}

struct Entry<T>(Arc<T>);

impl<T: Keyed> Named for Entry<T> {
    fn names(&self) -> (&str, &str) {
        let metadata = self.0.metadata();
        (&metadata.namespace, &metadata.name)
    }
}

impl<'a, T: Keyed + 'a> Borrow<dyn Named + 'a> for Entry<T> {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn Named + '_ {}

impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Named + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names().cmp(&other.names())
    }
}

impl<T: Keyed> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl<T: Keyed> Eq for Entry<T> {}

impl<T: Keyed> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Keyed> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names().cmp(&other.names())
    }
}

/// Objects, ordered by namespace and name.
pub(crate) struct Objects<T>(BTreeSet<Entry<T>>);

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<T> Objects<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.iter().map(|entry| &entry.0)
    }
}

impl<T: Keyed> Objects<T> {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.0.get(&(namespace, name) as &dyn Named).map(|entry| &entry.0)
    }

    /// The objects of a namespace.
    pub(crate) fn of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<T>> {
        let first = Bound::Included(&(namespace, "") as &dyn Named);
        self.0
            .range::<dyn Named, _>((first, Bound::Unbounded))
            .map(|entry| &entry.0)
            .take_while(move |o| o.metadata().namespace == namespace)
    }

    /// Puts an object in the place of the one of its name, which is returned.
    pub(crate) fn insert(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        self.0.replace(Entry(object)).map(|entry| entry.0)
    }

    /// Takes out the object of this one's name.
    pub(crate) fn remove(&mut self, object: &T) -> Option<Arc<T>> {
        let metadata = object.metadata();
        self.0.take(&(metadata.namespace.as_str(), metadata.name.as_str()) as &dyn Named).map(|entry| entry.0)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Arc<T>) -> bool) {
        self.0.retain(|entry| keep(&entry.0));
    }
}

impl<T: Keyed> FromIterator<T> for Objects<T> {
    fn from_iter<I: IntoIterator<Item = T>>(objects: I) -> Self {
        Self(objects.into_iter().map(|object| Entry(Arc::new(object))).collect())
    }
}
