//! Update and patch: one read-modify-write loop.

use kedge_meta::{GroupKind, Status};
use kedge_storage::{Error as StorageError, Object, With};
use serde_json::{Map, Value};
use std::sync::Arc;

use super::{Request, Written, create};
use crate::attributes::Operation;
use crate::strategy::{Context, keep_all_but_status};
use crate::value::ValueExt;
use crate::{convert, metadata, ownership};

/// How often a write that lost a race is done again on the newer object.
const ATTEMPTS: usize = 16;

/// Makes the wanted object out of the current one. May be called several times.
pub type Transform<'a> = dyn Fn(Option<&Value>) -> Result<Value, Status> + Send + Sync + 'a;

/// The kind that a subresource shows of an object (`Scale`). Transform and admission see that.
pub trait View: Send + Sync {
    /// What is shown of an object.
    ///
    /// # Errors
    /// What cannot be shown of it.
    fn show(&self, object: &Value) -> Result<Value, Status>;

    /// The object that what is shown makes of the old one.
    ///
    /// # Errors
    /// What is wrong with it.
    fn apply(&self, shown: &Value, old: &Value) -> Result<Value, Status>;
}

/// How an update is done.
#[derive(Clone, Copy, Default)]
pub struct UpdateOptions<'a> {
    /// Whether an object that does not exist is created (PUT of some kinds, apply).
    pub create: bool,
    /// Whether the UID that `transform` leaves names the life of the object that is meant (PUT). In a patch it is a field
    /// like others, that cannot be changed.
    pub meant_by_uid: bool,
    /// Whether `transform` leaves a whole object as a client wrote or patched it, without defaults.
    pub decoded: bool,
    /// For subresources of a kind of their own.
    pub view: Option<&'a dyn View>,
}

/// Replaces the object by what `transform` makes of it.
///
/// # Errors
/// The refusal, as upstream words it.
pub async fn update(
    request: &Request<'_>,
    transform: &Transform<'_>,
    options: UpdateOptions<'_>,
) -> Result<Written, Status> {
    let key = request.served.key(request.namespace, request.name);
    let unreadable = |err| request.storage_error(request.name, err);
    let mut current = request.served.store.current(&key).await.map_err(unreadable)?;
    for _ in 0..ATTEMPTS {
        let Some(object) = current else {
            if !options.create || !request.subresource.is_empty() {
                return Err(Status::not_found(&request.group_resource(), request.name));
            }
            return create(request, made(request, transform, None).await?).await;
        };
        match attempt(request, &key, &object, transform, options).await? {
            Outcome::Done(written) => return Ok(*written),
            Outcome::Lost(newer) => current = newer,
        }
    }
    Err(Status::stale(&request.group_resource(), request.name))
}

enum Outcome {
    Done(Box<Written>),
    /// Somebody else wrote first; this is what is there now.
    Lost(Option<Arc<Object>>),
}

