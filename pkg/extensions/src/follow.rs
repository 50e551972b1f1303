//! Following the definitions in the store.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use kedge_base::TaskGroup;
use kedge_meta::{GroupResource, Status, Text, UserInfo};
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::{Later, Request, UpdateOptions, Writer, store_failure, update};
use kedge_registry::{ChangeError, NoAdmission, Notes, Registry, Served, WriteOptions};
use kedge_storage::{EventKind, Matcher, Next, Object};
use kedge_webhook::Caller;
use parking_lot::Mutex;
use serde_json::Value;
use tracing::{info, warn};

use crate::conversion::Asking;
use crate::definition::{Crd, Names, Which, definition};
use crate::names::judge;
use crate::status::{Structure, Wanted, accept, approval, is_bad};
use crate::{DEFINITIONS, GROUP};

/// What a definition keeps until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Who writes the status of definitions.
const MANAGER: &str = "kube-apiserver";

/// Serves what definitions say.
pub struct Extensions {
    pub(crate) registry: Arc<Registry>,
    pub(crate) tasks: TaskGroup,
    /// Asks webhooks for conversions.
    pub(crate) asking: Asking,
    user: UserInfo,
    known: Mutex<BTreeMap<String, Known>>,
    /// The uids of definitions that are being emptied.
    pub(crate) emptied: Mutex<HashSet<String>>,
    /// Those of them whose objects are gone: they are served no more.
    pub(crate) empty: Mutex<HashSet<String>>,
}

struct Known {
    crd: Arc<Crd>,
    /// What of it is served, if anything is.
    served: Option<Serving>,
}

/// What makes a definition be served anew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Serving {
    uid: String,
    generation: i64,
    names: Names,
    terminating: bool,
    /// Who migrates objects takes versions away, which changes no generation.
    stored_versions: Vec<Text>,
}

impl Serving {
    fn of(crd: &Crd) -> Self {
        Self {
            uid: crd.metadata.uid.clone(),
            generation: crd.metadata.generation,
            names: crd.accepted().clone(),
            terminating: crd.is_deleted(),
            stored_versions: crd.status.stored_versions.clone().unwrap_or_default(),
        }
    }
}

impl Extensions {
    /// Over a registry. Nothing is served before [`Extensions::begin`].
    pub fn new(registry: Arc<Registry>, caller: Arc<Caller>, tasks: TaskGroup) -> Arc<Self> {
        let groups = vec!["system:masters".to_owned()];
        let user = UserInfo { name: "system:apiserver".to_owned(), groups, ..UserInfo::default() };
        let asking = Asking::new(caller, &registry);
        Arc::new(Self {
            registry,
            tasks,
            asking,
            user,
            known: Mutex::default(),
            emptied: Mutex::default(),
            empty: Mutex::default(),
        })
    }

    /// Serves all that is established already, before anybody can ask.
    ///
    /// # Errors
    /// When the definitions cannot be read.
    pub async fn begin(&self) -> Result<(), Status> {
        let store = &self.definitions()?.store;
        let mut served = Vec::new();
        for (_, object) in store.readable("", &Matcher::default()).objects {
            let Some(crd) = read(&object) else { continue };
            if is_served(&crd) {
                served.extend(definition(&crd, &object, &self.asking, Which::Served));
                let serving = Some(Serving::of(&crd));
                self.known.lock().insert(crd.metadata.name.clone(), Known { crd: Arc::new(crd), served: serving });
            }
        }
        let count = served.len();
        for (name, err) in self.registry.serve_all(served).await {
            warn!(definition = name, error = %err, "a custom resource cannot be served");
            if let Some(known) = self.known.lock().get_mut(&name) {
                known.served = None;
            }
        }
        if count > 0 {
            info!(count, "custom resources are served");
        }
        Ok(())
    }

    /// Follows the definitions until the server stops.
    pub fn follow(self: &Arc<Self>) {
        let extensions = self.clone();
        self.tasks.spawn_worker("custom resource definitions", move || {
            let extensions = extensions.clone();
            async move { extensions.run().await }
        });
    }

    async fn run(self: Arc<Self>) {
        let mut pause = kedge_base::Backoff::new(FIRST_PAUSE, LAST_PAUSE, 20);
        loop {
            match self.round().await {
                // The definitions themselves are built in: they are there until the end.
                Ok(()) => return,
                Err(status) => warn!(error = %status.message, "custom resource definitions are listed again"),
            }
            self.registry.clock.sleep(pause.next()).await;
        }
    }

