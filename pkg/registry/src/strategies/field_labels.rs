//! The labels that field selectors may use, of each kind in each version, and the fields that they mean.

use kedge_meta::Text;
use kedge_schema::ResourceInfo;
use kedge_storage::{Field, Fields};

const NAME: &str = "metadata.name";
const NAMESPACE: &str = "metadata.namespace";
/// Who has reported an event, by either of the ways to say it.
const SOURCE: &str = "source.component|reportingComponent";

/// A label and the stored field that it means.
type Label = (&'static str, &'static str);

const fn same(label: &'static str) -> Label {
    (label, label)
}

/// Kinds without an entry have name and namespace.
const COMMON: &[Label] = &[same(NAME), same(NAMESPACE)];
const PODS: &[Label] = &[
    same(NAME),
    same(NAMESPACE),
    same("spec.nodeName"),
    ("spec.host", "spec.nodeName"),
    same("spec.restartPolicy"),
    same("spec.schedulerName"),
    same("spec.serviceAccountName"),
    same("spec.hostNetwork"),
    same("status.phase"),
    same("status.podIP"),
    // As upstream, which takes the label and compares it with nothing.
    same("status.podIPs"),
    same("status.nominatedNodeName"),
];
const EVENTS: &[Label] = &[
    same(NAME),
    same(NAMESPACE),
    same("involvedObject.kind"),
    same("involvedObject.namespace"),
    same("involvedObject.name"),
    same("involvedObject.uid"),
    same("involvedObject.apiVersion"),
    same("involvedObject.resourceVersion"),
    same("involvedObject.fieldPath"),
    same("reason"),
    same("reportingComponent"),
    ("source", SOURCE),
    same("type"),
];
/// The newer group's own names of the same fields.
const NEWER_EVENTS: &[Label] = &[
    same(NAME),
    same(NAMESPACE),
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    same("reason"),
    ("reportingController", "reportingComponent"),
    same("type"),
];

/// Kinds with labels of their own, by group and plural.
const OWN: &[(&str, &str, &[Label])] = &[
    ("", "pods", PODS),
    ("", "events", EVENTS),
    ("events.k8s.io", "events", NEWER_EVENTS),
    ("", "nodes", &[same(NAME), same("spec.unschedulable")]),
    ("", "secrets", &[same(NAME), same(NAMESPACE), same("type")]),
    ("", "namespaces", &[same(NAME), same("status.phase")]),
    ("", "services", &[same(NAME), same(NAMESPACE), same("spec.clusterIP"), same("spec.type")]),
    ("", "replicationcontrollers", &[same(NAME), same(NAMESPACE), same("status.replicas")]),
    ("batch", "jobs", &[same(NAME), same(NAMESPACE), same("status.successful")]),
    ("certificates.k8s.io", "certificatesigningrequests", &[same(NAME), same("spec.signerName")]),
    ("resource.k8s.io", "resourceslices", &[same(NAME), same("spec.nodeName"), same("spec.driver")]),
];

/// The labels of a kind that has its own; all others have name and namespace.
fn own(group: &str, plural: &str) -> Option<&'static [Label]> {
    OWN.iter().find(|(of, resource, _)| (*of, *resource) == (group, plural)).map(|(_, _, labels)| *labels)
}

/// The stored fields that lists and watches of a resource can select by. Absent booleans and counts are selected by their zero
/// value.
pub(crate) fn fields(info: &ResourceInfo) -> Fields {
    let zero = |path: &str| match path {
        "spec.unschedulable" | "spec.hostNetwork" => Text::of("false"),
        "status.replicas" | "status.successful" => Text::of("0"),
        _ => Text::default(),
    };
    // One cache serves all versions of what it holds.
    let labels = own(&info.storage_group, &info.plural).unwrap_or(COMMON).iter();
    let mut paths: Vec<&str> = labels.map(|(_, path)| *path).collect();
    if !paths.contains(&NAMESPACE) {
        paths.push(NAMESPACE);
    }
    paths.sort_unstable();
    paths.dedup();
    paths.into_iter().map(|path| Field { path: Text::of(path), zero: zero(path) }).collect()
}

