//! What the server puts back when an object is written, or one of its subresources: nobody comes to own that by such a write.

use kedge_fields::Resets;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use crate::value::ValueExt;

const NOTHING: &[&[&str]] = &[];
const STATUS: &[&[&str]] = &[&["status"]];
const SPEC: &[&[&str]] = &[&["spec"]];
const SPEC_AND_METADATA: &[&[&str]] = &[&["metadata"], &["spec"]];

/// The fields of a resource that a write has no say in.
pub(super) fn of(info: &ResourceInfo, subresource: &str) -> Resets<'static> {
    if subresource.is_empty() {
        return Resets::All(of_object(info));
    }
    match (&*info.group, &*info.plural, subresource) {
        ("", "pods", "ephemeralcontainers") => Resets::AllBut(&[&["spec", "ephemeralContainers"]]),
        ("", "pods", "resize") => Resets::AllBut(&[
            &["spec", "containers", "*", "resources"],
            &["spec", "containers", "*", "resizePolicy"],
            &["spec", "initContainers", "*", "resources"],
            &["spec", "initContainers", "*", "resizePolicy"],
        ]),
        ("", "namespaces", "finalize") => Resets::All(STATUS),
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
            Resets::All(&[&["spec"], &["status", "certificate"]])
        }
        (_, _, "status") => Resets::All(of_status(info)),
        _ => Resets::All(NOTHING),
    }
}

/// Takes labels and annotations from `old` where a write of the status has no say in them.
pub(crate) fn put_back_metadata(info: &ResourceInfo, new: &mut Value, old: &Value) {
    let fields: &[&str] = match of_status(info) {
        resets if resets.contains(&["metadata"].as_slice()) => &["labels", "annotations"],
        resets if resets.contains(&["metadata", "labels"].as_slice()) => &["labels"],
        _ => &[],
    };
    for field in fields {
        let was = old.at(&["metadata", field]).cloned();
        new["metadata"].set_or_remove(field, was);
    }
}

fn of_object(info: &ResourceInfo) -> &'static [&'static [&'static str]] {
    match (&*info.group, &*info.plural) {
        ("certificates.k8s.io", "certificatesigningrequests") => &[&["spec"], &["status"]],
        _ if info.subresource("status").is_some() => STATUS,
        _ => NOTHING,
    }
}

fn of_status(info: &ResourceInfo) -> &'static [&'static [&'static str]] {
    match (&*info.group, &*info.plural) {
        ("", "pods") => &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]],
        ("apps", "deployments") => &[&["spec"], &["metadata", "labels"]],
        ("certificates.k8s.io", "certificatesigningrequests") => &[&["spec"], &["status", "conditions"]],
        ("networking.k8s.io", "servicecidrs")
        | ("flowcontrol.apiserver.k8s.io", _)
        | ("storage.k8s.io", "volumeattachments")
        | ("admissionregistration.k8s.io", _)
        | ("apiregistration.k8s.io", "apiservices")
        | ("storagemigration.k8s.io", _)
        | ("resource.k8s.io", _) => SPEC_AND_METADATA,
        // Of kinds that came at run time the status is only the status.
        _ if info.schema.builtin().is_none() => SPEC_AND_METADATA,
        _ => SPEC,
    }
}
