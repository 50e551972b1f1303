//! A definition is being deleted: its objects go first.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::Backoff;
use kedge_meta::Status;
use kedge_registry::verbs::{DeleteOptions, delete, store_failure};
use kedge_registry::{Entry, Served};
use kedge_storage::Matcher;
use tracing::warn;

use crate::definition::Crd;
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
        self.emptied.lock().remove(&name);
    }

    async fn try_to_empty(&self, name: &str, uid: &str) -> Result<(), Status> {
        let begun =
            Wanted::new(TERMINATING, true, "InstanceDeletionInProgress", "CustomResource deletion is in progress");
        let Some(object) = self.write_status(name, uid, &|crd, now| begun.set(crd, now)).await? else { return Ok(()) };
        let crd = Crd::read(&object).map_err(Status::internal)?;
        if crd.metadata.uid != uid {
            return Ok(());
        }
        let ended = match self.served_of(&crd) {
            _ if !crd.is_true("Established") => {
                Wanted::new(TERMINATING, false, "NeverEstablished", "resource was never established")
            }
            None => Wanted::new(TERMINATING, false, "InstanceDeletionCompleted", "removed all instances"),
            Some(served) => match self.delete_all(&served).await {
                Ok(()) => Wanted::new(TERMINATING, false, "InstanceDeletionCompleted", "removed all instances"),
                Err((reason, status)) => {
                    let failed = Wanted::new(TERMINATING, true, reason, status.message.clone());
                    self.write_status(name, uid, &|crd, now| failed.set(crd, now)).await?;
                    return Err(status);
                }
            },
        };
        // Out of the catalogue before the definition is gone.
        self.write_status(name, uid, &|crd, now| ended.set(crd, now)).await?;
        self.withdraw(name).await;
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

    async fn delete_all(&self, served: &Served) -> Result<(), (&'static str, Status)> {
        let list = |status: Status| {
            let text = format!("could not list instances: {}", status.message);
            ("InstanceDeletionFailed", Status { message: text, ..status })
        };
        let all = served.store.list("", &Matcher::default(), 0).map_err(|err| list(store_failure(err)))?;
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
        let mut waited = Duration::ZERO;
        while served.store.count() > 0 {
            if waited >= PATIENCE {
                let text = "could not confirm zero CustomResources remaining: timed out waiting for the condition";
                return Err(("InstanceDeletionCheck", Status::internal(text)));
            }
            self.registry.clock.sleep(LOOK).await;
            waited += LOOK;
        }
        Ok(())
    }
}
