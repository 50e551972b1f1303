//! ResourceQuota: what is created, or grows, is charged to the quotas of its namespace before it is stored.
//!
//! Invariants: what is charged is in the quota's status before the object is; requests that come at the same time are charged together,
//! with one write a quota. What is charged and then not stored is given back by the quota's controller.

mod charging;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_base::time::timeout;
use kedge_meta::Status;
use kedge_quota::{Quota, charge};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{Plugin, forbidden};
use charging::{Charging, Refusal, Wanted, quotas_of};

/// How long a request waits to be charged, as upstream.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct ResourceQuota {
    charging: Charging,
}

/// Whether the change of an object can change what it uses.
fn may_grow(attributes: &Attributes<'_>) -> bool {
    let (new, old) = (&attributes.object, attributes.old.unwrap_or(&Value::Null));
    let resource = attributes.resource;
    let updates = attributes.operation == Operation::Update;
    match (&*resource.group, &*resource.plural, attributes.subresource) {
        ("", "pods", "") if updates => is_terminating(new) != is_terminating(old),
        ("", "pods", "resize") | ("", "services" | "persistentvolumeclaims", "") if updates => true,
        ("", "persistentvolumeclaims", "status") if updates => {
            let differs = |path: &[&str]| new.at(path) != old.at(path);
            differs(&["status", "allocatedResources"])
                || differs(&["status", "currentVolumeAttributesClassName"])
                || differs(&["status", "modifyVolumeStatus"])
        }
        (_, _, "") => attributes.operation == Operation::Create,
        _ => false,
    }
}

fn is_terminating(pod: &Value) -> bool {
    pod.int(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0)
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    /// What is stored in a namespace is charged, but for events.
    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let resource = attributes.resource;
        let event = resource.plural == "events" && matches!(&*resource.group, "" | "events.k8s.io");
        let review = resource.group == "authorization.k8s.io";
        resource.namespaced && !event && !review && may_grow(attributes)
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let stored = quotas_of(registry, attributes.namespace)?;
        if stored.is_empty() {
            return Ok(());
        }
        let wanted = Wanted::of(attributes);
        // What no quota concerns, or has no room for, need not wait for anybody.
        let mut quotas: Vec<Quota<'_>> = stored.iter().map(Quota::of).collect();
        let now = registry.clock.now();
        let changes = charge(&mut quotas, &wanted.change(), now).map_err(|why| forbidden(attributes, &why))?;
        if !changes || attributes.dry_run {
            return Ok(());
        }
        drop(quotas);
        let charged = self.charging.charge(registry, attributes.namespace, wanted);
        match timeout(PATIENCE, charged).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Refusal::Forbidden(why))) => Err(forbidden(attributes, &why)),
            Ok(Err(Refusal::Failed(status))) => Err(*status),
            Err(_) => Err(Status::internal("resource quota evaluation timed out")),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
