//! Delete: at once, or marked and left to finalizers and grace periods.

use std::sync::Arc;

use kedge_base::time;
use kedge_meta::field::{Error as FieldError, ErrorList, Path};
use kedge_meta::{GroupKind, GroupResource, Status};
use kedge_storage::{Error as StorageError, Object};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Request;
use crate::attributes::{Operation, Options};
use crate::convert;
use crate::strategy::Reservation;
use crate::value::ValueExt;

const ATTEMPTS: usize = 16;

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphan_dependents: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

/// `metav1.Preconditions`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// What came of a delete.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone; this is what it was.
    Gone(Value),
    /// It is marked and waits for finalizers or its grace period.
    Marked(Value),
}

/// Deletes an object.
///
/// # Errors
/// The refusal, as upstream words it.
pub async fn delete(request: &Request<'_>, options: &DeleteOptions) -> Result<Deleted, Status> {
    delete_as(request, options, request.name).await
}

/// Deletes an object of those that match. Admission sees each of them, under no name: that is what the client asked for.
///
/// # Errors
/// The refusal, as upstream words it.
pub async fn delete_in_collection(request: &Request<'_>, options: &DeleteOptions) -> Result<Deleted, Status> {
    delete_as(request, options, "").await
}

async fn delete_as(request: &Request<'_>, options: &DeleteOptions, admitted: &str) -> Result<Deleted, Status> {
    check_options(options)?;
    let key = request.served.key(request.namespace, request.name);
    let unreadable = |err| request.storage_error(request.name, err);
    let mut current = request.served.store.current(&key).await.map_err(unreadable)?;
    for _ in 0..ATTEMPTS {
        let Some(object) = current else { return Err(Status::not_found(&request.group_resource(), request.name)) };
        match attempt(request, &key, &object, options, admitted).await? {
            Outcome::Done(deleted) => return Ok(deleted),
            Outcome::Lost(newer) => current = newer,
        }
    }
    Err(Status::stale(&request.group_resource(), request.name))
}

/// What is wrong with the options, whatever object they are for.
///
/// # Errors
/// 422 with a cause for each.
pub fn check_options(options: &DeleteOptions) -> Result<(), Status> {
    let mut errors = ErrorList::new();
    let policy = options.propagation_policy.as_deref();
    if let Some(policy) = policy {
        let path = Path::new("propagationPolicy");
        if options.orphan_dependents.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy, why));
        }
        if !matches!(policy, "Orphan" | "Background" | "Foreground") {
            let valid = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported_of(&path, policy, &valid));
        }
    }
    if options.dry_run.iter().any(|value| value != "All") {
        errors.push(FieldError::not_supported(&Path::new("dryRun"), &options.dry_run, &["All"]));
    }
    let kind = GroupKind::new("meta.k8s.io", "DeleteOptions");
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&kind, "", &errors)) }
}

enum Outcome {
    Done(Deleted),
    Lost(Option<Arc<Object>>),
}

async fn attempt(
    request: &Request<'_>,
    key: &str,
    object: &Arc<Object>,
    options: &DeleteOptions,
    admitted: &str,
) -> Result<Outcome, Status> {
    let old = convert::read_later(request.served, object).await?;
    check_preconditions(request, &old, options)?;
    if is_pending(&old, options) {
        return Ok(Outcome::Done(Deleted::Marked(old)));
    }
    let mut attributes = request.attributes(Operation::Delete);
    (attributes.name, attributes.old, attributes.options) = (admitted, Some(&old), Options::Delete(options));
    request.admission.admit(&mut attributes).await?;
    request.admission.validate(&attributes).await?;
    let mut new = old.clone();
    let waits = mark(request, &mut new, options);
    let done = |object| Outcome::Done(if waits { Deleted::Marked(object) } else { Deleted::Gone(object) });
    if request.dry_run {
        return Ok(done(new));
    }
    let mut last = object.clone();
    if new != old {
        // As upstream, also when it goes at once: watchers see it marked before they see it gone.
        let with = request.with(&mut Reservation::none(), Some(&old), Some(&new));
        let form = request.stored_form(&new).await?;
        match request.served.store.update(key, &form, object.revision, with).await {
            Ok(stored) => {
                new = request.shown(new, &stored).await?;
                last = stored;
            }
            Err(StorageError::Conflict(newer)) => return Ok(Outcome::Lost(newer)),
            Err(err) => return Err(request.storage_error(request.name, err)),
        }
    }
    if waits {
        return Ok(done(new));
    }
    match request.served.store.delete(key, last.revision, request.with_deletion(&new)).await {
        Ok(_) => Ok(done(new)),
        // It was marked just now, and somebody who saw that was faster; what has taken its name since is another's.
        Err(StorageError::NotFound) if last.revision != object.revision => Ok(done(new)),
        Err(StorageError::Conflict(Some(newer))) if last.revision != object.revision && is_another(&newer, &new) => {
            Ok(done(new))
        }
        Err(StorageError::Conflict(newer)) => Ok(Outcome::Lost(newer)),
        Err(err) => Err(request.storage_error(request.name, err)),
    }
}

/// Whether what is stored is not the same object under the name. What cannot be read may be the same.
fn is_another(stored: &Object, object: &Value) -> bool {
    stored.to_value().is_ok_and(|stored| stored.text(&["metadata", "uid"]) != object.text(&["metadata", "uid"]))
}

