//! Makes claims of devices from templates for pods, and gives up what nobody uses any more.
//!
//! Invariant: a reservation is taken away only from a pod of which the API server, or its deletion, has said that it is not going to
//! run; and a claim is made once for a pod, however often it is tried.

mod claim;
mod pod;
mod types;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use kedge_base::exposition::{self, Counters, Exposition};
use kedge_client::{Change, Error, EventRecorder, Informer, WorkQueue};
use kedge_meta::ObjectKey;
use kedge_meta::resources::{RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS};
use parking_lot::Mutex;

use crate::context::Context;
use crate::objects::{Meta, Pod};
use crate::workload::index::OwnerIndex;
use types::{Claim, Named};

/// Pods and claims that are worked on at once; where there are none, each worker is only memory.
const WORKERS: usize = 10;
/// Pods that are gone and still known to be.
const REMEMBERED: usize = 500;

/// What is worked on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    Pod(ObjectKey),
    Claim(ObjectKey),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => write!(f, "pod:{key}"),
            Self::Claim(key) => write!(f, "claim:{key}"),
        }
    }
}

/// What a pod uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Used {
    Claim(ObjectKey),
    Template(ObjectKey),
}

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<Work>,
    claims: Informer<Claim>,
    by_owner: OwnerIndex<Claim>,
    users: Mutex<HashMap<Used, BTreeSet<String>>>,
    gone: Mutex<Gone>,
    /// Claims that were made and may not be in the cache yet, by the pod's uid and its name for them.
    made: Mutex<HashMap<(String, String), String>>,
    created: Counters,
}

/// The uids of pods that went last.
#[derive(Default)]
struct Gone {
    order: VecDeque<String>,
    uids: HashSet<String>,
}

impl Gone {
    fn add(&mut self, uid: &str) {
        if !self.uids.insert(uid.to_owned()) {
            return;
        }
        self.order.push_back(uid.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }
}

impl exposition::Shown for Controller {
    fn show(&self, out: &mut Exposition) {
        let help =
            "[ALPHA] Number of ResourceClaims creation requests, categorized by creation status and admin access";
        self.created.show(out, "resourceclaim_controller_creates_total", help);
    }
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let claims: Informer<Claim> = ctx.informer(&RESOURCE_CLAIMS);
    let templates: Informer<Meta> = ctx.informer(&RESOURCE_CLAIM_TEMPLATES);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        events: ctx.recorder("resource_claim"),
        queue: queue.clone(),
        by_owner: OwnerIndex::new(&claims),
        claims: claims.clone(),
        users: Mutex::default(),
        gone: Mutex::default(),
        made: Mutex::default(),
        created: Counters::default(),
    });
    exposition::list("resource claims", &controller);
    let c = controller.clone();
    ctx.pods.on_change(move |change| c.pod_changed(change));
    let c = controller.clone();
    claims.on_change(move |change| {
        let key = change.key();
        if change.new.is_some() {
            c.queue.add(Work::Claim(key.clone()));
        }
        c.wake(Used::Claim(key));
    });
    let c = controller.clone();
    templates.on_change(move |change| {
        if change.new.is_some() {
            c.wake(Used::Template(change.key()));
        }
    });
    let c = controller.clone();
    let synced = async move {
        c.ctx.pods.synced().await;
        c.claims.synced().await;
        templates.synced().await;
        // Pods that came before their claims were known.
        let pods = c.ctx.pods.list();
        pods.iter().filter(|pod| types::has_claims(pod)).for_each(|pod| c.look_at(pod, false));
    };
    ctx.work("resourceclaim", &queue, WORKERS, synced, controller, |c, work| async move { c.reconcile(work).await });
}

fn used(pod: &Pod) -> Vec<Used> {
    let key = |name: String| ObjectKey::new(&pod.metadata.namespace, name);
    let templates = pod.spec.resource_claims.iter().filter_map(|c| c.resource_claim_template_name.clone());
    let claims = types::names(pod).into_iter().map(|name| Used::Claim(key(name)));
    claims.chain(templates.map(|name| Used::Template(key(name)))).collect()
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let with_claims = |pod: &Option<Arc<Pod>>| pod.clone().filter(|pod| types::has_claims(pod));
        let (old, new) = (with_claims(&change.old), with_claims(&change.new));
        let (before, after) =
            (old.as_deref().map(used).unwrap_or_default(), new.as_deref().map(used).unwrap_or_default());
        if before != after {
            let mut users = self.users.lock();
            let name = change.key().name;
            for one in &before {
                if let Some(names) = users.get_mut(one) {
                    names.remove(&name);
                    if names.is_empty() {
                        users.remove(one);
                    }
                }
            }
            for one in after {
                users.entry(one).or_default().insert(name.clone());
            }
        }
        match (&old, &new) {
            (Some(pod), None) => {
                self.gone.lock().add(&pod.metadata.uid);
                self.made.lock().retain(|(uid, _), _| *uid != pod.metadata.uid);
                self.look_at(pod, true);
            }
            (Some(old), Some(pod)) => {
                if old.metadata.uid != pod.metadata.uid {
                    self.gone.lock().add(&old.metadata.uid);
                    self.look_at(old, true);
                }
                self.look_at(pod, false);
            }
            (None, Some(pod)) => self.look_at(pod, false),
            (None, None) => {}
        }
    }

    /// Queues what a pod gives work for.
    fn look_at(&self, pod: &Pod, deleted: bool) {
        let namespace = &pod.metadata.namespace;
        if deleted || types::is_done(pod) {
            types::names(pod).into_iter().for_each(|name| self.queue.add(Work::Claim(ObjectKey::new(namespace, name))));
        }
        if !deleted && !pod.metadata.is_deleting() && self.needs_work(pod) {
            self.queue.add(Work::Pod(pod.metadata.key()));
        }
    }

    fn needs_work(&self, pod: &Pod) -> bool {
        pod.spec.resource_claims.iter().any(|own| {
            let (name, made) = match types::name(pod, own) {
                Named::Unknown | Named::Unsupported => return true,
                Named::Unneeded => return false,
                Named::Given(name) => (name, false),
                Named::Made(name) => (name, true),
            };
            match self.claims.get(&pod.metadata.namespace, name) {
                None => made,
                Some(claim) if made && claim.check_owner(pod).is_err() => false,
                Some(claim) => !pod.spec.node_name.is_empty() && claim.can_be_reserved_for(pod),
            }
        })
    }

    /// Looks at the pods that use something.
    fn wake(&self, used: Used) {
        let (Used::Claim(key) | Used::Template(key)) = &used;
        let names = self.users.lock().get(&used).cloned().unwrap_or_default();
        for name in names {
            if let Some(pod) = self.ctx.pods.get(&key.namespace, &name) {
                self.look_at(&pod, false);
            }
        }
    }

    async fn reconcile(&self, work: Work) -> Result<(), Error> {
        match work {
            Work::Pod(key) => self.pod(&key).await,
            Work::Claim(key) => self.claim(&key).await,
        }
    }
}

#[cfg(test)]
mod tests;
