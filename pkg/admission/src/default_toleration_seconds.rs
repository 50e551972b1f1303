//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or cannot be reached.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::{Value, json};

use crate::{Plugin, is};

const SECONDS: i64 = 300;

pub(crate) struct DefaultTolerationSeconds;

fn tolerates(toleration: &Value, key: &str) -> bool {
    let (has_key, effect) = (toleration.text(&["key"]), toleration.text(&["effect"]));
    (has_key == key || has_key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update) && is(attributes, "", "pods")
    }

    async fn admit(&self, _: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let present = attributes.object.list(&["spec", "tolerations"]).to_vec();
        let mut tolerations = present.clone();
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            if !present.iter().any(|t| tolerates(t, key)) {
                let toleration =
                    json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS });
                tolerations.push(toleration);
            }
        }
        if tolerations.len() > present.len() {
            attributes.object.entry("spec").insert("tolerations".into(), tolerations.into());
        }
        Ok(())
    }
}
