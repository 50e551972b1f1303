//! Server-side apply: an object becomes what its managers want together.
//!
//! Invariants: what the manager named before, names no more, and nobody else names, goes; what others own is only changed by force; an
//! apply that changes nothing leaves object and times as they are.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::collect::set_of;
use crate::conflict::Conflicts;
use crate::element::same;
use crate::entry::{Entry, Managed, Operation};
use crate::last_applied;
use crate::manager::{Failure, FieldManager, entries, put_entries, strip, take_entries};
use crate::merge::merge;
use crate::remove::remove;
use crate::set::Set;
use crate::types::Type;
use crate::validate::validate;

/// Whom the fields belong to that an object had when it was first applied and nobody was known to own.
const BEFORE_FIRST: &str = "before-first-apply";

/// Why a configuration is not applied, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The request makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// Others own what would be changed.
    #[error("{0}")]
    Conflicts(Conflicts),
    /// Object and configuration do not fit together.
    #[error("{0}")]
    Failed(String),
}

impl From<Failure> for ApplyError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

impl FieldManager<'_> {
    /// The object that `live` becomes by a configuration; without `live` it is created. It has its defaults.
    ///
    /// # Errors
    /// Why it does not become anything.
    pub fn apply(
        &self,
        live: Option<&Value>,
        applied: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, ApplyError> {
        self.check_kind(applied)?;
        let zero = self.zero();
        let live = live.unwrap_or(&zero);
        let managed = Managed::decode(entries(live)).map_err(Failure::from)?;
        let mut object = match self.attempt(live, applied, managed.clone(), manager, force) {
            // What client-side apply has set is kubectl's to change.
            Err(ApplyError::Conflicts(conflicts)) if manager == last_applied::MANAGER => {
                match last_applied::owned(self, live).map(|own| conflicts.clone().without(&own)) {
                    Some(left) if left.is_empty() => self.attempt(live, applied, managed, manager, true)?,
                    Some(left) => return Err(ApplyError::Conflicts(left)),
                    None => return Err(ApplyError::Conflicts(conflicts)),
                }
            }
            done => done?,
        };
        if manager == last_applied::MANAGER {
            last_applied::follow(&mut object, applied);
        }
        Ok(object)
    }

    fn check_kind(&self, applied: &Value) -> Result<(), ApplyError> {
        let text = |field: &str| applied.get(field).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if (api_version, kind) != (self.api_version, self.kind) {
            return Err(ApplyError::Malformed(format!("invalid object type: {}", gvk(api_version, kind))));
        }
        if entries(applied).is_some() {
            return Err(ApplyError::Malformed("metadata.managedFields must be nil".into()));
        }
        Ok(())
    }

    fn attempt(
        &self,
        live: &Value,
        applied: &Value,
        mut managed: Managed,
        name: &str,
        force: bool,
    ) -> Result<Value, ApplyError> {
        if managed.is_empty() {
            let zero = self.zero();
            let comparison = self.compared(self.ty(), &zero, live)?;
            managed = self.take_over(&zero, live, comparison, managed, BEFORE_FIRST)?;
        }
        let ty = self.ty();
        validate(ty, applied, false).map_err(|why| {
            ApplyError::Failed(format!("failed to create typed patch object ({}): {why}", self.shown(applied)))
        })?;
        validate(ty, live, true).map_err(|why| {
            ApplyError::Failed(format!("failed to create typed live object ({}): {why}", self.shown(live)))
        })?;
        let mut managed = self.reconciled(managed)?;
        let merged =
            merge(ty, live, applied).map_err(|why| ApplyError::Failed(format!("failed to merge config: {why}")))?;
        let set = self.filter(set_of(ty, applied));
        let manager = self.manager(name, Operation::Apply);
        let last = managed.find(&manager).map(|at| managed.0.remove(at));
        let (last, time) = match last {
            Some(mut entry) => {
                let version = entry.manager.api_version.clone();
                (Some((version, entry.take_set().map_err(Failure::from)?)), entry.time)
            }
            None => (None, None),
        };
        managed.0.push(Entry::new(manager.clone(), time, set));
        let new = match last {
            Some((version, last)) if !last.is_empty() => self.prune(merged, &version, &last, &mut managed)?,
            _ => merged,
        };
        let comparison = self.compared(ty, live, &new)?;
        let (mut managed, conflicts) = self.disown(live, &new, comparison, managed, Some(&manager), force)?;
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
        let changed = !same(live, &new);
        if let Some(at) = managed.find(&manager) {
            let set = managed.0[at].set().map_err(Failure::from)?;
            *set = strip(std::mem::take(set));
            if changed {
                managed.0[at].time = Some(self.now.to_owned());
            }
        }
        managed.drop_empty();
        let mut object = if changed { self.finished(new, applied)? } else { live.clone() };
        take_entries(&mut object);
        if let Some(list) = managed.encode() {
            put_entries(&mut object, list);
        }
        Ok(object)
    }

    /// As the object would have come in another way: decoded, and with its defaults.
    fn finished(&self, mut object: Value, applied: &Value) -> Result<Value, ApplyError> {
        take_entries(&mut object);
        let conformed = match self.schema.structural() {
            Some(schema) => schema.prune_applied(&mut object),
            None => self.schema.conform(&mut object, &mut Vec::new()),
        };
        conformed.map_err(|why| {
            let what = format!("failed to convert new object ({}) to proper version", self.shown(applied));
            ApplyError::Failed(format!("{what} ({}): {why}", self.api_version))
        })?;
        self.schema.default(&mut object);
        Ok(object)
    }

    /// Takes away what the manager applied last time, does not apply now, and nobody else owns.
    fn prune(&self, merged: Value, version: &str, last: &Set, managed: &mut Managed) -> Result<Value, ApplyError> {
        let Some(schema) = self.versions.schema(version) else { return Ok(merged) };
        let ty = Type::of(schema);
        let merged = self.convert(&merged, self.api_version, version)?;
        let last = last.clone().with_named_fields(Some(ty));
        let pruned = remove(ty, merged.clone(), &last);
        let (pruned, at) = self.add_owned(&merged, pruned, version, managed)?;
        let pruned = self.convert(&pruned, &at, version)?;
        // What was removed and was not applied by this manager the last time comes back.
        let had = set_of(ty, &merged).with_named_fields(Some(ty));
        let has = set_of(ty, &pruned).with_named_fields(Some(ty));
        let pruned = remove(ty, merged, &had.difference(&has).intersection(&last));
        self.convert(&pruned, version, self.api_version)
    }

    /// Puts back what somebody owns. Returns the object and its version.
    fn add_owned(
        &self,
        merged: &Value,
        pruned: Value,
        version: &str,
        managed: &mut Managed,
    ) -> Result<(Value, String), ApplyError> {
        let mut owned: BTreeMap<String, Set> = BTreeMap::new();
        for entry in &mut managed.0 {
            let set = entry.set().map_err(Failure::from)?.clone();
            let slot = owned.entry(entry.manager.api_version.clone()).or_default();
            *slot = std::mem::take(slot).union(set);
        }
        // The version itself first: another may need what was removed to be converted to.
        let mut order: Vec<(String, Set)> = owned.remove_entry(version).into_iter().collect();
        order.extend(owned);
        let (mut merged, mut pruned, mut at) = (merged.clone(), pruned, version.to_owned());
        for (version, owned) in order {
            let Some(schema) = self.versions.schema(&version) else { continue };
            let ty = Type::of(schema);
            merged = self.convert(&merged, &at, &version)?;
            pruned = self.convert(&pruned, &at, &version)?;
            at = version;
            let had = set_of(ty, &merged).with_named_fields(Some(ty));
            let has = set_of(ty, &pruned).with_named_fields(Some(ty));
            let kept = has.union(owned.with_named_fields(Some(ty)));
            pruned = remove(ty, merged.clone(), &had.difference(&kept));
        }
        Ok((pruned, at))
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Result<Value, ApplyError> {
        if from == to {
            return Ok(object.clone());
        }
        self.versions.convert(object, from, to).map_err(|why| ApplyError::Failed(format!("failed to convert: {why}")))
    }

    /// Namespace, name and kind.
    fn shown(&self, object: &Value) -> String {
        let text = |field: &str| object.get("metadata").and_then(|meta| meta.get(field)).and_then(Value::as_str);
        let (namespace, name) = (text("namespace").unwrap_or_default(), text("name").unwrap_or_default());
        format!("{namespace}/{name}; {}", gvk(self.api_version, self.kind))
    }
}

/// As Go prints a group, version and kind.
fn gvk(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}