    /// From a list on, until the watch fails.
    async fn round(self: &Arc<Self>) -> Result<(), Status> {
        let served = self.definitions()?;
        let (state, mut watcher) = served.store.watch_with_state("", Matcher::default()).map_err(store_failure)?;
        let names: HashSet<String> =
            state.iter().filter_map(|object| read(object)).map(|crd| crd.metadata.name).collect();
        let gone: Vec<(String, String)> = {
            let known = self.known.lock();
            let gone = known.iter().filter(|(name, _)| !names.contains(*name));
            gone.map(|(name, known)| (name.clone(), known.crd.metadata.uid.clone())).collect()
        };
        for (name, uid) in gone {
            self.forget(&name, &uid).await;
        }
        // All are known before the first is judged.
        for object in &state {
            if let Some(crd) = read(object) {
                self.learn(crd);
            }
        }
        let mut failed = HashSet::new();
        for object in state {
            if !self.look_at(&object).await {
                failed.extend(read(&object).map(|crd| crd.metadata.name));
            }
        }
        let mut pause = kedge_base::Backoff::new(FIRST_PAUSE, LAST_PAUSE, 20);
        loop {
            let next = tokio::select! {
                next = watcher.next() => next,
                () = self.registry.clock.sleep(pause.next()), if !failed.is_empty() => {
                    failed = self.again(std::mem::take(&mut failed)).await;
                    continue;
                }
            };
            pause.reset();
            match next {
                Next::Event(EventKind::Deleted, event) => {
                    if let Some(crd) = event.shown(EventKind::Deleted).as_ref().and_then(read) {
                        failed.remove(&crd.metadata.name);
                        self.forget(&crd.metadata.name, &crd.metadata.uid).await;
                    }
                }
                Next::Event(kind, event) => {
                    let Some(object) = event.shown(kind).map(Arc::new) else { continue };
                    let Some(crd) = read(&object) else { continue };
                    if self.look_at(&object).await {
                        failed.remove(&crd.metadata.name);
                    } else {
                        failed.insert(crd.metadata.name);
                    }
                }
                Next::Failed(err) => return Err(store_failure(err)),
                Next::Closed => return Ok(()),
            }
        }
    }

    /// The group versions that definitions serve.
    pub(crate) fn served_versions(&self) -> BTreeSet<(Text, Text)> {
        let known = self.known.lock();
        let served = known.values().filter(|known| known.served.is_some()).map(|known| &known.crd.spec);
        served
            .flat_map(|spec| {
                let versions = spec.versions.iter().filter(|version| version.served);
                versions.map(|version| (spec.group.clone(), version.name.clone()))
            })
            .collect()
    }

    pub(crate) fn definitions(&self) -> Result<&Arc<Served>, Status> {
        self.registry.builtin(GROUP, "v1", DEFINITIONS).ok_or_else(Status::unknown_path)
    }

    fn learn(&self, crd: Crd) -> Arc<Crd> {
        let crd = Arc::new(crd);
        let mut known = self.known.lock();
        let served = known.get(&crd.metadata.name).and_then(|known| known.served.clone());
        known.insert(crd.metadata.name.clone(), Known { crd: crd.clone(), served });
        crd
    }

    /// Does what a definition wants. False when that has to be tried again.
    async fn look_at(self: &Arc<Self>, object: &Arc<Object>) -> bool {
        let Some(crd) = read(object) else { return true };
        let crd = self.learn(crd);
        let name = crd.metadata.name.clone();
        let resource = GroupResource::new(&crd.spec.group, &crd.spec.names.plural);
        // Who reads that it is established finds it.
        let _coming = (!crd.is_true("Established")).then(|| self.registry.announce(resource));
        let mut done = true;
        let current = match self.settle(&crd, object).await {
            Ok(Some(newer)) => newer,
            Ok(None) => object.clone(),
            Err(status) => {
                warn!(definition = name, error = %status.message, "the status of a custom resource definition cannot be written");
                done = false;
                object.clone()
            }
        };
        let Some(crd) = read(&current) else { return true };
        let crd = self.learn(crd);
        done &= self.serve(&crd, &current).await;
        let has_finalizer = crd.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        let uid = crd.metadata.uid.clone();
        if crd.is_deleted() && has_finalizer && self.emptied.lock().insert(uid.clone()) {
            let extensions = self.clone();
            self.tasks
                .spawn_until_shutdown("custom resource clean-up", async move { extensions.empty(name, uid).await });
        }
        done
    }

