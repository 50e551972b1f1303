//! Labels of nodes that have newer names.

use kedge_meta::names;
use serde_json::Value;

use super::At;

const DEPRECATED: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// What is to be said about a label, if it is deprecated.
pub(super) fn deprecated(label: &str) -> Option<&'static str> {
    DEPRECATED.iter().find(|(known, _)| *known == label).map(|(_, message)| *message)
}

/// A map of labels that nodes must have.
pub(super) fn map(at: &At<'_>, warnings: &mut Vec<String>) {
    let found = at.entries().filter_map(|(label, at)| Some((at, deprecated(label)?)));
    warnings.extend(found.map(|(at, message)| format!("{}: {message}", at.path)));
}

/// A term of a node selector; preferred ones may ask for values that no label can have.
pub(super) fn term(term: &At<'_>, preferred: bool, warnings: &mut Vec<String>) {
    for expression in term.child("matchExpressions").items() {
        key(&expression.child("key"), warnings);
        for value in expression.child("values").items().filter(|_| preferred) {
            for complaint in names::is_valid_label_value(value.text()) {
                warnings.push(format!("{}: {} is invalid, {complaint}", value.path, value.text()));
            }
        }
    }
}

/// A field that names a label.
pub(super) fn key(at: &At<'_>, warnings: &mut Vec<String>) {
    if let Some(message) = deprecated(at.text()) {
        warnings.push(format!("{}: {} is {message}", at.path, at.text()));
    }
}

/// A label selector over nodes.
pub(super) fn selector(selector: &At<'_>, warnings: &mut Vec<String>) {
    for expression in selector.child("matchExpressions").items() {
        key(&expression.child("key"), warnings);
    }
    for (label, at) in selector.child("matchLabels").entries() {
        if let Some(message) = deprecated(label) {
            warnings
                .push(format!("{}.{label}: {message}", at.path.to_string().trim_end_matches(&format!("[{label}]"))));
        }
    }
}

/// What nodes a runtime class runs on.
pub(super) fn runtime_class(class: &Value, warnings: &mut Vec<String>) {
    let selector = At::field(class, "scheduling").child("nodeSelector");
    let found = selector.entries().filter_map(|(label, _)| deprecated(label));
    warnings.extend(found.map(|message| format!("scheduling.nodeSelector: {message}")));
}
