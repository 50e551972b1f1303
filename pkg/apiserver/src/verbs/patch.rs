//! PATCH: JSON patch, merge patch, strategic merge patch.

use std::sync::Mutex;

use http::{HeaderMap, Response, StatusCode};
use kedge_meta::Status;
use kedge_patch as patch;
use kedge_registry::{Served, verbs};
use kedge_schema::{StrictError, TypeId};
use serde_json::Value;

use super::decode::{check_strict, decode_untyped};
use super::{get, registry_request};
use crate::body::{self, Body};
use crate::chain::Admitted;
use crate::server::ApiServer;
use crate::{negotiate, respond};

const TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// A decoded patch.
pub(crate) enum PatchBody {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

/// Reads a patch of the kind that the content type names.
pub(crate) fn patch_body(headers: &HeaderMap, bytes: &bytes::Bytes) -> Result<(PatchBody, Vec<StrictError>), Status> {
    let kind = match negotiate::content_type(headers) {
        "application/json-patch+json" => PatchBody::Json,
        "application/merge-patch+json" => PatchBody::Merge,
        "application/strategic-merge-patch+json" => PatchBody::Strategic,
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
            let mut status = Status::unsupported_media_type(&TYPES);
            status.message =
                format!("server-side apply is not supported yet - accepted media types include: {}", TYPES.join(", "));
            return Err(status);
        }
        _ => return Err(Status::unsupported_media_type(&TYPES)),
    };
    let decoded = decode_untyped(bytes, "patch")?;
    Ok((kind(decoded.value), decoded.strict))
}

impl PatchBody {
    /// Applies the patch to an object of a type.
    ///
    /// # Errors
    /// 400 for a patch that makes no sense, 422 for one that does not fit the object.
    pub(crate) fn apply(&self, current: &Value, ty: Option<TypeId>) -> Result<Value, Status> {
        let refused = |e: patch::PatchError| {
            let reason = match e.status_code() {
                400 => kedge_meta::Reason::BadRequest,
                413 => kedge_meta::Reason::RequestEntityTooLarge,
                422 => kedge_meta::Reason::Invalid,
                _ => kedge_meta::Reason::InternalError,
            };
            Status::failure(e.status_code(), reason, e.to_string())
        };
        match (self, ty) {
            (Self::Json(ops), _) => patch::json::apply(current, ops).map_err(refused),
            (Self::Merge(merge), _) => patch::merge::apply(current, merge).map_err(refused),
            (Self::Strategic(merge), Some(ty)) => patch::strategic::apply(current, merge, ty).map_err(refused),
            (Self::Strategic(_), None) => Err(Status::unsupported_media_type(&TYPES[..2])),
        }
    }
}

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers())?;
    let bytes = body::read(admitted.request.body().take()).await?;
    let (patch, mut strict) = patch_body(admitted.request.headers(), &bytes)?;
    let info = served.info;
    let found: Mutex<Vec<StrictError>> = Mutex::default();
    let transform = |old: Option<&Value>| {
        let old = old.ok_or_else(|| Status::not_found(&served.group_resource(), &admitted.info.name))?;
        let mut new = patch.apply(old, served.type_id())?;
        let mut errors = Vec::new();
        if let Some(ty) = served.type_id() {
            kedge_schema::conform(ty, &mut new, &mut errors).map_err(|e| {
                Status::bad_request(format!(
                    "{} in version {:?} cannot be handled as a {}: {e}",
                    info.kind, info.version, info.kind
                ))
            })?;
        }
        kedge_schema::defaults::apply(info.group, info.version, info.kind, &mut new);
        if let Ok(mut found) = found.lock() {
            *found = errors;
        }
        Ok(new)
    };
    let request = registry_request(server, &admitted, served)?;
    // A strict client is refused before anything is stored.
    let current = served.store.current(&served.key(request.namespace, request.name)).await;
    if let Some(current) = current.map_err(verbs::store_failure)? {
        transform(Some(&kedge_registry::convert::read(served, &current)?))?;
        strict.extend(found.lock().map(|mut f| std::mem::take(&mut *f)).unwrap_or_default());
    }
    let warnings = check_strict(&admitted.info, info.kind, info.version, &strict, false)?;
    let written = verbs::update(&request, &transform, verbs::UpdateOptions::default()).await?;
    let mut response = get::show_value(server, &admitted, served, &written.object, StatusCode::OK, accepted)?;
    respond::warn(&mut response, &[warnings, written.warnings].concat());
    Ok(response)
}