    /// Looks at definitions again for which something failed. Those for which it fails again are returned.
    async fn again(self: &Arc<Self>, names: HashSet<String>) -> HashSet<String> {
        let mut left = HashSet::new();
        let Ok(served) = self.definitions() else { return names };
        for name in names {
            let done = match served.store.current(&name).await {
                Ok(Some(object)) => self.look_at(&object).await,
                Ok(None) => true,
                Err(_) => false,
            };
            if !done {
                left.insert(name);
            }
        }
        left
    }

    /// Judges the names of a definition, and writes what is to be said. The definition as it is then, if anything was written.
    async fn settle(&self, crd: &Crd, object: &Object) -> Result<Option<Arc<Object>>, Status> {
        let group: Vec<Arc<Crd>> = {
            let known = self.known.lock();
            known
                .values()
                .filter(|known| known.crd.spec.group == crd.spec.group)
                .map(|known| known.crd.clone())
                .collect()
        };
        let judgement = {
            let accepted = |crd: &Arc<Crd>| crd.status.accepted_names.as_ref().map(|_| ());
            let in_use: Vec<&Names> =
                group.iter().filter(|crd| accepted(crd).is_some()).map(|crd| crd.accepted()).collect();
            let before = crd.status.accepted_names.clone().unwrap_or_default();
            judge(&crd.spec.names, &before, &in_use)
        };
        let annotation = crd.metadata.annotations.as_ref().map_or("", |annotations| &annotations.approved);
        let approval = approval(&crd.spec.group, annotation);
        let same_names = crd.status.accepted_names.as_ref() == Some(&judgement.accepted);
        let judged = match &judgement.conflict {
            None => crd.is_true("NamesAccepted") && (crd.is_true("Established") || has_bad_bundle(crd)),
            Some((reason, message)) => Wanted::new("NamesAccepted", false, reason, message.clone()).is_in(crd),
        };
        let approved = approval.as_ref().is_none_or(|wanted| wanted.is_in(crd));
        let structure = structure(crd, object);
        if same_names && judged && approved && structure.is_settled(crd) {
            return Ok(None);
        }
        let generation = crd.metadata.generation;
        self.write_status(&crd.metadata.name, &crd.metadata.uid, &|definition, now| {
            // What has changed meanwhile is judged when that is seen.
            if definition.int(&["metadata", "generation"]).unwrap_or_default() != generation {
                return;
            }
            accept(definition, &judgement, now);
            if let Some(approval) = &approval {
                approval.set(definition, now);
            }
            structure.set(definition, now);
        })
        .await
    }

    /// Changes the status of a definition; nothing when it is gone, or another one has its name.
    pub(crate) async fn write_status(
        &self,
        name: &str,
        uid: &str,
        change: &(dyn Fn(&mut Value, &str) + Send + Sync),
    ) -> Result<Option<Arc<Object>>, Status> {
        self.write(name, uid, "status", change).await
    }

    /// Changes a definition, or a subresource of it.
    pub(crate) async fn write(
        &self,
        name: &str,
        uid: &str,
        subresource: &str,
        change: &(dyn Fn(&mut Value, &str) + Send + Sync),
    ) -> Result<Option<Arc<Object>>, Status> {
        let served = self.definitions()?;
        let request = self.request(served, "", name, subresource);
        let now = kedge_base::time::rfc3339(self.registry.clock.now());
        let transform = |current: Option<&Value>| {
            let mut definition = current.cloned().unwrap_or_default();
            if definition.text(&["metadata", "uid"]) == uid {
                change(&mut definition, &now);
            }
            Ok(definition)
        };
        match update(&request, &transform, UpdateOptions::default()).await {
            Ok(_) => served.store.current(name).await.map_err(store_failure),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// A request of the server itself.
    pub(crate) fn request<'a>(
        &'a self,
        served: &'a Served,
        namespace: &'a str,
        name: &'a str,
        subresource: &'a str,
    ) -> Request<'a> {
        Request {
            registry: &self.registry,
            served,
            admission: &NoAdmission,
            user: &self.user,
            namespace,
            name,
            subresource,
            dry_run: false,
            options: WriteOptions::default(),
            writer: Writer::Manager(MANAGER.into()),
            later: Later::default(),
            notes: Notes::default(),
        }
    }

