//! Storage classes and classes of volume attributes.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETERS_SIZE: usize = 256 << 10;

pub(crate) struct StorageClass;

impl Strategy for StorageClass {
    fn validate(&self, _ctx: &Context<'_>, class: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        provisioner(&At::field(class, "provisioner"), &mut errors);
        parameters(&At::field(class, "parameters"), true, &mut errors);
        errors.one_of(&At::field(class, "reclaimPolicy"), &["Delete", "Retain"]);
        let binding = At::field(class, "volumeBindingMode");
        if binding.is_set() {
            errors.one_of(&binding, &["Immediate", "WaitForFirstConsumer"]);
        } else {
            errors.push(binding.required(""));
        }
        for term in At::field(class, "allowedTopologies").items() {
            for requirement in term.child("matchLabelExpressions").items() {
                let (key, values) = (requirement.child("key"), requirement.child("values"));
                errors.complaints(&key, names::is_qualified_name(key.text()));
                if values.len() == 0 {
                    errors.push(values.required(""));
                }
            }
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        errors.immutable(&At::field(new, "parameters"), &At::field(old, "parameters"));
        let (provisioner, was) = (At::field(new, "provisioner"), At::field(old, "provisioner"));
        if provisioner.text() != was.text() {
            errors.push(Error::invalid(&provisioner.path, provisioner.text(), "field is immutable"));
        }
        for field in ["reclaimPolicy", "volumeBindingMode"] {
            errors.immutable(&At::field(new, field), &At::field(old, field));
        }
        errors
    }
}

fn provisioner(at: &At<'_>, errors: &mut ErrorList) {
    if errors.need_text(at) {
        // Capitals are let through, and what is wrong with the rest is said of the name without them.
        let name = at.text().to_lowercase();
        let complaints = names::is_qualified_name(&name);
        errors.extend(complaints.into_iter().map(|complaint| Error::invalid(&at.path, &name, complaint)));
    }
}

fn parameters(at: &At<'_>, may_be_empty: bool, errors: &mut ErrorList) {
    if at.len() > MAX_PARAMETERS {
        errors.push(Error::too_long(&at.path, MAX_PARAMETERS));
        return;
    }
    if at.len() == 0 && !may_be_empty {
        errors.push(at.required("must contain at least one key/value pair"));
    }
    let mut size = 0;
    for (key, value) in at.entries() {
        if key.is_empty() {
            errors.push(Error::invalid(&at.path, key, "field can not be empty."));
        }
        size += key.len() + value.text().len();
    }
    if size > MAX_PARAMETERS_SIZE {
        errors.push(Error::too_long(&at.path, MAX_PARAMETERS_SIZE));
    }
}

pub(crate) struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn validate(&self, _ctx: &Context<'_>, class: &Value) -> ErrorList {
        attributes(class)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for field in ["driverName", "parameters"] {
            let at = At::field(new, field);
            if at.value != At::field(old, field).value {
                errors.push(at.forbidden(format!("updates to {field} are forbidden.")));
            }
        }
        errors.extend(attributes(new));
        errors
    }
}

fn attributes(class: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    provisioner(&At::field(class, "driverName"), &mut errors);
    parameters(&At::field(class, "parameters"), false, &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn drivers_are_named_without_minding_capitals() {
        let said = |class: Value| attributes(&class).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(said(json!({"driverName": "CSI.example.com", "parameters": {"a": "b"}})).is_empty());
        let wrong = said(json!({"driverName": "A B", "parameters": {"a": "b"}}));
        assert!(wrong.len() == 1 && wrong[0].starts_with("driverName: Invalid value: \"a b\": name part"), "{wrong:?}");
        assert_eq!(
            said(json!({})),
            ["driverName: Required value", "parameters: Required value: must contain at least one key/value pair"]
        );
    }
}
