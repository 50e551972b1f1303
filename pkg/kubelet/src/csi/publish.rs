//! A volume of a driver for a pod: staged once for the node, published for the pod, its files given to the pod's group.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kedge_csi::v1::volume_capability::access_mode::Mode;
use kedge_csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use kedge_csi::{NodeDriver, v1};
use tokio::sync::oneshot;

use super::drivers::{Abilities, DriverSpec};
use super::record::{Record, VOLUMES};
use super::source::{SecretRef, Source, attachment_name, handle_directory};
use super::{Csi, CsiError, PLUGIN, device, secrets, set_up};
use crate::files::SET_GROUP;
use crate::pod::PodExt;
use crate::volumes::set_volume_group;

/// A volume that is there for a pod.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// The directory, or the device.
    pub(crate) path: PathBuf,
    pub(crate) device: bool,
    pub(crate) read_only: bool,
}

/// What a driver is asked with.
struct Asked {
    places: Places,
    driver: NodeDriver,
    spec: DriverSpec,
    context: HashMap<String, String>,
    /// Whether it was written down for the first time.
    is_new: bool,
    settled: bool,
}

/// Where a volume is on this node.
pub(super) struct Places {
    /// The record of this pod.
    pub(super) own: PathBuf,
    /// The record of the node, and where the volume is staged.
    pub(super) shared: PathBuf,
    pub(super) staged: PathBuf,
    pub(super) target: PathBuf,
}

impl Csi {
    pub(super) fn places(&self, uid: &str, name: &str, driver: &str, handle: &str, block: bool) -> Places {
        let plugins = self.directories.plugins().join(PLUGIN);
        if block {
            let devices = plugins.join("volumeDevices");
            return Places {
                own: self.directories.devices(uid).join(VOLUMES).join(name),
                shared: devices.join(name).join("data"),
                staged: devices.join("staging").join(name),
                target: devices.join("publish").join(name).join(uid),
            };
        }
        let own = self.directories.volumes(uid).join(VOLUMES).join(name);
        let shared = plugins.join(driver).join(handle_directory(handle));
        Places { target: own.join("mount"), own, staged: shared.join("globalmount"), shared }
    }

    /// Makes the volume ready for the pod, or asks for it again, where the driver wants that or it is not known here.
    ///
    /// What the driver is asked goes on to its end also when nobody waits for it any more: whoever gives the volume back waits until then.
    ///
    /// One that the pod has had before (`settled`) is not given to its group once more.
    ///
    /// # Errors
    /// [`CsiError`], for the pod's events.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        source: &Source,
        pod: &Pod,
        settled: bool,
    ) -> Result<Published, CsiError> {
        let places = self.places(pod.uid(), &source.name, &source.driver, &source.handle, source.block);
        let (path, read_only) = (places.target.clone(), source.read_only);
        let published = Published { path, device: source.block, read_only };
        let spec = DriverSpec::get(&self.client, &source.driver).await.map_err(|error| set_up(error.to_string()))?;
        let key = (pod.uid().to_owned(), source.name.clone());
        if self.published.lock().contains(&key) && !spec.republishes() {
            return Ok(published);
        }
        check_lifecycle(source, &spec)?;
        let driver = self.drivers.get(&source.driver).map_err(|error| match source.is_ephemeral() {
            true => set_up(format!("{PLUGIN}: mounter.SetUpAt failed to get CSI client: {error}")),
            false => device(format!("{PLUGIN}: attacher.MountDevice failed to create newCsiDriverClient: {error}")),
        })?;
        let attaches = spec.attaches() && !source.is_ephemeral();
        let context = if attaches { self.attached(source, pod.uid()).await? } else { HashMap::new() };
        // Before anybody else can take over: whoever gives back what the pod has finds it from here on.
        let is_new = self.write_down(source, pod, &places, attaches).await?;
        let asked = Asked { places, driver, spec, context, is_new, settled };
        let (waiter, waits) = oneshot::channel();
        let (this, source, pod) = (self.clone(), source.clone(), pod.clone());
        self.tasks.spawn_until_shutdown("volume-driver", async move {
            let call = this.call(&source.driver, &source.handle);
            let _held = call.lock().await;
            // Whoever had it so far may have taken long, and the pod may have ended meanwhile.
            if waiter.is_closed() {
                return;
            }
            let done = this.ask(&source, &pod, asked).await;
            if done.is_ok() {
                this.published.lock().insert(key);
            }
            // Nobody may wait for it any more.
            let _ = waiter.send(done);
        });
        waits.await.unwrap_or_else(|_| {
            Err(set_up("the driver was not asked to the end: the node stops, or has made a mistake that its log tells"))
        })?;
        Ok(published)
    }

    /// Asks the driver, while nobody else does about this volume.
    async fn ask(&self, source: &Source, pod: &Pod, asked: Asked) -> Result<(), CsiError> {
        let Asked { places, driver, spec, context, is_new, settled } = asked;
        let abilities = Abilities::of(&driver).await.map_err(|error| device(error.to_string()))?;
        let work = Work { csi: self, source, pod, places: &places, driver, abilities, spec, context };
        let Err((error, is_final)) = work.run(settled).await else { return Ok(()) };
        // What was written down by an earlier attempt, or by whoever ran before, may have been done.
        if is_new && is_final && !self.staged.lock().contains(&staged_key(source)) {
            self.strike_out(pod.uid(), &places).await;
        }
        Err(error)
    }

    /// Whether it is written down for the first time.
    async fn write_down(&self, source: &Source, pod: &Pod, places: &Places, attaches: bool) -> Result<bool, CsiError> {
        let node = self.node.clone();
        let attachment = attachment_name(&source.handle, &source.driver, &node);
        let record = Record {
            name: source.name.clone(),
            handle: source.handle.clone(),
            driver: source.driver.clone(),
            attachment: if attaches { attachment } else { String::new() },
            lifecycle: source.lifecycle.name().to_owned(),
            node,
        };
        let own = places.own.clone();
        let parent = places.target.parent().map(Path::to_path_buf);
        let write = move || -> std::io::Result<bool> {
            let is_new = record.write(&own)?;
            parent.map_or(Ok(()), std::fs::create_dir_all)?;
            Ok(is_new)
        };
        let done = self.files.of_pod(pod.uid(), "write", &places.own, write).await;
        let failed =
            |error: String| set_up(format!("{PLUGIN}: mounter.SetUpAt failed to save volume info data: {error}"));
        done.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    /// Nothing was done: there is nothing to undo.
    async fn strike_out(&self, uid: &str, places: &Places) {
        let own = places.own.clone();
        let strike = move || Record::remove(&own);
        let struck = match self.files.of_pod(uid, "remove", &places.own, strike).await {
            Ok(struck) => struck.map_err(|error| error.to_string()),
            Err(hung) => Err(hung.to_string()),
        };
        if let Err(error) = struck {
            tracing::warn!(path = %places.own.display(), error, "cannot remove the record of a volume");
        }
    }

    pub(super) async fn secret(&self, reference: Option<&SecretRef>) -> Result<HashMap<String, String>, String> {
        match reference {
            Some(reference) => secrets::read(&self.client, reference).await,
            None => Ok(HashMap::new()),
        }
    }
}

