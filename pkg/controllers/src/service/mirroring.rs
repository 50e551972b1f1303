//! Mirrors Endpoints that somebody else maintains, for services without a selector, into EndpointSlices.
//!
//! Invariant: one slice for each address family and set of ports; none once the Endpoints, the service, or its lack of a
//! selector is gone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kedge_client::{DeleteOptions, Error, EventRecorder, EventType, Informer, ListParams, WorkQueue};
use kedge_meta::{ObjectKey, ObjectMeta, Resource, resources};
use serde_json::json;

use super::TRIGGER_TIME;
use super::endpoints::Endpoints;
use super::slices::{Conditions, Endpoint, EndpointPort, EndpointSlice, MANAGED_BY_LABEL, SERVICE_LABEL};
use super::subsets::{Address, repacked};
use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::Meta;
use crate::serviceaccount::is_namespace_terminating;
use crate::workload::expectations::{Expectations, TIMEOUT};
use crate::workload::{controller_ref, reference};

static SLICES: &Resource = &resources::ENDPOINT_SLICES;
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of a subset that are mirrored.
const MAX_ADDRESSES: usize = 1_000;

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    expectations: Expectations,
}

/// Starts the controller.
pub fn start(ctx: &Context, endpoints: &Informer<Endpoints>) {
    let ours = ListParams::labels(format!("{MANAGED_BY_LABEL}={MANAGER}"));
    let slices: Informer<EndpointSlice> = Informer::start(&ctx.client, &ctx.tasks, SLICES, ours);
    let queue = ctx.queue();
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        events: ctx.recorder("endpoint-slice-mirroring-controller"),
        queue: queue.clone(),
        endpoints: endpoints.clone(),
        slices: slices.clone(),
        expectations: Expectations::new(ctx.clock.clone()),
    });
    enqueue_changes(endpoints, &queue);
    enqueue_changes(&ctx.services, &queue);
    let c = controller.clone();
    slices.on_change(move |change| {
        let Some(slice) = change.object() else { return };
        let Some(name) = slice.metadata.labels.get(SERVICE_LABEL) else { return };
        let key = ObjectKey::new(&slice.metadata.namespace, name);
        if change.old.is_none() {
            c.expectations.creation_observed(&key);
        }
        c.queue.add(key);
    });
    let c = controller.clone();
    let synced = async move {
        c.ctx.services.synced().await;
        c.endpoints.synced().await;
        c.slices.synced().await;
    };
    ctx.work("endpointslice-mirroring", &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    meta.labels.get(SKIP_LABEL).is_none_or(|s| s != "true") && !meta.annotations.contains_key(LEADER)
}

/// The slices as they should be, and how many addresses are no IP addresses, and how many are too many.
fn desired(endpoints: &Endpoints) -> (Vec<EndpointSlice>, usize, usize) {
    let (mut invalid, mut surplus) = (0, 0);
    let mut out: BTreeMap<(bool, Vec<EndpointPort>), Vec<Endpoint>> = BTreeMap::new();
    for subset in repacked(&endpoints.subsets) {
        let port = |p: &super::subsets::Port| EndpointPort {
            name: p.name.clone(),
            protocol: p.protocol.clone(),
            port: p.port,
            app_protocol: p.app_protocol.clone(),
        };
        let ports: Vec<EndpointPort> = subset.ports.iter().map(port).collect();
        let ready = subset.addresses.iter().map(|a| (true, a));
        let mut added = 0;
        for (ready, address) in ready.chain(subset.not_ready_addresses.iter().map(|a| (false, a))) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                invalid += 1;
                continue;
            };
            if added == MAX_ADDRESSES {
                surplus += 1;
                continue;
            }
            added += 1;
            out.entry((ip.is_ipv6(), ports.clone())).or_default().push(endpoint(ip, address, ready));
        }
    }
    let slices = out.into_iter().map(|((v6, ports), list)| slice(endpoints, v6, ports, list)).collect();
    (slices, invalid, surplus)
}

fn endpoint(ip: IpAddr, address: &Address, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Conditions { ready: Some(ready), ..Conditions::default() },
        hostname: address.hostname.clone(),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        ..Endpoint::default()
    }
}

