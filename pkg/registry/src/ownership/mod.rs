//! Who owns which fields of what is written: `metadata.managedFields` for every write, and server-side apply.
//!
//! Invariants: owners are settled on what the client wrote with its defaults, before admission and strategy change it, as upstream does:
//! what these add belongs to nobody until somebody writes it. What admission makes nonsense of is as it was before.

mod resets;
mod scale;
mod versions;

use std::borrow::Cow;

use jiff::Timestamp;
use kedge_base::time;
use kedge_fields::{ApplyError, FieldManager, Managed, Resets, entries, put_entries, take_entries};
use kedge_meta::{GroupVersion, Reason, Status, StatusCause, StatusDetails};
use kedge_schema::{KindInfo, SchemaRef};
use serde_json::Value;

use crate::attributes::{Admission, Attributes};
use crate::verbs::Request;

pub(crate) use resets::put_back_metadata;
pub use scale::{ScaleOwners, scale_owners};
use versions::{OneVersion, ServedVersions};

/// Who comes to own what a write changes.
#[derive(Debug, Clone)]
pub enum Writer<'a> {
    /// The field manager of this name.
    Manager(Cow<'a, str>),
    /// Whoever owned it before: the owners are in the object as it is written.
    Settled,
}

/// Notes in the object that is to be written in the place of `old` who owns what. Nothing is there yet when it is created.
///
/// # Errors
/// When too much would have to be converted for that.
pub(crate) async fn written(request: &Request<'_>, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    let Writer::Manager(manager) = &request.writer else { return Ok(()) };
    let before = request.served.waits().then(|| new.clone());
    loop {
        with_manager(request, |fields| fields.update(old, new, manager));
        if !request.later.came().await? {
            return Ok(());
        }
        if let Some(before) = &before {
            new.clone_from(before);
        }
    }
}

/// The object that a configuration makes of `old`, with its owners.
///
/// # Errors
/// As upstream words it: 409 when others own what would change, 400 and 500 when the configuration makes no sense.
pub fn apply(
    request: &Request<'_>,
    old: Option<&Value>,
    applied: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, Status> {
    with_manager(request, |fields| fields.apply(old, applied, manager, force)).map_err(refusal)
}

fn refusal(err: ApplyError) -> Status {
    match err {
        ApplyError::Malformed(text) => Status::bad_request(text),
        ApplyError::Failed(text) => Status::failure(500, Reason::Unknown, text),
        ApplyError::Conflicts(conflicts) => {
            let mut status = Status::failure(409, Reason::Conflict, conflicts.to_string());
            let cause = |conflict: &kedge_fields::Conflict| StatusCause {
                reason: "FieldManagerConflict".into(),
                message: conflict.message(),
                field: conflict.path.clone(),
            };
            let causes = conflicts.list().iter().map(cause).collect();
            status.details = Some(Box::new(StatusDetails { causes, ..StatusDetails::default() }));
            status
        }
    }
}

fn with_manager<'a, T>(request: &'a Request<'a>, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
    let info = &request.served.info;
    let versions = ServedVersions::of(request);
    work(&FieldManager {
        api_version: &info.api_version(),
        kind: &info.kind,
        subresource: request.subresource,
        schema: &info.schema,
        resets: resets::of(info, request.subresource),
        versions: &versions,
        now: &time::rfc3339(request.registry.clock.now()),
    })
}

/// Notes who owns what of an object that is answered and not stored: a review, a token request.
pub fn answered(kind: &KindInfo, subresource: &str, object: &mut Value, manager: &str, now: Timestamp) {
    let Some(schema) = SchemaRef::builtin_kind(&kind.group, &kind.version, &kind.kind) else { return };
    let api_version = GroupVersion::new(&kind.group, &kind.version).to_string();
    let versions = OneVersion { api_version: &api_version, schema: &schema };
    let fields = FieldManager {
        api_version: &api_version,
        kind: &kind.kind,
        subresource,
        schema: &schema,
        resets: Resets::All(&[]),
        versions: &versions,
        now: &time::rfc3339(now),
    };
    fields.update(None, object, manager);
}

/// Lets admission change an object, but not make nonsense of its owners.
///
/// # Errors
/// The refusal.
pub(crate) async fn admit(admission: &dyn Admission, attributes: &mut Attributes<'_>) -> Result<(), Status> {
    let before = entries(&attributes.object).cloned();
    admission.admit(attributes).await?;
    let after = entries(&attributes.object);
    if after == before.as_ref() {
        return Ok(());
    }
    if let Err(why) = Managed::decode(after) {
        attributes.warn(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated \
             mutating admission controller; please fix your requests: {why}"
        ));
        take_entries(&mut attributes.object);
        if let Some(before) = before {
            put_entries(&mut attributes.object, before);
        }
    }
    Ok(())
}

/// Whether an object is too large, and would be smaller if nobody owned its fields. Of one that is applied somebody must.
pub(crate) fn weigh_too_much(err: &kedge_storage::Error, request: &Request<'_>, object: &Value) -> bool {
    let too_large = matches!(err, kedge_storage::Error::Kv(kedge_kv::Error::TooLarge { .. }));
    too_large && matches!(request.writer, Writer::Manager(_)) && entries(object).is_some()
}

/// Forgets who owns the fields of an object.
pub(crate) fn disown(object: &mut Value) {
    take_entries(object);
}