    /// Serves what a definition says, if that is not served already. False when that cannot be done now.
    async fn serve(&self, crd: &Crd, object: &Arc<Object>) -> bool {
        let name = &crd.metadata.name;
        if !is_served(crd) || self.empty.lock().contains(&crd.metadata.uid) {
            return true;
        }
        let wanted = Serving::of(crd);
        let before = self.known.lock().get(name).and_then(|known| known.served.clone());
        if before.as_ref() == Some(&wanted) {
            return true;
        }
        let resource = GroupResource::new(&crd.spec.group, &crd.accepted().plural);
        let done = match definition(crd, object, &self.asking, Which::Served) {
            Some(definition) => self.registry.serve(definition).await,
            // No version of it is served any more.
            None => {
                self.registry.withdraw(&resource).await;
                Ok(())
            }
        };
        let ok = done.is_ok();
        if let Some(known) = self.known.lock().get_mut(name) {
            known.served = ok.then_some(wanted);
        }
        match done {
            Ok(()) => info!(definition = %name, generation = crd.metadata.generation, "a custom resource is served"),
            Err(err @ ChangeError::BuiltInGroup(_)) => {
                info!(definition = %name, error = %err, "a custom resource is not served");
                return true;
            }
            Err(err) => warn!(definition = %name, error = %err, "a custom resource cannot be served"),
        }
        ok
    }

    /// Serves what was served of a definition no more; another that has its name by now stays.
    pub(crate) async fn withdraw(&self, name: &str, uid: &str) {
        let crd = self.known.lock().get_mut(name).filter(|known| known.crd.metadata.uid == uid).map(|known| {
            known.served = None;
            known.crd.clone()
        });
        if let Some(crd) = crd
            && self.registry.withdraw(&GroupResource::new(&crd.spec.group, &crd.accepted().plural)).await
        {
            info!(definition = name, "a custom resource is served no more");
        }
    }

    /// A definition is gone: so is what it said, and its names are free for others of its group.
    async fn forget(self: &Arc<Self>, name: &str, uid: &str) {
        self.withdraw(name, uid).await;
        let gone = {
            let mut known = self.known.lock();
            // One that was made since then has been looked at already, perhaps.
            let is_it = known.get(name).is_some_and(|known| known.crd.metadata.uid == uid);
            if is_it { known.remove(name) } else { None }
        };
        let Some(gone) = gone else { return };
        let waiting: Vec<String> = {
            let known = self.known.lock();
            let of_group = known.values().filter(|known| known.crd.spec.group == gone.crd.spec.group);
            of_group
                .filter(|known| !known.crd.is_true("NamesAccepted"))
                .map(|known| known.crd.metadata.name.clone())
                .collect()
        };
        let Ok(served) = self.definitions() else { return };
        for name in waiting {
            if let Ok(Some(object)) = served.store.get(&name) {
                Box::pin(self.look_at(&object)).await;
            }
        }
    }
}

const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
const LAST_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

/// Whether a definition waits for a bundle with certificates.
fn has_bad_bundle(crd: &Crd) -> bool {
    let webhook = crd.spec.conversion.as_ref().and_then(|conversion| conversion.webhook.as_ref());
    let says = crd.condition("Established").is_some_and(|condition| condition.reason == "InvalidCABundle");
    says && webhook.is_some_and(is_bad)
}

/// What is said of the structure of a definition's schemas. Whatever comes through the API is structural; the others, which an older
/// server stored, keep unknown fields, or are told of already.
fn structure(crd: &Crd, object: &Object) -> Structure {
    if !crd.spec.preserve_unknown_fields && crd.condition(Structure::KIND).is_none() {
        return Structure::Sound;
    }
    match serde_json::from_slice::<Value>(&object.stored()) {
        Ok(definition) => Structure::of(kedge_registry::violations(&definition)),
        // That has been read before, as a definition.
        Err(_) => Structure::Sound,
    }
}

/// Whether a definition is to be served: it is established, and its objects are not all gone for good.
fn is_served(crd: &Crd) -> bool {
    let finished = crd.condition("Terminating").is_some_and(|condition| condition.status == "False");
    crd.is_true("Established") && !(crd.is_deleted() && finished)
}

fn read(object: &Object) -> Option<Crd> {
    match Crd::read(object) {
        Ok(crd) => Some(crd),
        Err(err) => {
            warn!(revision = object.revision, error = %err, "a custom resource definition cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    /// A migration ends with a version taken away from the status. Nothing else changes then, and the version was read as one that objects
    /// may be stored in until the server started again.
    #[test]
    fn versions_that_are_taken_away_make_another_thing_of_a_definition() {
        let serving = |stored: &[&str]| {
            let crd = json!({"metadata": {"name": "boats.example.org", "generation": 1}, "status": {"storedVersions": stored},
                "spec": {"group": "example.org", "scope": "Namespaced", "versions": [{"name": "v1"}],
                    "names": {"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList"}}});
            Serving::of(&serde_json::from_value::<Crd>(crd).unwrap())
        };
        assert_ne!(serving(&["v1", "v2"]), serving(&["v2"]));
        assert_eq!(serving(&["v2"]), serving(&["v2"]));
    }
}
