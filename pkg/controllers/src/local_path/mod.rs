//! Directories of nodes as volumes: the provisioner `rancher.io/local-path`, as k3s users know it, without pods that help it.
//!
//! A claim whose pod the scheduler has put somewhere gets a directory on that node and a volume that names it; when the volume is
//! released, the directory goes before the volume does. Directories are made and removed by the node itself, which is asked through
//! `nodes/proxy`.
//!
//! Invariant: a volume exists only after its directory, and as long as it. Which directory a claim gets follows from the claim, so
//! whoever is cut off in between goes on with the same one.

mod claim;
mod settings;
mod volume;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kedge_base::time;
use kedge_client::{DeleteOptions, Error, EventRecorder, EventType};
use kedge_meta::{ObjectKey, ObjectReference, resources};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::context::{Context, ignore_not_found};
use crate::objects;
use crate::objects::volume::{BETA_PROVISIONER, PROVISIONED_BY, PROVISIONER as PROVISIONED, Reclaim, VolumePhase};
use crate::serviceaccount::tolerate_races;
use claim::{Claim, Class};
pub use settings::OTHERS as OTHER_NODES;
use settings::Settings;
use volume::Volume;

/// The name that classes have for us; it is k3s's, so that its manifests work here.
pub const PROVISIONER: &str = "rancher.io/local-path";
/// Where the paths are said: this key of this map in `kube-system`.
pub const SETTINGS_MAP: &str = "local-path-config";
pub const SETTINGS_KEY: &str = "config.json";
const NAMESPACE: &str = "kube-system";
/// Claims and volumes that are worked on at a time; each may wait for a node.
const WORKERS: usize = 4;
/// How long a node has to make or to remove a directory; it goes on with that afterwards, too.
const PATIENCE: Duration = Duration::from_secs(60);

struct Controller {
    ctx: Context,
    events: EventRecorder,
}

/// Starts the provisioner.
pub fn start(ctx: &Context) {
    let (to_make, to_remove) = (ctx.queue(), ctx.queue());
    let queue = to_make.clone();
    ctx.claims.on_change(move |change| {
        if change.new.as_ref().is_some_and(|claim| is_ours(claim)) {
            queue.add(change.key());
        }
    });
    let queue = to_remove.clone();
    ctx.volumes.on_change(move |change| {
        if change.new.as_ref().is_some_and(|volume| is_to_be_removed(volume)) {
            queue.add(change.key());
        }
    });
    let events = ctx.recorder(PROVISIONER);
    let controller = Arc::new(Controller { ctx: ctx.clone(), events });
    let synced = |c: Arc<Controller>| async move {
        c.ctx.claims.synced().await;
        c.ctx.volumes.synced().await;
        c.ctx.nodes.synced().await;
    };
    let ready = synced(controller.clone());
    ctx.work("local-path-provisioner", &to_make, WORKERS, ready, controller.clone(), |c, key| async move {
        c.provision(&key).await
    });
    let ready = synced(controller.clone());
    ctx.work("local-path-remover", &to_remove, WORKERS, ready, controller, |c, key| async move {
        c.remove(&key.name).await
    });
}

impl Controller {
    async fn provision(&self, key: &ObjectKey) -> Result<(), Error> {
        // What is decided upon is asked for: it is rarely needed, and then as it is now.
        let claims = &resources::PERSISTENT_VOLUME_CLAIMS;
        let Some(claim) = found(self.ctx.client.get::<Claim>(claims, &key.namespace, &key.name).await)? else {
            return Ok(());
        };
        if !claim.is_ours() {
            return Ok(());
        }
        let classes = &resources::STORAGE_CLASSES;
        let class = self.ctx.client.get::<Class>(classes, "", &claim.spec.storage_class_name).await;
        let Some(class) = found(class)? else { return Ok(()) };
        if class.provisioner != PROVISIONER || (class.waits_for_consumer() && claim.selected_node().is_none()) {
            return Ok(());
        }
        // It is made, and not yet bound.
        if self.ctx.volumes.get("", &claim.volume_name()).is_some() {
            return Ok(());
        }
        let node = match claim.selected_node() {
            Some(name) => match self.ctx.nodes.get("", name) {
                Some(node) => Some(node),
                None => return self.reschedule(&claim, name).await,
            },
            None => None,
        };
        let settings = match self.settings().await? {
            Ok(settings) => settings,
            Err(why) => return self.failed(&claim, &why),
        };
        let planned = match claim::plan(&claim, &class, node.as_deref(), &settings) {
            Ok(planned) => planned,
            Err(why) => return self.failed(&claim, &why),
        };
        let message = format!("External provisioner is provisioning volume for claim \"{key}\"");
        self.events.event(&claim.reference(), EventType::Normal, "Provisioning", message);
        if let Err(why) = self.ask(Method::POST, &planned.node, &planned.path).await {
            return self.failed(&claim, &why);
        }
        let created = self.ctx.client.create(&resources::PERSISTENT_VOLUMES, "", &planned.volume).await;
        tolerate_races(created)?;
        let name = claim.volume_name();
        info!(claim = %key, volume = name, node = planned.node, path = planned.path, "provisioned a volume");
        let message = format!("Successfully provisioned volume {name}");
        self.events.event(&claim.reference(), EventType::Normal, "ProvisioningSucceeded", message);
        Ok(())
    }