fn check_preconditions(request: &Request<'_>, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let Some(preconditions) = &options.preconditions else { return Ok(()) };
    let pairs = [
        ("UID", "uid", &preconditions.uid, "deleted and then recreated"),
        ("ResourceVersion", "resourceVersion", &preconditions.resource_version, "modified"),
    ];
    for (title, field, wanted, happened) in pairs {
        let Some(wanted) = wanted.as_deref().filter(|w| !w.is_empty()) else { continue };
        let is = old.text(&["metadata", field]);
        if wanted != is {
            let why = format!(
                "the {title} in the precondition ({wanted}) does not match the {title} in record ({is}). \
                 The object might have been {happened}"
            );
            // Upstream names the kind where the resource belongs.
            let kind = request.group_kind();
            if kind.group.is_empty() && kind.kind == "Namespace" {
                let why =
                    format!("Precondition failed: {title} in precondition: {wanted}, {title} in object meta: {is}");
                return Err(Status::conflict(&request.group_resource(), request.name, &why));
            }
            return Err(Status::conflict(&GroupResource::new(&kind.group, &kind.kind), request.name, &why));
        }
    }
    Ok(())
}

/// Whether the object has a time to end which the delete does not shorten: nothing happens then, and nobody is asked.
fn is_pending(object: &Value, options: &DeleteOptions) -> bool {
    let Some(left) = object.int(&["metadata", "deletionGracePeriodSeconds"]).filter(|left| *left > 0) else {
        return false;
    };
    let asked = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    !object.text(&["metadata", "deletionTimestamp"]).is_empty() && asked.is_none_or(|asked| asked >= left)
}

/// Marks the object for deletion. Returns whether it has to wait; otherwise it can go now, and is marked if its kind has a time to end.
fn mark(request: &Request<'_>, object: &mut Value, options: &DeleteOptions) -> bool {
    let marked = !object.text(&["metadata", "deletionTimestamp"]).is_empty();
    let now = request.registry.clock.now();
    if !marked && request.served.strategy.mark_first(object, &time::rfc3339(now)) {
        return true;
    }
    set_propagation(request, object, options);
    // Less than nothing is a second, as upstream.
    let asked = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let grace = request.served.strategy.grace_period(object, asked);
    let pending = object.int(&["metadata", "deletionGracePeriodSeconds"]);
    let grace = match (grace, pending) {
        // A second delete may shorten the time that is left, not lengthen it.
        (Some(asked), Some(left)) if marked => Some(asked.min(left)),
        (asked, _) => asked,
    };
    let held = !object.list(&["metadata", "finalizers"]).is_empty()
        || (super::is_namespace(object) && !object.list(&["spec", "finalizers"]).is_empty());
    let waits = held || grace.is_some_and(|g| g > 0);
    if !waits && grace.is_none() {
        return false;
    }
    let seconds = grace.unwrap_or_default();
    if !marked || pending.is_some_and(|left| seconds < left) {
        let due = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
        let has_generation = request.served.strategy.has_generation(&request.served.info);
        let metadata = object.entry("metadata");
        metadata.insert("deletionTimestamp".into(), time::rfc3339(due).into());
        metadata.insert("deletionGracePeriodSeconds".into(), seconds.into());
        if let Some(generation) =
            metadata.get("generation").and_then(Value::as_i64).filter(|g| *g > 0 && has_generation)
        {
            metadata.insert("generation".into(), (generation + 1).into());
        }
    } else if pending.is_none() {
        // Its kind marked it the first time, and did not say how long it has.
        object.entry("metadata").insert("deletionGracePeriodSeconds".into(), seconds.into());
    }
    request.served.strategy.mark_deleted(object);
    waits
}

/// Adds or removes the finalizers by which the garbage collector knows what to do with dependents.
fn set_propagation(request: &Request<'_>, object: &mut Value, options: &DeleteOptions) {
    let had = |name: &str, object: &Value| object.list(&["metadata", "finalizers"]).iter().any(|f| f == name);
    let (orphan, foreground) = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        _ if !request.served.strategy.has_dependents() => (false, false),
        (Some("Orphan"), _) | (None, Some(true)) => (true, false),
        (Some("Foreground"), _) => (false, true),
        (Some(_), _) | (None, Some(false)) => (false, false),
        (None, None) if had("orphan", object) => (true, false),
        (None, None) if had("foregroundDeletion", object) => (false, true),
        (None, None) => (request.served.strategy.orphans_by_default(), false),
    };
    let was = object.list(&["metadata", "finalizers"]).to_vec();
    let mut finalizers: Vec<Value> =
        was.iter().filter(|f| *f != "orphan" && *f != "foregroundDeletion").cloned().collect();
    if orphan {
        finalizers.push(json!("orphan"));
    }
    if foreground {
        finalizers.push(json!("foregroundDeletion"));
    }
    let unchanged = finalizers.len() == was.len() && finalizers.iter().all(|f| was.contains(f));
    if !unchanged {
        let value = (!finalizers.is_empty()).then_some(Value::Array(finalizers));
        object["metadata"].set_or_remove("finalizers", value);
    }
}
