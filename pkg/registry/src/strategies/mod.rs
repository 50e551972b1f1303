//! The kinds' own rules, one kind a file.

mod allocators;
mod apps;
mod coordination;
mod core;
mod rbac;

pub(crate) use allocators::State;

use kedge_schema::ResourceInfo;

use crate::strategy::{Plain, Strategy};

/// The strategy of a resource.
pub(crate) fn strategy(group: &str, plural: &str) -> &'static dyn Strategy {
    match (group, plural) {
        ("", "events") | ("events.k8s.io", "events") => &core::event::Event,
        ("", "namespaces") => &core::namespace::Namespace,
        ("", "pods") => &core::pod::Pod,
        ("", "services") => &core::service::Service,
        ("coordination.k8s.io", "leases") => &coordination::lease::Lease,
        ("rbac.authorization.k8s.io", _) => &rbac::Rbac,
        _ => &Plain,
    }
}

const COMMON: &[&str] = &["metadata.name", "metadata.namespace"];
/// The fields that lists and watches of a resource can select by.
pub(crate) fn selectable_fields(info: &ResourceInfo) -> &'static [&'static str] {
    match (info.storage_group, info.plural) {
        ("", "pods") => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "metadata.name",
            "metadata.namespace",
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source.component",
            "type",
        ],
        ("", "nodes") => &["metadata.name", "metadata.namespace", "spec.unschedulable"],
        ("", "secrets") => &["metadata.name", "metadata.namespace", "type"],
        ("", "namespaces") => &["metadata.name", "metadata.namespace", "status.phase"],
        ("", "services") => &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => {
            &["metadata.name", "metadata.namespace", "status.replicas"]
        }
        ("batch", "jobs") => &["metadata.name", "metadata.namespace", "status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests") => {
            &["metadata.name", "metadata.namespace", "spec.signerName"]
        }
        _ => COMMON,
    }
}
