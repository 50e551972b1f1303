//! The node's heartbeat: a Lease that is renewed every ten seconds.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::{Backoff, random, time};
use kedge_client::Error;
use kedge_meta::resources;
use serde_json::{Value, json};
use tracing::warn;

use crate::kubelet::Kubelet;

const NAMESPACE: &str = "kube-node-lease";
/// Upstream's `nodeLeaseDurationSeconds`, of which a quarter is the period.
const DURATION_SECONDS: u64 = 40;
const PERIOD: Duration = Duration::from_secs(DURATION_SECONDS / 4);
/// Up to 4 % are added, so that the nodes of a cluster do not all write at once.
const JITTER_MILLIS: u64 = 400;

/// Renews the lease until the task is ended.
pub(super) async fn run(kubelet: Arc<Kubelet>) {
    let mut latest: Option<Value> = None;
    let mut retry = Backoff::new(Duration::from_millis(200), Duration::from_secs(7), 20);
    loop {
        let wait = match renew(&kubelet, latest.take()).await {
            Ok(lease) => {
                latest = Some(lease);
                retry.reset();
                PERIOD + Duration::from_millis(random::u64() % JITTER_MILLIS)
            }
            Err(error) => {
                warn!(node = kubelet.config.node_name, %error, "cannot renew the node's lease");
                retry.next()
            }
        };
        kubelet.clock.sleep(wait).await;
    }
}

/// Writes the lease on top of the version that is known; without one it is looked up, or made.
async fn renew(kubelet: &Kubelet, latest: Option<Value>) -> Result<Value, Error> {
    let client = &kubelet.config.client;
    let name = &kubelet.config.node_name;
    let known = match latest {
        Some(lease) => Some(lease),
        None => match client.get::<Value>(&resources::LEASES, NAMESPACE, name).await {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        },
    };
    let now = time::rfc3339_micro(kubelet.clock.now());
    match known {
        Some(lease) => {
            let mut next = renewed(lease, name, &now);
            if next["metadata"].get("ownerReferences").is_none() {
                next["metadata"]["ownerReferences"] = owner(kubelet).await;
            }
            client.update(&resources::LEASES, NAMESPACE, name, &next).await
        }
        None => {
            let metadata = json!({"name": name, "namespace": NAMESPACE});
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata});
            let mut next = renewed(lease, name, &now);
            next["metadata"]["ownerReferences"] = owner(kubelet).await;
            client.create(&resources::LEASES, NAMESPACE, &next).await
        }
    }
}

fn renewed(mut lease: Value, holder: &str, now: &str) -> Value {
    lease["spec"]["holderIdentity"] = json!(holder);
    lease["spec"]["leaseDurationSeconds"] = json!(DURATION_SECONDS);
    lease["spec"]["renewTime"] = json!(now);
    lease
}

/// The node owns its lease, so that both go together; empty while the node is not there.
async fn owner(kubelet: &Kubelet) -> Value {
    let name = &kubelet.config.node_name;
    match kubelet.config.client.get::<Value>(&resources::NODES, "", name).await {
        Ok(node) => {
            json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}])
        }
        Err(_) => json!([]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_renewal_changes() {
        let old =
            json!({"metadata": {"resourceVersion": "5"}, "spec": {"holderIdentity": "n", "renewTime": "a", "x": 1}});
        let new = renewed(old, "n", "b");
        assert_eq!(new["metadata"]["resourceVersion"], "5");
        assert_eq!(new["spec"], json!({"holderIdentity": "n", "leaseDurationSeconds": 40, "renewTime": "b", "x": 1}));
    }
}
