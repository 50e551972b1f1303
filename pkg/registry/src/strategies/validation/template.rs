//! Pod templates, and how workloads select the pods made from them.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::labels::Selector;

use super::super::core::pod_annotations::{profiles, seccomp_agrees};
use super::pod_spec::{Owner, pod_spec};
use super::{At, selector};

const SELECTOR_MISMATCH: &str = "`selector` does not match template `labels`";

/// A pod template.
pub(crate) fn pod_template(at: &At<'_>, errors: &mut ErrorList) {
    let metadata = at.child("metadata");
    // Upstream's path has no step for the metadata here.
    let within = |field: &str| At { value: metadata.child(field).value, path: at.path.child(field) };
    selector::labels(&within("labels"), errors);
    let annotations = within("annotations");
    errors.extend(crate::metadata::validate_annotations(annotations.value.as_object(), &annotations.path));
    profiles(&annotations, at.child("spec").value, errors);
    pod_spec(&at.child("spec"), Owner::Template, errors);
    seccomp_agrees(&annotations, &at.child("spec"), errors);
    let ephemeral = at.child("spec").child("ephemeralContainers");
    if ephemeral.len() > 0 {
        errors.push(ephemeral.forbidden("ephemeral containers not allowed in pod template"));
    }
}

/// The selector of a workload: there, valid, not empty, and matching the template. `what` is the kind in lower case.
pub(crate) fn selected(spec: &At<'_>, what: &str, errors: &mut ErrorList) {
    let selector = spec.child("selector");
    if !selector.is_set() {
        errors.push(selector.required(""));
    } else {
        selector::label_selector(&selector, errors);
        if selector::is_empty(&selector) {
            errors.push(selector.invalid(format!("empty selector is invalid for {what}")));
        }
    }
    if Selector::from_label_selector(selector.value).is_err() {
        errors.push(selector.invalid("invalid label selector"));
        return;
    }
    matching(spec, errors);
}

/// The template has to carry what the selector selects; no selector selects nothing.
pub(crate) fn matching(spec: &At<'_>, errors: &mut ErrorList) {
    let (selector, labels) = (spec.child("selector"), spec.child("template").child("metadata").child("labels"));
    let matches = match selector.is_set() {
        true => selector::is_empty(&selector) || selector::matches(selector.value, labels.value.as_object()),
        false => false,
    };
    if !matches {
        errors.push(labels.invalid(SELECTOR_MISMATCH));
    }
}

/// Pods of these workloads always restart and have no deadline.
pub(crate) fn always_restarting(spec: &At<'_>, what: &str, errors: &mut ErrorList) {
    let pod = spec.child("template").child("spec");
    let policy = pod.child("restartPolicy");
    if policy.text() != "Always" {
        errors.push(Error::not_supported(&policy.path, policy.text(), &["Always"]));
    }
    let deadline = pod.child("activeDeadlineSeconds");
    if deadline.is_set() {
        errors.push(deadline.forbidden(format!("activeDeadlineSeconds in {what} is not Supported")));
    }
}
