//! Nodes.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report, scalar, scheduling};
use crate::strategy::{Context, Strategy};

pub(crate) struct Node;

impl Strategy for Node {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, node: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(node, "spec");
        taints(&spec.child("taints"), &mut errors);
        amounts(node, &mut errors);
        let ranges = spec.child("podCIDRs");
        ranges.items().for_each(|range| scalar::cidr(&range, &mut errors));
        let families = |v6: bool| ranges.items().filter(|range| range.text().contains(':') == v6).count();
        if families(true) > 1 || families(false) > 1 {
            errors.push(ranges.invalid("may specify no more than one CIDR for each IP family"));
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
        let ranges = spec.child("podCIDRs");
        if was.child("podCIDRs").len() > 0 && ranges.value != was.child("podCIDRs").value {
            errors.push(ranges.forbidden("node updates may not change podCIDR except from \"\" to valid"));
        }
        let provider = spec.child("providerID");
        if !was.child("providerID").text().is_empty() && provider.value != was.child("providerID").value {
            errors.push(provider.forbidden("node updates may not change providerID except from \"\" to valid"));
        }
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        amounts(new, &mut errors);
        let mut seen: Vec<&Value> = Vec::new();
        for address in At::field(new, "status").child("addresses").items() {
            if seen.contains(&address.value) {
                errors.push(address.duplicate());
            }
            seen.push(address.value);
        }
        errors
    }
}

fn amounts(node: &Value, errors: &mut ErrorList) {
    for kind in ["capacity", "allocatable"] {
        let list = At::field(node, "status").child(kind);
        for (name, amount) in list.entries() {
            // Upstream calls them as if they were fields.
            let amount = At { value: amount.value, path: list.path.child(name) };
            scalar::non_negative_quantity(&amount, errors);
        }
    }
}

fn taints(at: &At<'_>, errors: &mut ErrorList) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for taint in at.items() {
        // Upstream names this list as if it were metadata's.
        let path = kedge_meta::field::Path::new("metadata").child("taints").index(seen.len());
        let taint = At { value: taint.value, path };
        let (key, value, effect) = (taint.child("key"), taint.child("value"), taint.child("effect"));
        errors.complaints(&key, names::is_qualified_name(key.text()));
        let complaints = names::is_valid_label_value(value.text());
        if !complaints.is_empty() {
            errors.push(value.invalid(complaints.join(";")));
        }
        scheduling::taint_effect(&effect, errors);
        let pair = (key.text(), effect.text());
        if seen.contains(&pair) {
            let mut error = Error::duplicate(&taint.path, taint.value);
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
        seen.push(pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn taints_are_unique() {
        let node = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"},
            {"key": "a", "effect": "Nothing"}]}});
        let mut errors = ErrorList::new();
        taints(&At::field(&node, "spec").child("taints"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(texts[0].ends_with("taints must be unique by key and effect pair"));
        assert!(texts[1].starts_with("metadata.taints[2].effect: Unsupported value: \"Nothing\""));
    }
}