    /// Says why there is no volume; it is tried again later.
    fn failed(&self, claim: &Claim, why: &str) -> Result<(), Error> {
        self.tell(claim, why);
        Err(Error::Request(format!("no volume for claim {}: {why}", claim.metadata.key())))
    }

    fn tell(&self, claim: &Claim, why: &str) {
        let class = &claim.spec.storage_class_name;
        let message = format!("failed to provision volume with StorageClass \"{class}\": {why}");
        self.events.event(&claim.reference(), EventType::Warning, "ProvisioningFailed", message);
    }

    /// The node is gone: the scheduler is to choose another.
    async fn reschedule(&self, claim: &Claim, node: &str) -> Result<(), Error> {
        self.tell(claim, &format!("failed to get target node: node \"{node}\" not found"));
        let patch = json!({ "metadata": {
            "resourceVersion": claim.metadata.resource_version,
            "annotations": { objects::volume::SELECTED_NODE: null },
        } });
        let key = claim.metadata.key();
        let claims = &resources::PERSISTENT_VOLUME_CLAIMS;
        let patch = kedge_client::Patch::Merge(patch);
        let patched: Result<Value, Error> = self.ctx.client.patch(claims, &key.namespace, &key.name, patch, None).await;
        ignore_not_found(patched.map(drop))
    }

    async fn settings(&self) -> Result<Result<Settings, String>, Error> {
        let map: Value = match self.ctx.client.get(&resources::CONFIG_MAPS, NAMESPACE, SETTINGS_MAP).await {
            Err(err) if err.is_not_found() => {
                return Ok(Err(format!("config map {NAMESPACE}/{SETTINGS_MAP} not found")));
            }
            map => map?,
        };
        let Some(text) = map["data"][SETTINGS_KEY].as_str() else {
            return Ok(Err(format!("config map {NAMESPACE}/{SETTINGS_MAP} has no {SETTINGS_KEY}")));
        };
        Ok(Settings::parse(text).map_err(|why| format!("invalid {SETTINGS_KEY} of {SETTINGS_MAP}: {why}")))
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        let Some(volume) = found(self.ctx.client.get::<Volume>(&resources::PERSISTENT_VOLUMES, "", name).await)? else {
            return Ok(());
        };
        if !volume.is_to_be_removed() {
            return Ok(());
        }
        match volume.place() {
            Err(why) => return self.not_removed(&volume, &why),
            Ok((node, path)) => {
                // With its node a directory is out of reach for good.
                let node = self.ctx.nodes.list().into_iter().find(|n| volume::is_on(&n.metadata, &node));
                if let Some(node) = node
                    && let Err(why) = self.ask(Method::DELETE, &node.metadata.name, &path).await
                {
                    return self.not_removed(&volume, &why);
                }
            }
        }
        let deleted = self
            .ctx
            .client
            .delete(&resources::PERSISTENT_VOLUMES, "", name, &DeleteOptions::with_uid(&volume.metadata.uid))
            .await;
        info!(volume = name, "removed a volume and its directory");
        ignore_not_found(deleted)
    }

    fn not_removed(&self, volume: &Volume, why: &str) -> Result<(), Error> {
        self.events.event(&volume.reference(), EventType::Warning, "VolumeFailedDelete", why.to_owned());
        Err(Error::Request(format!("volume {} is not removed: {why}", volume.metadata.name)))
    }

    /// Asks a node's kubelet for something about a directory.
    async fn ask(&self, method: Method, node: &str, path: &str) -> Result<(), String> {
        let encoded = utf8_percent_encode(path, NON_ALPHANUMERIC);
        let uri = format!("/api/v1/nodes/{node}/proxy/kedge/v1/local-volumes?path={encoded}");
        let asked = self.ctx.client.open(method, &uri, bytes::Bytes::new());
        match time::timeout(PATIENCE, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                warn!(node, path, %error, "a node cannot do as it is asked about a directory");
                Err(format!("node {node}: {error}"))
            }
            Err(_) => Err(format!("node {node} has not answered within {} s", PATIENCE.as_secs())),
        }
    }
}

/// Whether a claim is worth a look.
fn is_ours(claim: &objects::Claim) -> bool {
    let annotation = |key: &str| claim.metadata.annotations.get(key);
    annotation(PROVISIONED).or_else(|| annotation(BETA_PROVISIONER)) == Some(PROVISIONER)
        && claim.volume_name.is_empty()
        && !claim.metadata.is_deleting()
}

/// Whether a volume is worth a look.
fn is_to_be_removed(volume: &objects::Volume) -> bool {
    volume.metadata.annotations.get(PROVISIONED_BY) == Some(PROVISIONER)
        && volume.reclaim == Reclaim::Delete
        && volume.phase == VolumePhase::Released
}

/// What is there, if it is.
fn found<T>(got: Result<T, Error>) -> Result<Option<T>, Error> {
    match got {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn reference(kind: &str, metadata: &kedge_meta::ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: "v1".into(),
        kind: kind.into(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}