pub(super) fn staged_key(source: &Source) -> (String, String) {
    (source.driver.clone(), source.handle.clone())
}

fn check_lifecycle(source: &Source, spec: &DriverSpec) -> Result<(), CsiError> {
    let mode = source.lifecycle.name();
    if spec.lives(mode) || (!spec.known && !source.is_ephemeral()) {
        return Ok(());
    }
    let driver = &source.driver;
    let why = if spec.known { format!("only supports {:?}", spec.modes()) } else { "no CSIDriver object".to_owned() };
    let what = format!("volume mode {mode:?} not supported by driver {driver} ({why})");
    Err(set_up(format!("{PLUGIN}: mounter.SetupAt failed to check volume lifecycle mode: {what}")))
}

/// One attempt.
struct Work<'a> {
    csi: &'a Csi,
    source: &'a Source,
    pod: &'a Pod,
    places: &'a Places,
    driver: NodeDriver,
    abilities: Abilities,
    spec: DriverSpec,
    context: HashMap<String, String>,
}

/// An error, and whether the driver has surely not done it.
type Failure = (CsiError, bool);

impl Work<'_> {
    async fn run(&self, settled: bool) -> Result<(), Failure> {
        let staging = if self.abilities.stage && !self.source.is_ephemeral() {
            self.stage().await?;
            self.places.staged.display().to_string()
        } else {
            String::new()
        };
        self.publish(staging).await?;
        if settled || self.source.block || self.source.read_only {
            return Ok(());
        }
        let sets_group = self.source.is_ephemeral()
            || self.source.access_modes.iter().any(|m| matches!(m.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"));
        match self.group().filter(|_| !self.abilities.mount_group) {
            Some(group) if self.spec.sets_group(&self.source.fs_type, sets_group) => self.give(group).await,
            _ => Ok(()),
        }
    }

    fn group(&self) -> Option<u32> {
        self.pod.security_context().fs_group.and_then(|group| u32::try_from(group).ok())
    }

    fn capability(&self) -> v1::VolumeCapability {
        capability(self.source, &self.abilities, self.group())
    }

    async fn give(&self, group: u32) -> Result<(), Failure> {
        let when_needed = self.pod.security_context().fs_group_change_policy.as_deref() == Some("OnRootMismatch");
        let target = self.places.target.clone();
        let own = move || set_volume_group(&target, group, when_needed);
        let done = self.csi.files.of_path(SET_GROUP, &self.places.target, own).await;
        let failed =
            |error: String| (set_up(format!("applyFSGroup failed for vol {}: {error}", self.source.handle)), false);
        done.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    async fn stage(&self) -> Result<(), Failure> {
        let (source, csi, places) = (self.source, self.csi, self.places);
        let key = staged_key(source);
        if csi.staged.lock().contains(&key) {
            return Ok(());
        }
        let secrets = csi.secret(source.stage_secret.as_ref()).await.map_err(|error| {
            let SecretRef { namespace, name } = source.stage_secret.clone().unwrap_or_default();
            (device(format!("fetching NodeStageSecretRef {namespace}/{name} failed: {error}")), true)
        })?;
        let record = Record { handle: source.handle.clone(), driver: source.driver.clone(), ..Record::default() };
        let record = Record { name: if source.block { source.name.clone() } else { String::new() }, ..record };
        let (shared, staged) = (places.shared.clone(), places.staged.clone());
        let make = move || -> std::io::Result<()> {
            std::fs::create_dir_all(staged)?;
            record.write(&shared).map(drop)
        };
        let made = csi.files.of_pod(self.pod.uid(), "make", &places.staged, make).await;
        let failed = |error: String| (device(format!("{PLUGIN}: failed to save volume info data: {error}")), true);
        made.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        let request = v1::NodeStageVolumeRequest {
            volume_id: source.handle.clone(),
            publish_context: self.context.clone(),
            staging_target_path: places.staged.display().to_string(),
            volume_capability: Some(self.capability()),
            secrets,
            volume_context: source.attributes.clone(),
        };
        match self.driver.stage(request).await {
            Ok(()) => {
                csi.staged.lock().insert(key);
                Ok(())
            }
            Err(error) => Err((device(error.to_string()), error.is_final())),
        }
    }

    async fn publish(&self, staging_target_path: String) -> Result<(), Failure> {
        let (source, csi, pod) = (self.source, self.csi, self.pod);
        let before = |message: String| (set_up(message), true);
        let mut secrets = csi.secret(source.publish_secret.as_ref()).await.map_err(|error| {
            let SecretRef { namespace, name } = source.publish_secret.clone().unwrap_or_default();
            before(format!("fetching NodePublishSecretRef {namespace}/{name} failed: {error}"))
        })?;
        let mut volume_context = source.attributes.clone();
        if self.spec.wants_pod() {
            volume_context.extend(secrets::pod_attributes(pod, source.is_ephemeral()));
        }
        let tokens = secrets::tokens(&csi.tokens, &self.spec, pod).await.map_err(|error| {
            before(format!("{PLUGIN}: mounter.SetUpAt failed to get service accoount token attributes: {error}"))
        })?;
        let receiver = if self.spec.tokens_in_secrets() { &mut secrets } else { &mut volume_context };
        receiver.extend(tokens);
        let request = v1::NodePublishVolumeRequest {
            volume_id: source.handle.clone(),
            publish_context: self.context.clone(),
            staging_target_path,
            target_path: self.places.target.display().to_string(),
            volume_capability: Some(self.capability()),
            readonly: source.read_only,
            secrets,
            volume_context,
        };
        self.driver.publish(request).await.map_err(|error| (set_up(error.to_string()), error.is_final()))
    }
}

/// How a volume is to be used.
pub(super) fn capability(source: &Source, abilities: &Abilities, group: Option<u32>) -> v1::VolumeCapability {
    let access_type = if source.block {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume {
            fs_type: source.fs_type.clone(),
            mount_flags: source.mount_options.clone(),
            volume_mount_group: group.filter(|_| abilities.mount_group).map(|g| g.to_string()).unwrap_or_default(),
        })
    };
    v1::VolumeCapability { access_mode: Some(access_mode(source, abilities)), access_type: Some(access_type) }
}

/// How many nodes and pods write.
fn access_mode(source: &Source, abilities: &Abilities) -> AccessMode {
    let first = source.access_modes.first().map_or("ReadWriteOnce", String::as_str);
    let mode = match (first, abilities.single_node_multi_writer) {
        ("ReadWriteMany", _) => Mode::MultiNodeMultiWriter,
        ("ReadOnlyMany", _) => Mode::MultiNodeReaderOnly,
        ("ReadWriteOncePod", true) => Mode::SingleNodeSingleWriter,
        (_, true) => Mode::SingleNodeMultiWriter,
        (_, false) => Mode::SingleNodeWriter,
    };
    AccessMode { mode: mode as i32 }
}
