//! Who owns which fields after a write.

use std::collections::BTreeMap;

use kedge_schema::SchemaRef;
use serde_json::{Map, Value};

use crate::compare::{Comparison, compare};
use crate::conflict::Conflicts;
use crate::entry::{Entry, EntryError, Managed, Manager, Operation, is_reset};
use crate::mismatch::Mismatches;
use crate::set::Set;
use crate::types::Type;
use crate::{cap, reconcile};

/// A manager without a name is called that.
const NAMELESS: &str = "unknown";

/// The versions that a kind is served in.
pub trait Versions {
    /// What its objects look like in a version. None if it is not served in that one.
    fn schema(&self, api_version: &str) -> Option<&SchemaRef>;

    /// The object in another version of those.
    ///
    /// # Errors
    /// Why it cannot be converted.
    fn convert(&self, object: &Value, from: &str, to: &str) -> Result<Value, String>;
}

/// Fields that a write has no say in: the server puts them back, so that nobody comes to own them by it.
#[derive(Clone, Copy, Debug)]
pub enum Resets<'a> {
    /// These, and what is below them.
    All(&'a [&'a [&'a str]]),
    /// All but these ways, on which `*` is any step.
    AllBut(&'a [&'a [&'a str]]),
}

/// Keeps `metadata.managedFields` for the objects of a kind in a version, or for one of its subresources.
pub struct FieldManager<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub schema: &'a SchemaRef,
    pub resets: Resets<'a>,
    pub versions: &'a dyn Versions,
    /// RFC 3339 in UTC, to seconds.
    pub now: &'a str,
}

/// Why it cannot be said who owns what.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("failed to compare objects: {0}")]
    Compare(#[from] Mismatches),
    #[error("failed to decode managed fields: {0}")]
    Entry(#[from] EntryError),
    #[error("failed to convert object: {0}")]
    Convert(String),
}

impl From<crate::codec::FieldsError> for Failure {
    fn from(err: crate::codec::FieldsError) -> Self {
        Self::Entry(err.into())
    }
}

impl FieldManager<'_> {
    pub(crate) fn ty(&self) -> Type<'_> {
        Type::of(self.schema)
    }

    pub(crate) fn manager(&self, name: &str, operation: Operation) -> Manager {
        Manager {
            name: if name.is_empty() { NAMELESS } else { name }.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
        }
    }

    /// Writes into `new`, which is to be stored in the place of `live`, who owns what of it: the manager all that it changes. Without
    /// `live` it is created. What cannot be told is left out, as upstream does.
    pub fn update(&self, live: Option<&Value>, new: &mut Value, manager: &str) {
        let given = take_entries(new);
        let stored = live.and_then(entries);
        let given = match given.as_ref() {
            // A subresource has no say in who owns what, and those who give back what they got say nothing.
            Some(given) if self.subresource.is_empty() && stored != Some(given) => read(given),
            _ => None,
        };
        // What nobody tracks is not tracked from somewhere in the middle on.
        let is_tracked = match &given {
            Some(managed) => !managed.is_empty(),
            None => stored.and_then(Value::as_array).is_some_and(|list| !list.is_empty()),
        };
        if !is_tracked && live.is_some() {
            return;
        }
        if let Ok(Some(list)) = self.updated(live, new, given, manager) {
            put_entries(new, list);
        }
    }

    /// The owners after a write, of those that it gives, or else of those that are stored.
    fn updated(
        &self,
        live: Option<&Value>,
        new: &Value,
        given: Option<Managed>,
        manager: &str,
    ) -> Result<Option<Value>, Failure> {
        let stored = live.and_then(entries);
        let zero;
        let live = match live {
            Some(live) => live,
            None => {
                zero = self.zero();
                &zero
            }
        };
        let comparison = self.compared(self.ty(), live, new)?;
        let managed = match (given, stored) {
            (Some(given), _) => given,
            (None, Some(stored)) if comparison.is_same() => return Ok(Some(stored.clone())),
            (None, stored) => Managed::trusted(stored)?,
        };
        let managed = self.reconciled(managed)?;
        Ok(self.take_over(live, new, comparison, managed, manager)?.encode())
    }

    /// Gives a manager what was changed.
    pub(crate) fn take_over(
        &self,
        live: &Value,
        new: &Value,
        comparison: Comparison,
        managed: Managed,
        manager: &str,
    ) -> Result<Managed, Failure> {
        let changed = comparison.modified.clone().union(comparison.added.clone());
        let (mut managed, _) = self.disown(live, new, comparison, managed, None, true)?;
        if changed.is_empty() {
            return Ok(cap::cap(managed));
        }
        let manager = self.manager(manager, Operation::Update);
        let time = Some(self.now.to_owned());
        match managed.find(&manager) {
            Some(at) => {
                let previous = managed.0[at].take_set()?;
                managed.0[at] = Entry::new(manager, time, previous.union(changed));
            }
            None => managed.0.push(Entry::new(manager, time, changed)),
        }
        Ok(cap::cap(managed))
    }

    /// Takes what changed from everybody but `own`, if that may be done by force; otherwise says who would have to give.
    pub(crate) fn disown(
        &self,
        live: &Value,
        new: &Value,
        comparison: Comparison,
        mut managed: Managed,
        own: Option<&Manager>,
        force: bool,
    ) -> Result<(Managed, Conflicts), Failure> {
        let own = own.and_then(|own| managed.find(own));
        let mut by_version: BTreeMap<String, Option<(Set, Set)>> = BTreeMap::new();
        let sides = |comparison: Comparison| (comparison.modified.union(comparison.added), comparison.removed);
        by_version.insert(self.api_version.to_owned(), Some(sides(comparison)));
        let mut conflicts = Conflicts::default();
        let mut gone = Vec::new();
        for (at, entry) in managed.0.iter_mut().enumerate() {
            if own == Some(at) {
                continue;
            }
            let version = entry.manager.api_version.clone();
            if !by_version.contains_key(&version) {
                let other = self.compared_in(live, new, &version)?.map(sides);
                by_version.insert(version.clone(), other);
            }
            let Some(Some((changed, removed))) = by_version.get(&version) else {
                // Nobody can tell any more what a version says that is not served.
                gone.push(at);
                continue;
            };
            if !entry.touches(changed) && !entry.touches(removed) {
                continue;
            }
            if !force {
                conflicts.add(&entry.manager.clone(), entry.set()?.intersection(changed));
            }
            let set = entry.set()?;
            *set = std::mem::take(set).difference(changed).difference(removed);
        }
        gone.into_iter().rev().for_each(|at| drop(managed.0.remove(at)));
        managed.drop_empty();
        Ok((managed, conflicts))
    }

    /// What differs between two objects, without what the server puts back and what nobody owns.
    pub(crate) fn compared(&self, ty: Type<'_>, live: &Value, new: &Value) -> Result<Comparison, Failure> {
        Ok(compare(ty, live, new)?.map(|set| strip(self.filter(set))))
    }

    fn compared_in(&self, live: &Value, new: &Value, version: &str) -> Result<Option<Comparison>, Failure> {
        let Some(schema) = self.versions.schema(version) else { return Ok(None) };
        let convert = |object| self.versions.convert(object, self.api_version, version).map_err(Failure::Convert);
        self.compared(Type::of(schema), &convert(live)?, &convert(new)?).map(Some)
    }

    pub(crate) fn filter(&self, set: Set) -> Set {
        match self.resets {
            Resets::All(paths) => set.recursive_difference(&Set::of_fields(paths)),
            Resets::AllBut(ways) => set.along(ways),
        }
    }

    /// Brings sets up to the schema of today. That of a built-in type is the one that they were written by.
    pub(crate) fn reconciled(&self, mut managed: Managed) -> Result<Managed, Failure> {
        for entry in &mut managed.0 {
            let schema = self.versions.schema(&entry.manager.api_version);
            if let Some(ty) = schema.map(Type::of).filter(|ty| ty.may_change()) {
                let set = entry.set()?;
                *set = reconcile::reconcile(ty, std::mem::take(set));
            }
        }
        Ok(managed)
    }

    /// The object that is there before one is created.
    pub(crate) fn zero(&self) -> Value {
        let mut zero = Value::Object(Map::new());
        self.schema.normalize(&mut zero);
        if let Value::Object(map) = &mut zero {
            map.insert("apiVersion".into(), self.api_version.into());
            map.insert("kind".into(), self.kind.into());
        }
        zero
    }
}

/// The owners that a client gives. None if they make no sense, or are none: clients that know nothing of them do not take them away.
fn read(given: &Value) -> Option<Managed> {
    if is_reset(Some(given)) {
        return Some(Managed::default());
    }
    Managed::decode(Some(given)).ok().filter(|managed| !managed.is_empty())
}

/// What is the same for all writers of an object, or is the server's.
pub(crate) fn strip(set: Set) -> Set {
    const NOBODYS: [&[&str]; 12] = [
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ];
    static SET: std::sync::LazyLock<Set> = std::sync::LazyLock::new(|| Set::of_fields(&NOBODYS));
    set.difference(&SET)
}

/// `metadata.managedFields` of an object.
pub fn entries(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields").filter(|list| !list.is_null())
}

/// Takes it out.
pub fn take_entries(object: &mut Value) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.remove("managedFields").filter(|list| !list.is_null())
}

/// Puts it in.
pub fn put_entries(object: &mut Value, list: Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.insert("managedFields".into(), list);
    }
}