/// The stored field that a label means.
///
/// # Errors
/// Upstream's words for a label that the kind does not have in this version.
pub fn field_of_label<'a>(
    info: &ResourceInfo,
    label: &'a str,
    fields: impl Fn(&str) -> bool,
) -> Result<&'a str, String> {
    let Some(labels) = own(&info.group, &info.plural) else {
        let built_in = || {
            let same = |other: &ResourceInfo| other.group == info.group && other.plural == info.plural;
            kedge_schema::resources().iter().any(same)
        };
        return match label {
            _ if fields(label) => Ok(label),
            // What has no namespace is selected by an empty one.
            NAMESPACE if built_in() => Ok(label),
            _ if built_in() => {
                Err(format!("{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""))
            }
            _ => Err(format!("field label not supported: {label}")),
        };
    };
    if let Some((_, path)) = labels.iter().find(|(known, _)| *known == label) {
        return Ok(path);
    }
    Err(match &*info.plural {
        "jobs" => format!("field label {label:?} not supported for Job"),
        "resourceslices" => {
            format!("field label not supported for {}, Kind={}: {label}", info.api_version(), info.kind)
        }
        _ => format!("field label not supported: {label}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resource(group: &str, version: &str, plural: &str) -> &'static ResourceInfo {
        let is = |info: &&ResourceInfo| info.group == group && info.version == version && info.plural == plural;
        kedge_schema::resources().iter().find(is).unwrap()
    }

    fn means<'a>(info: &ResourceInfo, label: &'a str) -> Result<&'a str, String> {
        let stored = fields(info);
        field_of_label(info, label, |field| stored.contains(field))
    }

    /// Events of the two groups are stored as one kind, and were once selected by the names of either.
    #[test]
    fn labels_are_those_of_the_kind_in_its_version() {
        let (core, newer) = (resource("", "v1", "events"), resource("events.k8s.io", "v1", "events"));
        assert_eq!(means(core, "involvedObject.name"), Ok("involvedObject.name"));
        assert_eq!(means(newer, "regarding.name"), Ok("involvedObject.name"));
        assert_eq!(means(newer, "reportingController"), Ok("reportingComponent"));
        for (info, label) in
            [(core, "regarding.name"), (core, "message"), (newer, "involvedObject.name"), (newer, "source")]
        {
            assert_eq!(means(info, label), Err(format!("field label not supported: {label}")));
        }
        assert_eq!(means(resource("", "v1", "pods"), "spec.host"), Ok("spec.nodeName"));
        assert!(means(resource("", "v1", "nodes"), "metadata.namespace").is_err());
    }

    #[test]
    fn refusals_are_worded_as_upstream_words_them() {
        let said = |group, plural, label| means(resource(group, "v1", plural), label).unwrap_err();
        assert_eq!(said("", "pods", "status.qosClass"), "field label not supported: status.qosClass");
        assert_eq!(said("batch", "jobs", "status.failed"), "field label \"status.failed\" not supported for Job");
        let only = "\"status.replicas\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
        assert_eq!(said("apps", "replicasets", "status.replicas"), only);
        assert_eq!(
            said("resource.k8s.io", "resourceslices", "x"),
            "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: x"
        );
    }

    /// A label whose field the cache does not have would select nothing.
    #[test]
    fn every_label_means_a_field_of_the_cache() {
        for info in kedge_schema::resources().iter().filter(|info| info.is_stored()) {
            let stored = fields(info);
            for (_, path) in own(&info.group, &info.plural).unwrap_or(COMMON) {
                assert!(stored.contains(path), "{} {path}", info.plural);
            }
        }
    }
}