async fn attempt(
    request: &Request<'_>,
    key: &str,
    object: &Arc<Object>,
    transform: &Transform<'_>,
    options: UpdateOptions<'_>,
) -> Result<Outcome, Status> {
    let old = convert::read_later(request.served, object).await?;
    let shown = options.view.map(|view| view.show(&old)).transpose()?;
    let seen = shown.as_ref().unwrap_or(&old);
    let mut wanted = made(request, transform, Some(seen)).await?;
    if options.decoded {
        request.set_defaults(&mut wanted);
    }
    metadata::check_namespace(wanted.entry("metadata"), request.namespace)?;
    metadata::check_name(&wanted, request.name)?;
    if options.meant_by_uid {
        check_uid(request, &wanted, &old)?;
    }
    ownership::written(request, Some(&old), &mut wanted).await?;
    // Who changes objects on their way sees what the client wants; the kind's own rules come after that.
    let mut attributes = request.attributes(Operation::Update);
    (attributes.object, attributes.old) = (wanted, Some(seen));
    ownership::admit(request.admission, &mut attributes).await?;
    let wanted = std::mem::take(&mut attributes.object);
    let mut new = options.view.map_or(Ok(None), |view| view.apply(&wanted, &old).map(Some))?.unwrap_or(wanted);
    check_version(request, &new, object.revision)?;
    let ctx = request.context();
    prepare(request, &ctx, &mut new, &old);
    if let Some(look) = request.served.strategy.look(&ctx, &new) {
        look.await?;
    }
    let mut reservation = finish(request, &ctx, &mut new, &old)?;
    attributes.object = match options.view {
        Some(view) => view.show(&new)?,
        None => std::mem::take(&mut new),
    };
    request.admission.validate(&attributes).await?;
    if options.view.is_none() {
        new = attributes.object;
    }
    request.notes.warn_all(request.served.strategy.warnings(&ctx, &new, Some(&old)));
    new["metadata"].set("resourceVersion", object.revision.to_string());
    kedge_fields::keep_times(&mut new, &old);
    // What is stored in another version than it would be now is written anew.
    let unchanged = new == old && request.served.store.is_current(object);
    if unchanged && !request.dry_run {
        return renew(request, key, object, Written { object: new, created: false }).await;
    }
    if request.dry_run {
        return Ok(Outcome::Done(Box::new(Written { object: new, created: false })));
    }
    if is_released(&new) {
        return delete_released(request, key, object, new).await;
    }
    let with = request.with(&mut reservation, Some(&old), Some(&new));
    match store(request, key, &mut new, object.revision, with).await? {
        Ok(stored) => {
            reservation.settle(true);
            let object = request.shown(new, &stored).await?;
            Ok(Outcome::Done(Box::new(Written { object, created: false })))
        }
        // Done again on the newer object: a write that is bound to the old version is refused there, others go through.
        Err(StorageError::Conflict(newer)) => Ok(Outcome::Lost(newer)),
        // Another server took what was reserved: drawn again, or refused, once that is seen here.
        Err(StorageError::Claimed(_)) => {
            request.served.store.fresh().await.map_err(|err| request.storage_error(request.name, err))?;
            Ok(Outcome::Lost(Some(object.clone())))
        }
        Err(err) => Err(request.storage_error(request.name, err)),
    }
}

/// What changes nothing still brings an object into the form, and under the key, in which it would be stored now: so do migrations.
async fn renew(request: &Request<'_>, key: &str, object: &Object, mut written: Written) -> Result<Outcome, Status> {
    match request.served.store.renew(key, object.revision).await {
        Ok(Some(renewed)) => written.object["metadata"].set("resourceVersion", renewed.revision.to_string()),
        Ok(None) => {}
        Err(StorageError::Conflict(newer)) => return Ok(Outcome::Lost(newer)),
        Err(err) => return Err(request.storage_error(request.name, err)),
    }
    Ok(Outcome::Done(Box::new(written)))
}

/// What `transform` makes of the current object, once it has all the conversions that it needs.
async fn made(request: &Request<'_>, transform: &Transform<'_>, current: Option<&Value>) -> Result<Value, Status> {
    loop {
        let made = transform(current);
        if !request.later.came().await? {
            return made;
        }
    }
}

/// Stores it; if it is too large with its owners, without them.
async fn store(
    request: &Request<'_>,
    key: &str,
    new: &mut Value,
    revision: u64,
    with: With,
) -> Result<Result<Arc<Object>, StorageError>, Status> {
    let store = &request.served.store;
    let stored = store.update(key, &*request.stored_form(new).await?, revision, with.clone()).await;
    match stored {
        Err(err) if ownership::weigh_too_much(&err, request, new) => {
            ownership::disown(new);
            Ok(store.update(key, &*request.stored_form(new).await?, revision, with).await)
        }
        other => Ok(other),
    }
}

/// A write that is bound to a version must be bound to the current one.
fn check_version(request: &Request<'_>, new: &Value, current: u64) -> Result<(), Status> {
    let written = new.text(&["metadata", "resourceVersion"]);
    if written.is_empty() || written == "0" {
        if request.served.strategy.allow_unconditional_update() {
            return Ok(());
        }
        let path = kedge_meta::field::Path::new("metadata").child("resourceVersion");
        let error = kedge_meta::field::Error::invalid(&path, 0, "must be specified for an update");
        // Upstream names the resource where the kind belongs.
        let kind = GroupKind::new(&request.served.info.group, &request.served.info.plural);
        return Err(Status::invalid(&kind, request.name, &vec![error]));
    }
    let Ok(version) = written.parse::<u64>() else {
        let path = kedge_meta::field::Path::new("metadata").child("resourceVersion");
        let error = kedge_meta::field::Error::invalid(&path, written, "strconv.ParseUint: parsing: invalid syntax");
        return Err(Status::invalid(&request.group_kind(), request.name, &vec![error]));
    };
    if version != current {
        return Err(Status::stale(&request.group_resource(), request.name));
    }
    Ok(())
}

