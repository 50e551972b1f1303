//! A definition is being deleted: its objects go first.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::Backoff;
use kedge_meta::Status;
use kedge_registry::verbs::{DeleteOptions, delete, store_failure};
use kedge_registry::{Entry, Served};
use kedge_storage::{Matcher, Object};
use tracing::warn;

use crate::definition::{Crd, Which, definition};
use crate::follow::{Extensions, FINALIZER};
use crate::status::Wanted;

/// How long the objects are waited for before it is said that some are left.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often they are counted.
const LOOK: Duration = Duration::from_millis(50);

const TERMINATING: &str = "Terminating";

impl Extensions {
    /// Deletes all objects of a definition, waits until they are gone, and lets the definition go.
    pub(crate) async fn empty(self: Arc<Self>, name: String, uid: String) {
        let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(60), 20);
        loop {
            match self.try_to_empty(&name, &uid).await {
                Ok(()) => break,
                Err(status) => {
                    warn!(definition = name, error = %status.message, "a custom resource definition still has objects")
                }
            }
            self.registry.clock.sleep(pause.next()).await;
        }
        self.emptied.lock().remove(&uid);
        self.empty.lock().remove(&uid);
    }

    async fn try_to_empty(&self, name: &str, uid: &str) -> Result<(), Status> {
        let begun =
            Wanted::new(TERMINATING, true, "InstanceDeletionInProgress", "CustomResource deletion is in progress");
        let Some(object) = self.write_status(name, uid, &|crd, now| begun.set(crd, now)).await? else { return Ok(()) };
        let crd = Crd::read(&object).map_err(Status::internal)?;
        if crd.metadata.uid != uid {
            return Ok(());
        }
        let ended = match crd.is_true("Established") {
            false => Wanted::new(TERMINATING, false, "NeverEstablished", "resource was never established"),
            true => match self.delete_all(&crd, &object).await {
                Ok(()) => Wanted::new(TERMINATING, false, "InstanceDeletionCompleted", "removed all instances"),
                Err((reason, status)) => {
                    let failed = Wanted::new(TERMINATING, true, reason, status.message.clone());
                    self.write_status(name, uid, &|crd, now| failed.set(crd, now)).await?;
                    return Err(status);
                }
            },
        };
        self.write_status(name, uid, &|crd, now| ended.set(crd, now)).await?;
        let release = |crd: &mut serde_json::Value, _: &str| {
            if let Some(finalizers) = crd["metadata"]["finalizers"].as_array_mut() {
                finalizers.retain(|finalizer| finalizer != FINALIZER);
            }
        };
        self.write(name, uid, "", &release).await.map(|_| ())
    }

    /// A version of the kind in which its objects can be deleted.
    fn served_of(&self, crd: &Crd) -> Option<Arc<Served>> {
        let catalogue = self.registry.catalogue();
        let plural = &crd.accepted().plural;
        crd.spec.versions.iter().find_map(|version| match catalogue.get(&crd.spec.group, &version.name, plural)? {
            Entry::Stored(served) => Some(served.clone()),
            Entry::Answered(_) => None,
        })
    }

    /// Deletes all objects of a definition, and waits until they are gone.
    async fn delete_all(&self, crd: &Crd, object: &Arc<Object>) -> Result<(), (&'static str, Status)> {
        let list = |status: Status| {
            let text = format!("could not list instances: {}", status.message);
            ("InstanceDeletionFailed", Status { message: text, ..status })
        };
        if let Some(served) = self.served_of(crd) {
            self.delete_objects(&served).await?;
            // Out of the catalogue; what was being made until then is in the store after this, or never will be.
            self.empty.lock().insert(crd.metadata.uid.clone());
            self.withdraw(&crd.metadata.name, &crd.metadata.uid).await;
        }
        // Also where no version is served.
        let Some(definition) = definition(crd, object, &self.asking, Which::Stored) else { return Ok(()) };
        let served = self.registry.aside(definition).await.map_err(|err| list(Status::internal(err)))?;
        let deleted = self.delete_objects(&served).await;
        self.registry.put_away(&served).await;
        deleted
    }

    async fn delete_objects(&self, served: &Served) -> Result<(), (&'static str, Status)> {
        let list = |status: Status| {
            let text = format!("could not list instances: {}", status.message);
            ("InstanceDeletionFailed", Status { message: text, ..status })
        };
        let mut waited = Duration::ZERO;
        loop {
            // What was being made when the definition was deleted comes while the others go.
            let all = served.store.list("", &Matcher::default(), 0).map_err(|err| list(store_failure(err)))?;
            if all.objects.is_empty() {
                return Ok(());
            }
            for (key, _) in all.objects {
                let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
                let request = self.request(served, namespace, name, "");
                match delete(&request, &DeleteOptions::default()).await {
                    Err(status) if status.code != 404 => {
                        let text = format!("could not issue all deletes: {}", status.message);
                        return Err(("InstanceDeletionFailed", Status { message: text, ..status }));
                    }
                    _ => {}
                }
            }
            if waited >= PATIENCE {
                let text = "could not confirm zero CustomResources remaining: timed out waiting for the condition";
                return Err(("InstanceDeletionCheck", Status::internal(text)));
            }
            self.registry.clock.sleep(LOOK).await;
            waited += LOOK;
        }
    }
}
