//! What CSI drivers there are on a node.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report, scalar, selector};
use crate::strategy::{Context, Strategy};

const MAX_NODE_ID: usize = 256;

pub(crate) struct CsiNode;

impl Strategy for CsiNode {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, node: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut seen: Vec<&str> = Vec::new();
        for driver in At::field(node, "spec").child("drivers").items() {
            let (name, id) = (driver.child("name"), driver.child("nodeID"));
            errors.need_text(&name);
            if errors.need_text(&id) && id.text().len() > MAX_NODE_ID {
                errors.push(Error::invalid(&id.path, id.text(), "must be 256 characters or less"));
            }
            errors.non_negative(&driver.child("allocatable").child("count"));
            for key in driver.child("topologyKeys").items() {
                let at = At { value: key.value, path: driver.path.clone() };
                errors.complaints(&at, names::is_qualified_name(key.text()));
            }
            if seen.contains(&name.text()) {
                errors.push(Error::duplicate(&name.path, name.text()));
            }
            seen.push(name.text());
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        for driver in At::field(new, "spec").child("drivers").items() {
            let name = driver.child("name").text();
            let before = At::field(old, "spec").child("drivers").items().find(|was| was.child("name").text() == name);
            if let Some(was) = before
                && was.child("nodeID").value != driver.child("nodeID").value
            {
                errors.push(driver.child("nodeID").invalid("field is immutable"));
            }
        }
        errors
    }
}

/// How much a driver can still provision somewhere.
pub(crate) struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let class = At::field(object, "storageClassName");
        for complaint in names::is_dns1123_subdomain(class.text()) {
            errors.push(Error::invalid(&class.path, class.text(), complaint));
        }
        selector::labels(&At::field(object, "nodeTopology").child("matchLabels"), &mut errors);
        scalar::non_negative_quantity(&At::field(object, "capacity"), &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        for field in ["nodeTopology", "storageClassName"] {
            errors.immutable(&At::field(new, field), &At::field(old, field));
        }
        errors
    }
}
