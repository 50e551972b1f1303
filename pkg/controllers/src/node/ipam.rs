//! Gives every node its part of the cluster's pod range.
//!
//! Invariant: one worker assigns, and remembers what it gave until the cache shows it, so no two nodes get the same part.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kedge_client::{Error, EventRecorder, EventType, Patch};
use kedge_meta::{ObjectKey, resources};
use parking_lot::Mutex;
use serde_json::json;
use tracing::{error, info};

use super::cidr::Cidr;
use super::reference;
use crate::context::{Context, ignore_not_found};
use crate::objects::{Meta, Node};

struct Controller {
    ctx: Context,
    events: EventRecorder,
    /// One of each address family at most, with the bits of what a node gets of it.
    ranges: Vec<(Cidr, u8)>,
    /// By node; what was given and may not be in the cache yet.
    given: Mutex<HashMap<String, Vec<Cidr>>>,
}

/// Starts the controller; `cluster_cidr` may hold an IPv4 and an IPv6 range, divided by a comma.
pub fn start(ctx: &Context, cluster_cidr: &str) {
    let parts: Vec<&str> = cluster_cidr.split(',').filter(|p| !p.trim().is_empty()).collect();
    let ranges: Vec<Cidr> = parts.iter().filter_map(|p| Cidr::parse(p)).collect();
    if ranges.len() != parts.len() || ranges.is_empty() {
        error!(cluster_cidr, "the cluster's pod range cannot be read: nodes get no pod ranges");
        return;
    }
    let families: Vec<bool> = ranges.iter().map(Cidr::is_ipv6).collect();
    let masks = match ctx.settings.nodes.masks(&families) {
        Ok(masks) => masks,
        Err(err) => {
            error!(error = %err, "nodes get no pod ranges");
            return;
        }
    };
    let ranges = ranges.into_iter().zip(masks).collect();
    let queue = ctx.queue();
    let q = queue.clone();
    ctx.nodes.on_change(move |change| q.add(change.key()));
    let events = ctx.recorder("cidrAllocator");
    let controller = Arc::new(Controller { ctx: ctx.clone(), events, ranges, given: Mutex::default() });
    let nodes = ctx.nodes.clone();
    let synced = async move { nodes.synced().await };
    ctx.work(
        "node-ipam",
        &queue,
        1,
        synced,
        controller,
        |c, key: ObjectKey| async move { c.reconcile(&key.name).await },
    );
}

/// One free part of each range, or none when one of them is used up.
fn plan(ranges: &[(Cidr, u8)], used: &HashSet<Cidr>) -> Option<Vec<Cidr>> {
    ranges.iter().map(|(range, bits)| range.first_free(*bits, used)).collect()
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<(), Error> {
        let Some(node) = self.ctx.nodes.get("", name) else {
            self.given.lock().remove(name);
            return Ok(());
        };
        if !node.spec.pod_cidr.is_empty() || !node.spec.pod_cidrs.is_empty() {
            self.given.lock().remove(name);
            return Ok(());
        }
        let known = self.given.lock().get(name).cloned();
        let Some(parts) = known.or_else(|| plan(&self.ranges, &self.used())) else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.events.event(&reference(&node), EventType::Normal, "CIDRNotAvailable", message);
            return Err(kedge_meta::Status::internal("no free pod range is left").into());
        };
        self.given.lock().insert(name.to_owned(), parts.clone());
        let texts: Vec<String> = parts.iter().map(Cidr::to_string).collect();
        let patch = json!({
            "metadata": { "uid": node.metadata.uid }, "spec": { "podCIDR": texts[0], "podCIDRs": texts }
        });
        let patched = self.ctx.client.patch(&resources::NODES, "", name, Patch::Strategic(patch), None).await;
        ignore_not_found(patched.map(|_: Meta| ()))?;
        info!(node = name, pod_cidr = texts[0], "pod range assigned");
        Ok(())
    }

    fn used(&self) -> HashSet<Cidr> {
        let nodes = self.ctx.nodes.list();
        let of = |node: &Node| {
            let spec = &node.spec;
            spec.pod_cidrs.iter().chain([&spec.pod_cidr]).filter_map(|c| Cidr::parse(c)).collect::<Vec<_>>()
        };
        nodes.iter().flat_map(|n| of(n)).chain(self.given.lock().values().flatten().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_families_or_nothing() {
        let ranges = [(Cidr::parse("10.0.0.0/24").unwrap(), 24), (Cidr::parse("fd00::/63").unwrap(), 64)];
        let parts = plan(&ranges, &HashSet::new()).unwrap();
        assert_eq!(parts.len(), 2);
        assert!(plan(&ranges, &HashSet::from([parts[0]])).is_none());
    }
}
