//! Create: fill in, admit, prepare, reserve, validate, store.

use kedge_meta::Status;
use serde_json::Value;

use super::{Request, Written};
use crate::attributes::{Attributes, Operation};
use crate::value::ValueExt;
use crate::{metadata, ownership};

/// How often a generated name that is taken is drawn again.
const NAME_ATTEMPTS: usize = 8;
/// How often something else is reserved in the place of what somebody else took, or what it was taken from has changed.
const CLAIM_ATTEMPTS: usize = 16;

/// Creates `object`, which has been decoded.
///
/// # Errors
/// The refusal, as upstream words it.
pub async fn create(request: &Request<'_>, mut object: Value) -> Result<Written, Status> {
    if !object.text(&["metadata", "resourceVersion"]).is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Status::failure(500, kedge_meta::Reason::Unknown, message));
    }
    request.set_defaults(&mut object);
    metadata::check_namespace(object.entry("metadata"), request.namespace)?;
    metadata::wipe(object.entry("metadata"));
    ownership::written(request, None, &mut object).await?;
    let generated = object.name().is_empty();
    let name = object.name().to_owned();
    let mut attributes = request.attributes(Operation::Create);
    attributes.name = &name;
    if request.served.is("", "namespaces") {
        attributes.namespace = &name;
    }
    attributes.object = object;
    ownership::admit(request.admission, &mut attributes).await?;
    let ctx = request.context();
    let strategy = &*request.served.strategy;
    let mut draft = std::mem::take(&mut attributes.object);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut object = draft.clone();
        metadata::fill(&mut object, request.namespace, ctx.now)?;
        if strategy.has_generation(&request.served.info) {
            object.entry("metadata").insert("generation".into(), 1.into());
        }
        let has_status = request.served.info.subresource("status").is_some();
        if has_status && request.subresource.is_empty() && !strategy.keeps_status_on_create() {
            drop_status(&mut object);
            if request.served.custom.is_some() {
                // What the schema says of a status that nobody has written.
                request.set_defaults(&mut object);
            }
        }
        strategy.prepare_for_create(&ctx, &mut object);
        if let Some(look) = strategy.look(&ctx, &object) {
            look.await?;
        }
        let mut reservation = strategy.reserve(&ctx, &mut object, None)?;
        request.normalize(&mut object);
        let mut errors = metadata::validate(&object, strategy);
        errors.extend(strategy.validate(&ctx, &object));
        if !errors.is_empty() {
            return Err(Status::invalid(&request.group_kind(), object.name(), &errors));
        }
        attributes.object = object;
        validate(request, &mut attributes).await?;
        let object = &attributes.object;
        request.notes.warn_all(strategy.warnings(&ctx, object, None));
        let key = request.served.key(request.namespace, object.name());
        if request.dry_run {
            let taken = match request.served.store.current(&key).await {
                // Whatever it is: it is there.
                Err(kedge_storage::Error::Unreadable { .. }) => true,
                current => current.map_err(|err| request.storage_error(object.name(), err))?.is_some(),
            };
            if taken {
                return Err(taken_name(request, &key, object).await);
            }
            // What could not be stored is not fine.
            request.stored_form(object).await?;
            return Ok(Written { object: attributes.object, created: true });
        }
        let with = request.with(&mut reservation, None, Some(object));
        let form = request.stored_form(object).await?;
        match request.served.store.create(&key, &form, with).await {
            Ok(stored) => {
                reservation.settle(true);
                let object = request.shown(std::mem::take(&mut attributes.object), &stored).await?;
                return Ok(Written { object, created: true });
            }
            // Better without owners than not at all.
            Err(err) if ownership::weigh_too_much(&err, request, &draft) => ownership::disown(&mut draft),
            Err(kedge_storage::Error::Exists) if generated && attempt < NAME_ATTEMPTS => {}
            // Another server took what was reserved: drawn again, or refused, once that is seen here.
            Err(kedge_storage::Error::Claimed(_)) if attempt < CLAIM_ATTEMPTS => {
                request.served.store.fresh().await.map_err(|err| request.storage_error(object.name(), err))?;
            }
            Err(kedge_storage::Error::Exists) => return Err(taken_name(request, &key, object).await),
            Err(err) => return Err(request.storage_error(object.name(), err)),
        }
    }
}

/// Lets admission see what will be stored, under the name that it will have.
async fn validate(request: &Request<'_>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
    if !attributes.name.is_empty() {
        return request.admission.validate(attributes).await;
    }
    let name = attributes.object.name().to_owned();
    let mut named = attributes.named(&name);
    let validated = request.admission.validate(&named).await;
    attributes.object = std::mem::take(&mut named.object);
    validated
}

/// 409 for a name that is taken, perhaps by something that is about to go.
async fn taken_name(request: &Request<'_>, key: &str, new: &Value) -> Status {
    let mut status = Status::already_exists(&request.group_resource(), new.name());
    let current = request.served.store.current(key).await.ok().flatten();
    let object = current.and_then(|object| crate::convert::read(request.served, &object).ok());
    if object.is_some_and(|object| !object.text(&["metadata", "deletionTimestamp"]).is_empty()) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    // Upstream looks only at whether one might have been made.
    if new.text(&["metadata", "generateName"]).is_empty() { status } else { status.name_not_generated() }
}

/// A creator does not set status; what the kind always has comes back when the object is normalized.
fn drop_status(object: &mut Value) {
    object.set_or_remove("status", None);
}
