//! Says that ServiceCIDRs are ready, and keeps those that wait to be deleted until no service has an address because of them
//! alone.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use kedge_client::{Error, EventRecorder, EventType, Informer, ListParams, Patch, WorkQueue};
use kedge_meta::{ObjectKey, ObjectMeta, ObjectReference, resources};
use serde::Deserialize;
use serde_json::json;

use crate::context::{Context, ignore_not_found};
use crate::objects::{Condition, Meta, condition, keyed, nullable, parse_time};
use plan::{Ranges, overlapping};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// By which an address says that it belongs to a service.
const OF_SERVICES: &str = "ipaddress.kubernetes.io/managed-by=ipallocator.k8s.io";
/// How long one that nobody needs is kept: API servers that have not seen yet that it is marked may give out an address of it.
/// Ours do not, but stock ones beside them do.
const GRACE: Duration = Duration::from_secs(10);
const READY: &str = "Ready";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceCidr {
    metadata: ObjectMeta,
    spec: Spec,
    status: Status,
}
keyed!(ServiceCidr);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(deserialize_with = "nullable")]
    cidrs: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
}

struct Controller {
    ctx: Context,
    queue: WorkQueue<ObjectKey>,
    cidrs: Informer<ServiceCidr>,
    addresses: Informer<Meta>,
    recorder: EventRecorder,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let addresses = ListParams::labels(OF_SERVICES);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        queue: queue.clone(),
        cidrs: ctx.informer(&resources::SERVICE_CIDRS),
        addresses: Informer::start(&ctx.client, &ctx.tasks, &resources::IP_ADDRESSES, addresses),
        recorder: ctx.recorder("service-cidr-controller"),
    });
    let c = controller.clone();
    controller.cidrs.on_change(move |change| {
        c.queue.add(change.key());
        // A new one may take over what keeps another from going.
        if let (None, Some(new)) = (&change.old, &change.new) {
            let others = overlapping(&Ranges::of(&new.spec.cidrs), &c.cidrs.list());
            others.into_iter().for_each(|key| c.queue.add(key));
        }
    });
    let c = controller.clone();
    controller.addresses.on_change(move |change| {
        if change.old.is_some() != change.new.is_some() {
            c.cidrs_of(&change.key().name).into_iter().for_each(|key| c.queue.add(key));
        }
    });
    let c = controller.clone();
    let synced = async move {
        c.cidrs.synced().await;
        c.addresses.synced().await;
    };
    ctx.work("service-cidrs", &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    /// Those that wait to be deleted and have the address.
    fn cidrs_of(&self, address: &str) -> Vec<ObjectKey> {
        let Ok(ip) = address.parse() else { return Vec::new() };
        let waiting = self.cidrs.list().into_iter().filter(|cidr| cidr.metadata.is_deleting());
        let having = waiting.filter(|cidr| Ranges::of(&cidr.spec.cidrs).have(ip));
        having.map(|cidr| cidr.metadata.key()).collect()
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(cidr) = self.cidrs.get("", &key.name) else { return Ok(()) };
        if cidr.metadata.is_deleting() {
            return self.let_go(&cidr, key).await;
        }
        self.hold(&cidr).await?;
        let ready = Condition::new(READY, true, "", "Kubernetes Service CIDR is ready", self.ctx.clock.now());
        let said = self.say(&cidr, ready).await;
        if said.is_err() {
            let message = "The ServiceCIDR Status can not be set to Ready=True";
            self.recorder.event(&reference(&cidr), EventType::Warning, "KubernetesServiceCIDRError", message);
        }
        said
    }

    async fn let_go(&self, cidr: &ServiceCidr, key: ObjectKey) -> Result<(), Error> {
        if !cidr.metadata.finalizers.iter().any(|name| name == FINALIZER) {
            return Ok(());
        }
        if self.is_needed(cidr).await? {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            let not_ready = Condition::new(READY, false, "Terminating", message, self.ctx.clock.now());
            // An address that goes, or a range that comes, is a reason to look again.
            return self.say(cidr, not_ready).await;
        }
        let marked = parse_time(cidr.metadata.deletion_timestamp.as_ref());
        let waited = marked.map(|marked| self.ctx.clock.now().duration_since(marked));
        let left = waited.and_then(|waited| Duration::try_from(SignedDuration::try_from(GRACE).ok()? - waited).ok());
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            self.queue.add_after(key, left);
            return Ok(());
        }
        let finalizers: Vec<&String> = cidr.metadata.finalizers.iter().filter(|name| *name != FINALIZER).collect();
        self.write_finalizers(cidr, json!(finalizers)).await
    }

    /// Whether an address would be in no range without this one.
    async fn is_needed(&self, cidr: &ServiceCidr) -> Result<bool, Error> {
        let ranges = Ranges::of(&cidr.spec.cidrs);
        let all = self.cidrs.list();
        let stay =
            all.iter().filter(|other| other.metadata.name != cidr.metadata.name && !other.metadata.is_deleting());
        let others = Ranges::of(stay.flat_map(|other| &other.spec.cidrs));
        if others.cover(&ranges) {
            return Ok(false);
        }
        let needs = |meta: &Meta| meta.metadata.name.parse().is_ok_and(|ip| ranges.have(ip) && !others.have(ip));
        if self.addresses.list().iter().any(|meta| needs(meta)) {
            return Ok(true);
        }
        // Asked of the server before it goes: an address may have been given out a moment before it was marked.
        let list = ListParams::labels(OF_SERVICES);
        let addresses = self.ctx.client.list::<Meta>(&resources::IP_ADDRESSES, "", &list).await?;
        Ok(addresses.items.iter().any(needs))
    }

    async fn hold(&self, cidr: &ServiceCidr) -> Result<(), Error> {
        if cidr.metadata.finalizers.iter().any(|name| name == FINALIZER) {
            return Ok(());
        }
        let mut finalizers = cidr.metadata.finalizers.clone();
        finalizers.push(FINALIZER.to_owned());
        self.write_finalizers(cidr, json!(finalizers)).await
    }

    /// Only as long as it is what was looked at.
    async fn write_finalizers(&self, cidr: &ServiceCidr, finalizers: serde_json::Value) -> Result<(), Error> {
        let version = &cidr.metadata.resource_version;
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}}));
        let patched = self.ctx.client.patch(&resources::SERVICE_CIDRS, "", &cidr.metadata.name, patch, None).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }

    async fn say(&self, cidr: &ServiceCidr, wanted: Condition) -> Result<(), Error> {
        let said = condition(&cidr.status.conditions, READY);
        let same = |said: &Condition| {
            (&said.status, &said.reason, &said.message) == (&wanted.status, &wanted.reason, &wanted.message)
        };
        if said.is_some_and(same) {
            return Ok(());
        }
        let mut wanted = json!(wanted);
        // Conditions of this kind have a reason, be it an empty one.
        if wanted["reason"].is_null() {
            wanted["reason"] = json!("");
        }
        let patch = json!({"metadata": {"uid": cidr.metadata.uid}, "status": {"conditions": [wanted]}});
        let (resource, name) = (&resources::SERVICE_CIDRS, &cidr.metadata.name);
        let patched = self.ctx.client.patch(resource, "", name, Patch::Strategic(patch), Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}

fn reference(cidr: &ServiceCidr) -> ObjectReference {
    ObjectReference {
        kind: "ServiceCIDR".into(),
        api_version: resources::SERVICE_CIDRS.api_version(),
        name: cidr.metadata.name.clone(),
        uid: cidr.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
