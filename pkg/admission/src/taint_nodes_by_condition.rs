//! TaintNodesByCondition: a new node takes no pods until the node controller has seen that it is ready.

use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::json;

use crate::{Plugin, is};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(crate) struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn admit(&self, _: &Registry, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !is(attributes, "", "nodes") || attributes.operation != Operation::Create {
            return Ok(());
        }
        let mut taints = attributes.object.list(&["spec", "taints"]).to_vec();
        if !taints.iter().any(|t| t.text(&["key"]) == NOT_READY) {
            taints.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
            attributes.object.entry("spec").insert("taints".into(), taints.into());
        }
        Ok(())
    }
}
