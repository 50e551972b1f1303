//! DELETE of an object, or of all that match.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, verbs};

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode::message;
use crate::input::negotiate::{self, Offer};
use crate::listing;
use crate::objects::{named, registry_request};
use crate::output::respond;
use crate::output::{items, object as shown};
use crate::server::ApiServer;

/// Kinds that answer a delete with the object itself, as upstream.
const SHOWN: [(&str, &[&str]); 3] = [
    (
        "",
        &[
            "pods",
            "services",
            "persistentvolumes",
            "persistentvolumeclaims",
            "podtemplates",
            "resourcequotas",
            "serviceaccounts",
        ],
    ),
    ("resource.k8s.io", &["deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"]),
    ("storage.k8s.io", &["csidrivers", "csinodes", "storageclasses", "volumeattachments"]),
];

pub(crate) async fn one(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    let bytes = admitted.request.body().read().await?;
    let options = options(&admitted, &bytes)?;
    named(&admitted.info.name)?;
    verbs::check_options(&options)?;
    warn(&admitted, served, &options);
    let mut request = registry_request(server, &admitted, served)?;
    request.dry_run |= options.dry_run.iter().any(|d| d == "All");
    match verbs::delete(&request, &options).await? {
        verbs::Deleted::Gone(object) if !is_shown(served) => {
            let uid = object.text(&["metadata", "uid"]);
            let status = Status::deleted(&served.group_resource(), &admitted.info.name, uid);
            respond::status(StatusCode::OK, &status, accepted.format)
        }
        verbs::Deleted::Gone(object) | verbs::Deleted::Marked(object) => {
            shown::show_value(server, &admitted, served, &object, StatusCode::OK, accepted)
        }
    }
}

/// Warns who does not say what becomes of dependents, and may be surprised.
fn warn(admitted: &Admitted, served: &Served, options: &verbs::DeleteOptions) {
    if options.propagation_policy.is_none() && options.orphan_dependents.is_none() {
        admitted.notes.warn_all(served.strategy.warning_of_deletion().map(str::to_owned));
    }
}

fn is_shown(served: &Served) -> bool {
    let (group, plural) = (&*served.info.group, &*served.info.plural);
    SHOWN.iter().any(|(known, plurals)| *known == group && plurals.contains(&plural))
}

/// Deletes what a list with the same options would show, and answers with that list. Objects are deleted one after the
/// other: when one is refused, those before it are gone, as upstream.
pub(crate) async fn collection(
    server: &ApiServer,
    admitted: Admitted,
    served: &Arc<Served>,
) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    let bytes = admitted.request.body().read().await?;
    let options = options(&admitted, &bytes)?;
    // They are wrong also where nothing is deleted.
    verbs::check_options(&options)?;
    let info = &admitted.info;
    let (selection, limit, scope) =
        (listing::selection(info, served)?, listing::limit(info)?, served.scope(&info.namespace));
    warn(&admitted, served, &options);
    let mut listing = listing::select(info, served, &scope, &selection, limit).await?;
    let meta = listing::list_meta(&listing, &scope, limit, &selection);
    let mut kept = Vec::with_capacity(listing.objects.len());
    // What is listed shares its bytes with the cache, and is all that is held of an object that has gone.
    for (key, object) in std::mem::take(&mut listing.objects) {
        let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
        let mut request = registry_request(server, &admitted, served)?;
        (request.namespace, request.name) = (namespace, name);
        request.dry_run |= options.dry_run.iter().any(|d| d == "All");
        match verbs::delete_in_collection(&request, &options).await {
            Ok(_) => kept.push((key, object)),
            // Somebody else deleted it first.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    items::respond(info, served, kept, &meta, accepted, server.clock.now()).await
}

/// The options: from the body, or from the query.
fn options(admitted: &Admitted, bytes: &Bytes) -> Result<verbs::DeleteOptions, Status> {
    if !bytes.is_empty() {
        let value = message(admitted.request.headers(), bytes, ("", "v1", "DeleteOptions"))?;
        return serde_json::from_value(value)
            .map_err(|e| Status::bad_request(format!("error decoding DeleteOptions: {e}")));
    }
    let info = &admitted.info;
    let mut options = verbs::DeleteOptions::default();
    match info.param("gracePeriodSeconds") {
        "" => {}
        text => {
            let seconds =
                text.parse().map_err(|_| Status::bad_request(format!("invalid gracePeriodSeconds {text:?}")))?;
            options.grace_period_seconds = Some(seconds);
        }
    }
    let policy = info.param("propagationPolicy");
    options.propagation_policy = (!policy.is_empty()).then(|| policy.to_owned());
    if !info.param("orphanDependents").is_empty() {
        options.orphan_dependents = Some(info.flag("orphanDependents"));
    }
    let given = |name: &str| Some(info.param(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    let meant = verbs::Preconditions { uid: given("uid"), resource_version: given("resourceVersion") };
    options.preconditions = (meant.uid.is_some() || meant.resource_version.is_some()).then_some(meant);
    Ok(options)
}
