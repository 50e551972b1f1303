//! Keeps the `used` of ResourceQuotas in line with what there is: objects are charged when they are admitted, and given back here.
//!
//! Invariants: what is written was counted from the API server or a full cache, never added to what was there before. And it is
//! counted when something has gone or a quota has changed, not because something was charged or has come: what is charged is stored
//! only afterwards, and a count in between would let one too many in. What was charged and never stored is given back by the
//! count that comes round.

mod settle;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use kedge_client::{Discovered, Error, Found, Informer, ListParams, Patch, WorkQueue};
use kedge_meta::quantity::Quantity;
use kedge_meta::resources::{PERSISTENT_VOLUME_CLAIMS, PODS, RESOURCE_QUOTAS, SERVICES};
use kedge_meta::{ObjectKey, Resource, StringMap};
use kedge_quota::{Amounts, Item, amounts, count_names};
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, ignore_not_found};
use crate::objects::{Meta, ResourceQuota};
use settle::Settling;
use usage::StoredClaim;

/// Everything is counted again after this time at the latest.
const RECOUNT: Duration = Duration::from_secs(300);

struct Controller {
    ctx: Context,
    queue: WorkQueue<ObjectKey>,
    quotas: Informer<ResourceQuota>,
    /// What is known of quotas until they are counted.
    settling: Mutex<Settling>,
}

/// Tells the controller that objects of a resource went in a namespace, or that the resource itself went, with all that there was of it.
pub type Notice = Arc<dyn Fn(&Resource, Option<&str>) + Send + Sync>;

/// Starts the controller.
pub fn start(ctx: &Context) -> Notice {
    let queue = ctx.queue();
    let quotas: Informer<ResourceQuota> = ctx.informer(&RESOURCE_QUOTAS);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        queue: queue.clone(),
        quotas: quotas.clone(),
        settling: Mutex::default(),
    });
    let changed = queue.clone();
    quotas.on_change(move |change| match (&change.old, &change.new) {
        // A charge changes what is used alone.
        (Some(old), Some(new)) if old.spec == new.spec && new.status.hard == new.spec.hard => {}
        _ => changed.add(change.key()),
    });
    let c = controller.clone();
    ctx.pods.on_change(move |change| {
        if c.quotas.is_empty() || change.old.is_none() {
            return;
        }
        let now = c.ctx.clock.now();
        let uses = |p: &Option<Arc<crate::objects::Pod>>| p.as_ref().map(|p| usage::counted(p, now));
        if uses(&change.old) != uses(&change.new) {
            let (old, new) = (change.old.as_deref().map(usage::of_pod), change.new.as_deref().map(usage::of_pod));
            c.recount(&change.key().namespace, |_| true, old, new);
        }
    });
    let c = controller.clone();
    ctx.services.on_change(move |change| {
        if change.old.is_some() {
            let (old, new) =
                (change.old.as_deref().map(usage::of_service), change.new.as_deref().map(usage::of_service));
            c.recount(&change.key().namespace, |name| name.contains("services"), old, new);
        }
    });
    let c = controller.clone();
    let notice: Notice = Arc::new(move |resource, namespace| {
        // They tell of themselves, with what they used.
        if [&PODS, &SERVICES].contains(&resource) {
            return;
        }
        let counted = count_name(resource);
        let Some(namespace) = namespace else {
            return c.recount_everywhere(|name| name == counted);
        };
        let storage = *resource == PERSISTENT_VOLUME_CLAIMS;
        let concerns =
            |name: &str| name == counted || resource.plural == *name || (storage && name.contains("storage"));
        // What a claim asked for is not known here.
        let went = Item::Other(count_names(&resource.group, &resource.plural));
        c.recount(namespace, concerns, (!storage).then_some(went), None);
    });
    let c = controller.clone();
    let synced = async move {
        c.quotas.synced().await;
        c.ctx.pods.synced().await;
        c.ctx.services.synced().await;
    };
    ctx.work("resourcequota", &queue, 2, synced, controller, |c, key| async move { c.reconcile(key).await });
    notice
}

/// The name that `count/` has for a resource.
fn count_name(resource: &Resource) -> String {
    count_names(&resource.group, &resource.plural).swap_remove(0)
}

/// Names that count claims.
fn is_of_claims(name: &str) -> bool {
    name.contains("persistentvolumeclaims") || name.contains("storage")
}

