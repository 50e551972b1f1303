//! TaintNodesByCondition: a new node takes no pods until the node controller has seen that it is ready.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::json;

use crate::{Plugin, is};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(crate) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && is(attributes, "", "nodes")
    }

    async fn admit(&self, _: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let mut taints = attributes.object.list(&["spec", "taints"]).to_vec();
        if !taints.iter().any(|t| t.text(&["key"]) == NOT_READY) {
            taints.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
            attributes.object.entry("spec").insert("taints".into(), taints.into());
        }
        Ok(())
    }
}
