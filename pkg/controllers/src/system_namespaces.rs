//! The namespaces that every cluster has come back when they were deleted.

use std::sync::Arc;

use kedge_client::Error;
use kedge_meta::{ObjectKey, resources};
use serde_json::json;

use crate::context::Context;
use crate::serviceaccount::tolerate_races;

const NAMES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    NAMES.into_iter().for_each(|name| queue.add(ObjectKey::new("", name)));
    let q = queue.clone();
    ctx.namespaces.on_change(move |change| {
        let key = change.key();
        if change.new.is_none() && NAMES.contains(&key.name.as_str()) {
            q.add(key);
        }
    });
    let namespaces = ctx.namespaces.clone();
    let synced = async move { namespaces.synced().await };
    let controller = Arc::new(ctx.clone());
    ctx.work("system-namespaces", &queue, 1, synced, controller, |c, key| async move { reconcile(&c, &key).await });
}

async fn reconcile(ctx: &Context, key: &ObjectKey) -> Result<(), Error> {
    if ctx.namespaces.get("", &key.name).is_some() {
        return Ok(());
    }
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": key.name } });
    tolerate_races(ctx.client.create(&resources::NAMESPACES, "", &namespace).await)
}