/// A write that is meant for one life of an object must not hit another.
fn check_uid(request: &Request<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let (written, is) = (new.text(&["metadata", "uid"]), old.text(&["metadata", "uid"]));
    if written.is_empty() || written == is {
        return Ok(());
    }
    let key = request.served.store.full_key(&request.served.key(request.namespace, request.name));
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
         UID in precondition: {written}, UID in object meta: {is}"
    );
    Err(Status::conflict(&request.group_resource(), request.name, &why))
}

fn prepare(request: &Request<'_>, ctx: &Context<'_>, new: &mut Value, old: &Value) {
    let info = &request.served.info;
    metadata::carry_over(new, old);
    if request.subresource == "status" {
        let metadata = request.served.strategy.keeps_metadata_on_status().then(|| new["metadata"].clone());
        keep_all_but_status(new, old);
        match metadata {
            Some(metadata) => new.set("metadata", metadata),
            None => ownership::put_back_metadata(info, new, old),
        }
    } else if request.subresource.is_empty() && info.subresource("status").is_some() {
        new.set_or_remove("status", old.get("status").cloned());
    }
    request.served.strategy.prepare_for_update(ctx, new, old);
}

/// What follows admission: reserve, count the generation, validate.
fn finish(
    request: &Request<'_>,
    ctx: &Context<'_>,
    new: &mut Value,
    old: &Value,
) -> Result<crate::strategy::Reservation, Status> {
    let strategy = &*request.served.strategy;
    let reservation = strategy.reserve(ctx, new, Some(old))?;
    request.normalize(new);
    // Neither what is said of an object nor where it is put is a change of what is wanted.
    let counts = !matches!(request.subresource, "status" | "binding") && strategy.counts_changes(&request.served.info);
    let renoted = |field: &&str| new.at(&["metadata", *field]) != old.at(&["metadata", *field]);
    // A status that is written with the object is as much of it as all else.
    let apart = request.served.custom.is_none() || request.served.info.subresource("status").is_some();
    if counts && (content_differs(new, old, apart) || strategy.counted_metadata().iter().any(renoted)) {
        let generation = old.int(&["metadata", "generation"]).unwrap_or_default() + 1;
        new.entry("metadata").insert("generation".into(), generation.into());
    }
    let mut errors = metadata::validate_update(new, old);
    errors.extend(match request.subresource {
        "status" => strategy.validate_status_update(ctx, new, old),
        _ => strategy.validate_update(ctx, new, old),
    });
    if errors.is_empty() {
        return Ok(reservation);
    }
    Err(Status::invalid(&request.group_kind(), request.name, &errors))
}

/// Whether anything differs but metadata and, where that is a part of its own, the status.
fn content_differs(new: &Value, old: &Value, status_apart: bool) -> bool {
    let is_content = |name: &str| name != "metadata" && !(status_apart && name == "status");
    let content = |value: &Value| {
        let fields = value.as_object().into_iter().flatten().filter(|(name, _)| is_content(name));
        fields.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>()
    };
    content(new) != content(old)
}

/// An object that waits to be deleted goes when its last finalizer goes.
fn is_released(new: &Value) -> bool {
    let deleting = !new.text(&["metadata", "deletionTimestamp"]).is_empty();
    let waiting = new.int(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or_default() > 0;
    let spec_finalizers = !new.list(&["spec", "finalizers"]).is_empty() && super::is_namespace(new);
    deleting && !waiting && new.list(&["metadata", "finalizers"]).is_empty() && !spec_finalizers
}

async fn delete_released(request: &Request<'_>, key: &str, object: &Object, new: Value) -> Result<Outcome, Status> {
    match request.served.store.delete(key, object.revision, request.with_deletion(&new)).await {
        Ok(_) => Ok(Outcome::Done(Box::new(Written { object: new, created: false }))),
        Err(StorageError::Conflict(newer)) => Ok(Outcome::Lost(newer)),
        Err(err) => Err(request.storage_error(request.name, err)),
    }
}
