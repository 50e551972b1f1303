//! Tells kubelets by an annotation how long they may keep Secrets and ConfigMaps: the longer, the larger the cluster is.

use std::sync::Arc;

use kedge_client::{Error, Patch};
use kedge_meta::{ObjectKey, resources};
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, ignore_not_found};
use crate::objects::Meta;

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// A size of cluster.
struct Size {
    min: usize,
    max: usize,
    seconds: u32,
}

/// They overlap, so that a cluster at a boundary does not go back and forth.
const SIZES: [Size; 5] = [
    Size { min: 0, max: 100, seconds: 0 },
    Size { min: 90, max: 500, seconds: 15 },
    Size { min: 450, max: 1000, seconds: 30 },
    Size { min: 900, max: 2000, seconds: 60 },
    Size { min: 1800, max: usize::MAX, seconds: 300 },
];

struct Controller {
    ctx: Context,
    /// Which of the sizes the cluster has.
    size: Mutex<usize>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let q = queue.clone();
    // Nodes report every few minutes at least: so the annotations of all follow when the size has changed.
    ctx.nodes.on_change(move |change| q.add(change.key()));
    let controller = Arc::new(Controller { ctx: ctx.clone(), size: Mutex::default() });
    let nodes = ctx.nodes.clone();
    let synced = async move { nodes.synced().await };
    ctx.work("ttl", &queue, 5, synced, controller, |c, key: ObjectKey| async move { c.reconcile(&key.name).await });
}

/// The size of a cluster of so many nodes, which so far had the size `now`.
fn size_of(nodes: usize, mut now: usize) -> usize {
    while nodes > SIZES[now].max && now + 1 < SIZES.len() {
        now += 1;
    }
    while nodes < SIZES[now].min && now > 0 {
        now -= 1;
    }
    now
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<(), Error> {
        let Some(node) = self.ctx.nodes.get("", name) else { return Ok(()) };
        let seconds = {
            let mut size = self.size.lock();
            *size = size_of(self.ctx.nodes.len(), *size);
            SIZES[*size].seconds
        };
        if node.metadata.annotations.get(ANNOTATION).and_then(|text| text.parse().ok()) == Some(seconds) {
            return Ok(());
        }
        let annotations = json!({ ANNOTATION: seconds.to_string() });
        let patch = json!({ "metadata": { "uid": node.metadata.uid, "annotations": annotations } });
        let patched = self.ctx.client.patch(&resources::NODES, "", name, Patch::Strategic(patch), None).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_nodes_and_stays_at_boundaries() {
        let seconds = |nodes, now| SIZES[size_of(nodes, now)].seconds;
        assert_eq!([seconds(0, 0), seconds(100, 0), seconds(101, 0), seconds(95, 0)], [0, 0, 15, 0]);
        assert_eq!([seconds(95, 1), seconds(89, 1), seconds(500, 1), seconds(501, 1)], [15, 0, 15, 30]);
        assert_eq!([seconds(5000, 0), seconds(3, 4)], [300, 0], "over several sizes at once");
    }
}
