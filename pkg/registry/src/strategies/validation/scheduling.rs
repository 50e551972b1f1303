//! Where a pod may run: affinity, tolerations, spreading.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;

use super::selector::label_selector;
use super::{At, Report, scalar};

const BAD_OPERATOR: &str = "not a valid selector operator";
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];

/// All three kinds of affinity.
pub(crate) fn affinity(at: &At<'_>, errors: &mut ErrorList) {
    let node = at.child("nodeAffinity");
    let required = node.child("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        node_selector(&required, errors);
    }
    for term in node.child("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&term, errors);
        node_selector_term(&term.child("preference"), false, errors);
    }
    for pods in [at.child("podAffinity"), at.child("podAntiAffinity")] {
        for term in pods.child("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_affinity_term(&term, errors);
        }
        for term in pods.child("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&term, errors);
            pod_affinity_term(&term.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &At<'_>, errors: &mut ErrorList) {
    let weight = term.child("weight");
    if !(1..=100).contains(&weight.int().unwrap_or_default()) {
        errors.push(weight.invalid("must be in the range 1-100"));
    }
}

/// A node selector; volumes have one too.
pub(crate) fn node_selector(at: &At<'_>, errors: &mut ErrorList) {
    selected(at, false, errors);
}

/// A node selector whose values nodes can have as labels.
pub(crate) fn sound_node_selector(at: &At<'_>, errors: &mut ErrorList) {
    selected(at, true, errors);
}

fn selected(at: &At<'_>, sound: bool, errors: &mut ErrorList) {
    let terms = at.child("nodeSelectorTerms");
    if terms.len() == 0 {
        errors.push(terms.required("must have at least one node selector term"));
    }
    terms.items().for_each(|term| node_selector_term(&term, sound, errors));
}

fn node_selector_term(at: &At<'_>, sound: bool, errors: &mut ErrorList) {
    for requirement in at.child("matchExpressions").items() {
        let (operator, values) = (requirement.child("operator"), requirement.child("values"));
        match operator.text() {
            "In" | "NotIn" if values.len() == 0 => {
                errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Gt" | "Lt" if values.len() != 1 => {
                errors.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.push(operator.invalid(BAD_OPERATOR)),
        }
        let key = requirement.child("key");
        errors.complaints(&key, names::is_qualified_name(key.text()));
        for value in values.items().filter(|_| sound) {
            errors.complaints(&value, names::is_valid_label_value(value.text()));
        }
    }
    for requirement in at.child("matchFields").items() {
        let (key, operator, values) =
            (requirement.child("key"), requirement.child("operator"), requirement.child("values"));
        match operator.text() {
            "In" | "NotIn" if values.len() != 1 => {
                let rule = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(values.required(rule));
            }
            "In" | "NotIn" => {}
            _ => errors.push(operator.invalid(BAD_OPERATOR)),
        }
        if key.text() == "metadata.name" {
            for value in values.items() {
                errors.complaints(&value, names::is_dns1123_subdomain(value.text()));
            }
        } else {
            errors.push(key.invalid("not a valid field selector key"));
        }
    }
}

fn pod_affinity_term(at: &At<'_>, errors: &mut ErrorList) {
    label_selector(&at.child("labelSelector"), errors);
    label_selector(&at.child("namespaceSelector"), errors);
    for namespace in at.child("namespaces").items() {
        for complaint in names::is_dns1123_label(namespace.text()) {
            errors.push(Error::invalid(&at.path.child("namespace"), namespace.text(), complaint));
        }
    }
    let key = at.child("topologyKey");
    if key.text().is_empty() {
        errors.push(key.required("can not be empty"));
    }
    // Also of one that is missing.
    let complaints = names::is_qualified_name(key.text());
    errors.extend(complaints.into_iter().map(|complaint| Error::invalid(&key.path, key.text(), complaint)));
}

/// Tolerations of a pod or of a runtime class.
pub(crate) fn tolerations(at: &At<'_>, errors: &mut ErrorList) {
    for toleration in at.items() {
        let field = |name: &str| toleration.child(name);
        let (key, operator, value, effect) = (field("key"), field("operator"), field("value"), field("effect"));
        let told = |value: &At<'_>, detail: &str| Error::invalid(&operator.path, value.text(), detail);
        if !key.text().is_empty() {
            errors.complaints(&key, names::is_qualified_name(key.text()));
        } else if operator.text() != "Exists" {
            errors.push(told(
                &operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if field("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            let rule = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&effect.path, effect.text(), rule));
        }
        match operator.text() {
            "Equal" | "" => {
                let complaints = names::is_valid_label_value(value.text());
                if !complaints.is_empty() {
                    errors.push(told(&value, &complaints.join(";")));
                }
            }
            "Exists" if !value.text().is_empty() => {
                errors.push(told(&value, "value must be empty when `operator` is 'Exists'"));
            }
            "Exists" => {}
            "Lt" | "Gt" if value.text().parse::<i64>().is_err() => {
                errors.push(value.invalid("must be a valid decimal integer in canonical form"));
            }
            "Lt" | "Gt" => {}
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        if !effect.text().is_empty() {
            errors.one_of(&effect, EFFECTS);
        }
    }
}

/// The effect of a taint, which must be there.
pub(crate) fn taint_effect(at: &At<'_>, errors: &mut ErrorList) {
    errors.need_one_of(at, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

/// How pods spread over zones and nodes.
pub(crate) fn spread_constraints(at: &At<'_>, errors: &mut ErrorList) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for constraint in at.items() {
        let skew = constraint.child("maxSkew");
        if skew.int().unwrap_or_default() <= 0 {
            errors.push(skew.invalid(scalar::POSITIVE));
        }
        let (key, when) = (constraint.child("topologyKey"), constraint.child("whenUnsatisfiable"));
        if key.text().is_empty() {
            errors.push(key.required("can not be empty"));
        } else {
            errors.complaints(&key, names::is_qualified_name(key.text()));
        }
        if !matches!(when.text(), "DoNotSchedule" | "ScheduleAnyway") {
            errors.push(Error::not_supported(&when.path, when.text(), &["DoNotSchedule", "ScheduleAnyway"]));
        }
        let pair = (key.text(), when.text());
        if seen.contains(&pair) {
            let path = constraint.path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&path, format!("{{{}, {}}}", pair.0, pair.1)));
        }
        seen.push(pair);
        let domains = constraint.child("minDomains");
        if domains.int().is_some_and(|count| count <= 0) {
            errors.push(domains.invalid(scalar::POSITIVE));
        }
        if domains.is_set() && when.text() != "DoNotSchedule" {
            let rule = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", when.text());
            errors.push(domains.invalid(rule));
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.one_of(&constraint.child(policy), &["Honor", "Ignore"]);
        }
        label_selector(&constraint.child("labelSelector"), errors);
    }
}