fn slice(of: &Endpoints, v6: bool, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut labels = of.metadata.labels.clone();
    labels.insert(SERVICE_LABEL.to_owned(), of.metadata.name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    let mut annotations = of.metadata.annotations.clone();
    annotations.remove(TRIGGER_TIME);
    annotations.remove(LAST_APPLIED);
    let metadata = ObjectMeta {
        generate_name: format!("{}-", of.metadata.name),
        namespace: of.metadata.namespace.clone(),
        labels,
        annotations,
        owner_references: vec![controller_ref(&resources::ENDPOINTS, &of.metadata)],
        ..ObjectMeta::default()
    };
    EndpointSlice { metadata, address_type: if v6 { "IPv6" } else { "IPv4" }.to_owned(), ports, endpoints }
}

/// Which slices to create, update and delete.
type Changes = (Vec<EndpointSlice>, Vec<EndpointSlice>, Vec<Arc<EndpointSlice>>);

fn plan(desired: Vec<EndpointSlice>, mut existing: Vec<Arc<EndpointSlice>>) -> Changes {
    let (mut create, mut update) = (Vec::new(), Vec::new());
    for new in desired {
        let same = |s: &Arc<EndpointSlice>| s.address_type == new.address_type && s.ports == new.ports;
        let Some(at) = existing.iter().position(same) else {
            create.push(new);
            continue;
        };
        let old = existing.remove(at);
        let unchanged = old.endpoints == new.endpoints
            && old.metadata.labels == new.metadata.labels
            && old.metadata.annotations == new.metadata.annotations
            && old.metadata.owner_references == new.metadata.owner_references;
        if !unchanged {
            update.push(over(&old, new));
        }
    }
    // A slice that is no longer needed becomes one that is.
    while let Some(new) = create.pop() {
        let Some(at) = existing.iter().position(|s| s.address_type == new.address_type) else {
            create.push(new);
            break;
        };
        update.push(over(&existing.remove(at), new));
    }
    (create, update, existing)
}

fn over(old: &EndpointSlice, new: EndpointSlice) -> EndpointSlice {
    let metadata = ObjectMeta {
        labels: new.metadata.labels,
        annotations: new.metadata.annotations,
        owner_references: new.metadata.owner_references,
        ..old.metadata.clone()
    };
    EndpointSlice { metadata, ..new }
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let service = self.ctx.services.get(&key.namespace, &key.name).filter(|s| s.spec.selector.is_empty());
        let endpoints = self.endpoints.get(&key.namespace, &key.name).filter(|e| is_mirrored(e));
        let ours = |s: &Arc<EndpointSlice>| s.metadata.labels.get(SERVICE_LABEL) == Some(&key.name);
        let existing: Vec<_> = self.slices.list_namespace(&key.namespace).into_iter().filter(ours).collect();
        let Some(endpoints) = endpoints.filter(|_| service.is_some()) else {
            self.expectations.forget(&key);
            return self.delete(&existing).await;
        };
        if !self.expectations.satisfied(&key) {
            self.queue.add_after(key, TIMEOUT);
            return Ok(());
        }
        let (desired, invalid, surplus) = desired(&endpoints);
        self.report(&endpoints, invalid, surplus);
        let (create, update, delete) = plan(desired, existing);
        let done = self.write(&key, create, update, endpoints.metadata.is_deleting()).await;
        match done {
            Err(err) if is_namespace_terminating(&err) => Ok(()),
            Err(err) => Err(err),
            Ok(()) => self.delete(&delete).await,
        }
    }

    fn report(&self, endpoints: &Endpoints, invalid: usize, surplus: usize) {
        let object = reference(&resources::ENDPOINTS, &endpoints.metadata);
        let warn = |reason: &str, message: String| self.events.event(&object, EventType::Warning, reason, message);
        if invalid > 0 {
            let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
            warn("InvalidIPAddress", message);
        }
        if surplus > 0 {
            let message = format!(
                "A max of {MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                surplus + invalid
            );
            warn("TooManyAddressesToMirror", message);
        }
    }

    async fn write(
        &self,
        key: &ObjectKey,
        create: Vec<EndpointSlice>,
        update: Vec<EndpointSlice>,
        deleting: bool,
    ) -> Result<(), Error> {
        let body = |slice: &EndpointSlice| -> Result<serde_json::Value, Error> {
            let mut body = serde_json::to_value(slice)?;
            body["apiVersion"] = json!(SLICES.api_version());
            body["kind"] = json!(SLICES.kind);
            Ok(body)
        };
        for slice in create.iter().filter(|_| !deleting) {
            self.expectations.expect_creations(key, 1);
            let created: Result<Meta, Error> = self.ctx.client.create(SLICES, &key.namespace, &body(slice)?).await;
            if let Err(err) = created {
                self.expectations.creation_observed(key);
                return Err(err);
            }
        }
        for slice in &update {
            let _: Meta = self.ctx.client.update(SLICES, &key.namespace, &slice.metadata.name, &body(slice)?).await?;
        }
        Ok(())
    }

    async fn delete(&self, slices: &[Arc<EndpointSlice>]) -> Result<(), Error> {
        for slice in slices {
            let meta = &slice.metadata;
            let options = DeleteOptions::with_uid(&meta.uid);
            ignore_not_found(self.ctx.client.delete(SLICES, &meta.namespace, &meta.name, &options).await)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn endpoints() -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {"name": "e", "namespace": "ns", "uid": "u", "annotations": {"a": "b", LAST_APPLIED: "{}"}},
            "subsets": [{
                "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "nonsense"}],
                "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn each_family_has_its_slice() {
        let (slices, invalid, surplus) = desired(&endpoints());
        assert_eq!((slices.len(), invalid, surplus), (2, 1, 0));
        assert_eq!((slices[0].address_type.as_str(), slices[0].endpoints.len()), ("IPv4", 2));
        assert_eq!(slices[0].endpoints[1].conditions.ready, Some(false));
        assert_eq!(slices[0].metadata.annotations.len(), 1);
    }

    #[test]
    fn only_what_differs_is_written() {
        let (slices, ..) = desired(&endpoints());
        let stored: Vec<_> = slices.iter().cloned().map(Arc::new).collect();
        let (create, update, delete) = plan(slices.clone(), stored.clone());
        assert!(create.is_empty() && update.is_empty() && delete.is_empty());
        let mut fewer = endpoints();
        fewer.subsets[0].addresses.truncate(1);
        let (create, update, delete) = plan(desired(&fewer).0, stored);
        assert_eq!((create.len(), update.len(), delete.len()), (0, 0, 1), "the IPv6 slice goes");
    }

    #[test]
    fn some_are_not_mirrored() {
        let mut e = endpoints();
        assert!(is_mirrored(&e));
        e.metadata.labels.insert(SKIP_LABEL, "true");
        assert!(!is_mirrored(&e));
    }
}