impl Controller {
    /// Queues the quotas of a namespace that limit something for which `concerns` holds, with what they have back when an object changes.
    fn recount(&self, namespace: &str, concerns: impl Fn(&str) -> bool, old: Option<Item<'_>>, new: Option<Item<'_>>) {
        let (now, monotonic) = (self.ctx.clock.now(), self.ctx.clock.monotonic());
        for quota in self.quotas.list_namespace(namespace) {
            if !quota.spec.hard.keys().any(&concerns) {
                continue;
            }
            let (key, scopes) = (quota.metadata.key(), usage::scopes(&quota.spec));
            let uses = |item: &Option<Item<'_>>| match item {
                Some(item) if item.in_scopes(&scopes) => item.usage(now),
                _ => Amounts::new(),
            };
            let mut gone = amounts::growth(&uses(&old), &uses(&new));
            gone.retain(|name, amount| !amount.is_zero() && quota.spec.hard.contains_key(name));
            let delay = self.settling.lock().went(&key, &gone, monotonic);
            self.queue.add_after(key, delay);
        }
    }

    /// Queues all quotas that limit something for which `concerns` holds. What they have back is not known.
    fn recount_everywhere(&self, concerns: impl Fn(&str) -> bool) {
        let now = self.ctx.clock.monotonic();
        for quota in self.quotas.list() {
            if quota.spec.hard.keys().any(&concerns) {
                let key = quota.metadata.key();
                let delay = self.settling.lock().went(&key, &Amounts::new(), now);
                self.queue.add_after(key, delay);
            }
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(quota) = self.quotas.get(&key.namespace, &key.name) else {
            self.settling.lock().forget(&key);
            return Ok(());
        };
        // A quota that nobody enforces yet is counted at once.
        let counted = quota.spec.hard.keys().all(|name| quota.status.used.contains_key(name));
        let enforced = counted && quota.status.hard == quota.spec.hard;
        let version = &quota.metadata.resource_version;
        let (gone, wait) = {
            let mut settling = self.settling.lock();
            let now = self.ctx.clock.monotonic();
            (settling.begin(&key, now), settling.wait(&key, version, now).filter(|_| enforced))
        };
        if let Some(wait) = wait
            && gone.is_empty()
        {
            self.queue.add_after(key, wait);
            return Ok(());
        }
        let found = self.usage(&quota).await;
        let charged = amounts::parse(quota.status.used.iter());
        match (&found, wait) {
            (Ok(found), Some(wait)) if !accounts_for(&gone, &charged, found) => {
                self.settling.lock().put_back(&key, &gone);
                self.queue.add_after(key, wait);
                return Ok(());
            }
            (Ok(_), _) => self.settling.lock().end(&key),
            (Err(_), _) => self.settling.lock().put_back(&key, &gone),
        }
        let found = found?;
        let zero = Quantity::ZERO;
        let used = quota.spec.hard.keys().map(|name| (name, found.get(name).unwrap_or(&zero).to_string()));
        let used: StringMap = used.collect();
        self.queue.add_after(key.clone(), RECOUNT);
        let same = |name: &str, text: &str| {
            let parse = |text: &str| Quantity::parse(text).ok();
            quota.status.used.get(name).is_some_and(|was| parse(was) == parse(text))
        };
        if used.len() == quota.status.used.len()
            && used.iter().all(|(name, text)| same(name, text))
            && quota.status.hard == quota.spec.hard
        {
            return Ok(());
        }
        let mut wanted = json!({ "hard": quota.spec.hard, "used": used });
        for (field, old) in [("hard", &quota.status.hard), ("used", &quota.status.used)] {
            for name in old.keys().filter(|n| !quota.spec.hard.contains_key(*n)) {
                wanted[field][name] = serde_json::Value::Null;
            }
        }
        let patch = json!({ "metadata": { "resourceVersion": quota.metadata.resource_version }, "status": wanted });
        let (namespace, name, patch) = (&key.namespace, &key.name, Patch::Merge(patch));
        let patched = self.ctx.client.patch(&RESOURCE_QUOTAS, namespace, name, patch, Some("status")).await;
        if patched.is_err() {
            self.settling.lock().put_back(&key, &gone);
        }
        ignore_not_found(patched.map(|_: Meta| ()))
    }

    async fn usage(&self, quota: &ResourceQuota) -> Result<Amounts, Error> {
        let (namespace, spec) = (&quota.metadata.namespace, &quota.spec);
        let (scopes, now) = (usage::scopes(spec), self.ctx.clock.now());
        let mut total = Amounts::new();
        let mut count = |item: Item<'_>| {
            if item.in_scopes(&scopes) {
                amounts::add(&mut total, &item.usage(now));
            }
        };
        self.ctx.pods.list_namespace(namespace).iter().for_each(|pod| count(usage::of_pod(pod)));
        self.ctx.services.list_namespace(namespace).iter().for_each(|service| count(usage::of_service(service)));
        if spec.hard.keys().any(is_of_claims) {
            let all = ListParams::default();
            let list = self.ctx.client.list::<StoredClaim>(&PERSISTENT_VOLUME_CLAIMS, namespace, &all).await?;
            list.items.iter().for_each(|claim| count(usage::of_claim(claim)));
        }
        for name in spec.hard.keys().filter(|_| scopes.is_empty()) {
            if total.contains_key(name) || Item::is_measured(name) {
                continue;
            }
            let counted = if name.contains('/') { name.to_owned() } else { format!("count/{name}") };
            let Some(resource) = self.resource(&counted).await? else { continue };
            let list = self.ctx.client.list::<Meta>(&resource, namespace, &ListParams::default()).await?;
            let n = i64::try_from(list.items.len()).unwrap_or(i64::MAX);
            total.insert(name.to_owned(), Quantity::from_value(n));
        }
        Ok(total)
    }

    /// The resource that `count/…` names, if there is one.
    async fn resource(&self, counted: &str) -> Result<Option<Arc<Resource>>, Error> {
        if !counted.starts_with("count/") {
            return Ok(None);
        }
        let find = |found: &Found| {
            let counts = |d: &&Discovered| is_counted(d) && count_name(&d.resource) == counted;
            found.resources.iter().find(counts).map(|d| d.resource.clone())
        };
        match self.ctx.discovery.current().and_then(|found| find(&found)) {
            Some(known) => Ok(Some(known)),
            None => Ok(find(&*self.ctx.discovery.refresh().await?)),
        }
    }
}

/// Whether what has gone is just that by which less was found than is charged: then nothing that is charged waits to be stored, and no charge
/// is still to be seen here.
fn accounts_for(gone: &Amounts, used: &Amounts, found: &Amounts) -> bool {
    let zero = Quantity::ZERO;
    used.iter().all(|(name, used)| {
        let (found, gone) = (found.get(name).unwrap_or(&zero), gone.get(name).unwrap_or(&zero));
        *used == found.add(gone)
    })
}

/// As upstream: what comes and goes. What pods use is listed in a namespace, and is no object of it.
fn is_counted(d: &Discovered) -> bool {
    d.resource.namespaced && ["create", "list", "watch", "delete"].iter().all(|verb| d.can(verb))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_meta::resources;

    #[test]
    fn what_can_only_be_read_is_not_counted() {
        let with = |verbs: &[&str]| Discovered {
            resource: Arc::new(resources::PODS.clone()),
            verbs: verbs.iter().map(|verb| (*verb).into()).collect(),
        };
        assert!(is_counted(&with(&["create", "delete", "get", "list", "watch"])));
        assert!(!is_counted(&with(&["get", "list"])));
    }

    #[test]
    fn less_is_found_when_as_much_has_gone() {
        let of = |pods: &str, cpu: &str| amounts::parse([("pods", pods), ("cpu", cpu)]);
        let holds = |gone, used, found| accounts_for(&gone, &used, &found);
        assert!(holds(of("1", "100m"), of("3", "300m"), of("2", "200m")));
        assert!(
            !holds(of("1", "100m"), of("2", "200m"), of("2", "200m")),
            "what has gone was charged, and that is not seen yet"
        );
        assert!(!holds(of("1", "100m"), of("3", "300m"), of("1", "200m")), "one was charged and is not stored");
        assert!(!holds(of("1", "50m"), of("3", "300m"), of("2", "200m")));
        assert!(!holds(Amounts::new(), of("1", "0"), Amounts::new()));
    }

    #[test]
    fn names_of_counts_are_upstreams() {
        assert_eq!(count_name(&resources::CONFIG_MAPS), "count/configmaps");
        assert_eq!(count_name(&resources::DEPLOYMENTS), "count/deployments.apps");
    }
}
