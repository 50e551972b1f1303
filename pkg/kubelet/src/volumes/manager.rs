//! All volumes of a pod: set up, refreshed, torn down.

use std::collections::HashMap;
#[cfg(test)]
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NFSVolumeSource, Pod, Volume};
use kedge_base::{BlockingError, SharedClock};
use kedge_client::Client;
use kedge_cri::v1;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as Turn;

use super::atomic::{self, Payload};
use super::empty_dir::{self, Medium};
use super::known::{self, Known};
use super::payload::Sources;
use super::persistent::{Bound, Kind, bound, claim_name};
use super::token::Tokens;
use super::{Directories, Mounter, host_path, nfs, ownership, removal};
use crate::csi::{Csi, CsiError, MOUNT_DEVICE, Published, Source};
use crate::files::{Files, SET_GROUP};
use crate::generate::Machine;
use crate::objects::{ConfigMap, Objects, Secret};
use crate::pod::PodExt;

/// Upstream's words, whose feature gate is off.
const NO_REPOSITORIES: &str = "git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the feature-gate `GitRepoVolumeDriver`";
const SET_UP: &str = "MountVolume.SetUp";
/// What is done about devices, as upstream names it.
const SET_UP_DEVICE: &str = "MapVolume.SetUpDevice";
const MAP_DEVICE: &str = "MapVolume.MapPodDevice";

/// Where a volume is to be found on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MountedVolume {
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
    /// A device instead of a file system.
    pub(crate) device: bool,
    /// For a volume that is an image, which the runtime mounts: its reference.
    pub(crate) image: Option<String>,
}

impl MountedVolume {
    /// The image that the runtime is to mount.
    pub(crate) fn image_spec(&self) -> Option<v1::ImageSpec> {
        self.image.as_ref().map(|image| v1::ImageSpec { image: image.clone(), ..Default::default() })
    }
}

/// A volume that could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed for volume {volume:?} : {message}")]
pub(crate) struct VolumeError {
    operation: &'static str,
    volume: String,
    message: String,
}

impl VolumeError {
    /// The reason of its event.
    pub(crate) fn reason(&self) -> &'static str {
        match self.operation {
            "AttachVolume.Attach" => "FailedAttachVolume",
            SET_UP_DEVICE | MAP_DEVICE => "FailedMapVolume",
            _ => "FailedMount",
        }
    }
}

/// Why one volume is not ready.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The persistent volume, where it comes to one; else it is called as in the pod.
    volume: Option<String>,
    operation: &'static str,
    message: String,
    /// A call for it has not come back: what follows of this pod would fail in the same way.
    stuck: bool,
}

impl From<String> for Refusal {
    fn from(message: String) -> Refusal {
        Refusal { volume: None, operation: SET_UP, message, stuck: false }
    }
}

impl From<BlockingError> for Refusal {
    fn from(error: BlockingError) -> Refusal {
        // Where there was no place for one, the others need not wait for one in turn.
        let stuck =
            matches!(error, BlockingError::Hung { .. } | BlockingError::StillHung { .. } | BlockingError::Busy { .. });
        Refusal { volume: None, operation: SET_UP, message: error.to_string(), stuck }
    }
}

impl From<CsiError> for Refusal {
    fn from(error: CsiError) -> Refusal {
        Refusal { volume: None, operation: error.operation, message: error.message, stuck: false }
    }
}

/// What volumes are made with.
pub(crate) struct Tools {
    pub(crate) client: Client,
    pub(crate) clock: SharedClock,
    pub(crate) directories: Directories,
    pub(crate) mounter: Arc<dyn Mounter>,
    pub(crate) files: Files,
    pub(crate) config_maps: Arc<Objects<ConfigMap>>,
    pub(crate) secrets: Arc<Objects<Secret>>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) csi: Arc<Csi>,
    /// The kernel's name of this boot.
    pub(crate) boot: String,
}

/// The volumes of this node's pods.
pub(crate) struct Volumes {
    tools: Tools,
    known: Known,
    /// Whoever sets up or takes down the volumes of a pod holds its turn.
    turns: Mutex<HashMap<String, Arc<Turn<()>>>>,
}

impl Volumes {
    pub(crate) fn new(tools: Tools) -> Volumes {
        Volumes { tools, known: Known::default(), turns: Mutex::default() }
    }

    pub(crate) fn mounter(&self) -> &Arc<dyn Mounter> {
        &self.tools.mounter
    }

    pub(crate) fn csi(&self) -> &Arc<Csi> {
        &self.tools.csi
    }

    #[cfg(test)]
    pub(super) fn register_for_test(&self, uid: &str, ns: &str, maps: &HashSet<String>, secrets: &HashSet<String>) {
        self.tools.config_maps.register(uid, ns, maps);
        self.tools.secrets.register(uid, ns, secrets);
    }

    fn turn(&self, uid: &str) -> Arc<Turn<()>> {
        self.turns.lock().entry(uid.to_owned()).or_default().clone()
    }

    /// The volumes of a pod that all were there before: nothing is asked of anybody.
    pub(crate) async fn known(&self, pod: &Pod) -> Option<Arc<HashMap<String, MountedVolume>>> {
        let uid = pod.uid();
        let known = match self.known.get(uid) {
            Some(known) => known,
            None => self.read_known(uid, &self.tools.directories.pod(uid)).await?,
        };
        pod.volumes().iter().all(|volume| known.contains_key(&volume.name)).then_some(known)
    }

    async fn read_known(&self, uid: &str, directory: &Path) -> Option<Arc<HashMap<String, MountedVolume>>> {
        let (boot, place) = (self.tools.boot.clone(), directory.to_path_buf());
        let read = move || known::read(&boot, &place);
        let found = self.tools.files.of_pod(uid, "read", directory, read).await.ok().flatten()?;
        self.known.learn(uid, found.clone());
        Some(found)
    }

    /// Makes all volumes of a pod, or brings them up to date.
    ///
    /// # Errors
    /// One for each volume that is not ready; the others are, unless a call for one hangs, which ends the round.
    pub(crate) async fn set_up(&self, pod: &Pod) -> Result<HashMap<String, MountedVolume>, Vec<VolumeError>> {
        let turn = self.turn(pod.uid());
        let _held = turn.lock().await;
        let mut mounted = HashMap::new();
        let mut errors = Vec::new();
        for volume in pod.volumes() {
            match self.one(pod, volume).await {
                Ok(place) => {
                    mounted.insert(volume.name.clone(), place);
                }
                Err(Refusal { volume: persistent, operation, message, stuck }) => {
                    let volume = persistent.unwrap_or_else(|| volume.name.clone());
                    errors.push(VolumeError { operation, volume, message });
                    if stuck {
                        break;
                    }
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.write_known(pod.uid(), &mounted).await;
        Ok(mounted)
    }

    /// That they are all there is worth a note; without it they are only asked for again.
    async fn write_known(&self, uid: &str, mounted: &HashMap<String, MountedVolume>) {
        if self.known.get(uid).is_some_and(|known| *known == *mounted) {
            return;
        }
        let directory = self.tools.directories.pod(uid);
        let (boot, place, volumes) = (self.tools.boot.clone(), directory.clone(), mounted.clone());
        let write = move || known::write(boot, &place, volumes);
        match self.tools.files.of_pod(uid, "write to", &directory, write).await {
            Ok(Ok(())) => self.known.learn(uid, Arc::new(mounted.clone())),
            Ok(Err(error)) => tracing::warn!(uid, %error, "cannot write down which volumes a pod has"),
            Err(error) => tracing::warn!(uid, %error, "cannot write down which volumes a pod has"),
        }
    }

    async fn one(&self, pod: &Pod, volume: &Volume) -> Result<MountedVolume, Refusal> {
        let tools = &self.tools;
        let group = pod.security_context().fs_group.and_then(|g| u32::try_from(g).ok());
        if let Some(source) = &volume.host_path {
            let path = PathBuf::from(&source.path);
            self.check_host_path(&path, source.type_.as_deref().unwrap_or_default()).await?;
            return Ok(MountedVolume { path, ..MountedVolume::default() });
        }
        if let Some(source) = &volume.empty_dir {
            let path = tools.directories.volume(pod.uid(), "kubernetes.io~empty-dir", &volume.name);
            let medium = empty_dir::medium(pod, volume, source, tools.machine.memory)?;
            let (target, mounter, settled) = (path.clone(), tools.mounter.clone(), self.had(pod, volume));
            let make = move || empty_dir::make(&target, &medium, group, settled, mounter.as_ref());
            tools.files.of_pod(pod.uid(), "make", &path, make).await?.map_err(|e| e.to_string())?;
            return Ok(MountedVolume { path, ..MountedVolume::default() });
        }
        if let Some(source) = &volume.image {
            let image = Some(source.reference.clone().unwrap_or_default());
            return Ok(MountedVolume { read_only: true, image, ..MountedVolume::default() });
        }
        if let Some(claim) = claim_name(pod, volume) {
            return self.claimed(pod, volume, claim, group).await;
        }
        if let Some(source) = &volume.csi {
            let source = Source::inline(source, &volume.name, pod.namespace(), pod.uid());
            return Ok(place(tools.csi.publish(&source, pod, self.had(pod, volume)).await?));
        }
        if let Some(source) = &volume.nfs {
            return self.nfs(pod, &volume.name, source, &[], false).await;
        }
        // What a repository brings along is run by git as root. Upstream has it disabled as well.
        if volume.git_repo.is_some() {
            return Err(NO_REPOSITORIES.to_owned().into());
        }
        let sources = Sources {
            pod,
            config_maps: &tools.config_maps,
            secrets: &tools.secrets,
            tokens: &tools.tokens,
            machine: &tools.machine,
        };
        match sources.payload(volume).await? {
            Some(payload) => self.project(pod, volume, payload, group).await,
            None => Err("no volume plugin matched".to_string().into()),
        }
    }

    async fn check_host_path(&self, path: &Path, kind: &str) -> Result<(), Refusal> {
        let (checked, kind) = (path.to_path_buf(), kind.to_string());
        let check = move || host_path::check(&checked, &kind);
        Ok(self.tools.files.of_path("stat", path, check).await??)
    }

    async fn claimed(
        &self,
        pod: &Pod,
        volume: &Volume,
        claim: (String, bool),
        group: Option<u32>,
    ) -> Result<MountedVolume, Refusal> {
        let bound = bound(&self.tools.client, pod, volume, claim).await?;
        let done = self.persistent((pod, volume), &bound, group).await;
        done.map_err(|refusal| Refusal {
            volume: Some(bound.name),
            operation: if bound.block { of_device(refusal.operation) } else { refusal.operation },
            ..refusal
        })
    }

    async fn persistent(
        &self,
        (pod, volume): (&Pod, &Volume),
        bound: &Bound,
        group: Option<u32>,
    ) -> Result<MountedVolume, Refusal> {
        match &bound.kind {
            Kind::HostPath(source) => {
                let path = PathBuf::from(&source.path);
                self.check_host_path(&path, &source.kind).await?;
                Ok(MountedVolume { path, read_only: bound.read_only, ..MountedVolume::default() })
            }
            Kind::Local(path) => self.local((pod, volume), Path::new(path), bound, group).await,
            Kind::Nfs(source, options) => self.nfs(pod, &bound.name, source, options, bound.read_only).await,
            Kind::Csi(source) => {
                let published = self.tools.csi.publish(source, pod, self.had(pod, volume)).await?;
                self.tools.csi.grow(source, pod, &bound.growth()).await?;
                Ok(place(published))
            }
        }
    }

    /// Whether the pod has had the volume before, with its rights as they were to be then.
    fn had(&self, pod: &Pod, volume: &Volume) -> bool {
        self.known.get(pod.uid()).is_some_and(|known| known.contains_key(&volume.name))
    }

    /// A directory of this node that is the pod's as long as it has it, or a device.
    async fn local(
        &self,
        (pod, volume): (&Pod, &Volume),
        path: &Path,
        bound: &Bound,
        group: Option<u32>,
    ) -> Result<MountedVolume, Refusal> {
        let files = &self.tools.files;
        let (looked, block) = (path.to_path_buf(), bound.block);
        let there = files.of_path("stat", path, move || is_there(&looked, block)).await?;
        if !there {
            let what = if block { "is no block device" } else { "does not exist" };
            return Err(format!("path {:?} {what}", path.display().to_string()).into());
        }
        // The pod may have changed since what it was given.
        if let (Some(group), false, false, false) = (group, bound.read_only, block, self.had(pod, volume)) {
            let when_needed = on_root_mismatch(pod);
            let root = path.to_path_buf();
            let own = move || ownership::set_volume_group(&root, group, when_needed);
            files.of_path(SET_GROUP, path, own).await?.map_err(|e| e.to_string())?;
        }
        let path = path.to_path_buf();
        Ok(MountedVolume { path, read_only: bound.read_only, device: block, image: None })
    }

    async fn nfs(
        &self,
        pod: &Pod,
        name: &str,
        source: &NFSVolumeSource,
        options: &[String],
        read_only: bool,
    ) -> Result<MountedVolume, Refusal> {
        let tools = &self.tools;
        let path = tools.directories.volume(pod.uid(), "kubernetes.io~nfs", name);
        let (source, options, mounter) = (source.clone(), options.to_vec(), tools.mounter.clone());
        let read_only = read_only || source.read_only == Some(true);
        let target = path.clone();
        let mount = move || nfs::mount(&source, read_only, &options, &target, mounter.as_ref());
        tools.files.of_pod(pod.uid(), "mount", &path, mount).await?.map_err(|e| e.to_string())?;
        Ok(MountedVolume { path, read_only, ..MountedVolume::default() })
    }

    async fn project(
        &self,
        pod: &Pod,
        volume: &Volume,
        payload: Payload,
        group: Option<u32>,
    ) -> Result<MountedVolume, Refusal> {
        // Secrets and tokens are kept in memory, so that they never reach a disk.
        let (plugin, medium) = if volume.config_map.is_some() {
            ("kubernetes.io~configmap", Medium::Disk)
        } else if volume.secret.is_some() {
            ("kubernetes.io~secret", Medium::Memory(0))
        } else if volume.downward_api.is_some() {
            ("kubernetes.io~downward-api", Medium::Disk)
        } else {
            ("kubernetes.io~projected", Medium::Memory(0))
        };
        let tools = &self.tools;
        let path = tools.directories.volume(pod.uid(), plugin, &volume.name);
        let (target, mounter, now) = (path.clone(), tools.mounter.clone(), tools.clock.now());
        let write = move || -> io::Result<()> {
            empty_dir::make(&target, &medium, None, false, mounter.as_ref())?;
            let prepare = |fresh: &Path| match group {
                Some(group) => ownership::set_group(fresh, group, true),
                None => Ok(()),
            };
            atomic::write(&target, &payload, now, &prepare)?;
            Ok(())
        };
        tools.files.of_pod(pod.uid(), "write", &path, write).await?.map_err(|error| error.to_string())?;
        // Whatever the pod says: what a container wrote here would be lost with the next change of the source.
        Ok(MountedVolume { path, read_only: true, ..MountedVolume::default() })
    }

    /// Gives back what drivers have made for a pod, unmounts everything below its directory and removes it. What is not ours to remove
    /// stays behind its mount.
    ///
    /// # Errors
    /// When a mount or a driver's volume stays; then nothing is removed.
    pub(crate) async fn tear_down(&self, uid: &str) -> Result<(), String> {
        let turn = self.turn(uid);
        let _held = turn.lock().await;
        self.known.forget(uid);
        self.tools.tokens.forget(uid);
        let directory = self.tools.directories.pod(uid);
        // Whoever comes next is not to believe that they are there.
        let of = directory.clone();
        let forgotten = self.tools.files.of_pod(uid, "remove", &directory, move || known::remove(&of)).await;
        forgotten.map_err(|hung| hung.to_string())?.map_err(|error| error.to_string())?;
        self.tools.csi.release(uid).await?;
        let (mounter, root, of) = (self.tools.mounter.clone(), directory.clone(), uid.to_owned());
        let clear = move || if of.is_empty() { Ok(()) } else { clear(&root, mounter.as_ref()) };
        let cleared = self.tools.files.of_pod(uid, "take down", &directory, clear).await;
        cleared.map_err(|hung| hung.to_string())?.map_err(|error| error.to_string())?;
        self.turns.lock().remove(uid);
        Ok(())
    }

    /// The uids of the pods that have a directory. Blocks.
    pub(crate) fn known_pods(&self) -> Vec<String> {
        let entries = fs::read_dir(self.tools.directories.pods()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// Unmounts and removes a pod's directory. Blocks.
fn clear(directory: &Path, mounter: &dyn Mounter) -> io::Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    for mount in mounter.mounts_below(directory)? {
        mounter.unmount(&mount)?;
    }
    if let Some(mount) = mounter.mounts_below(directory)?.first() {
        return Err(io::Error::other(format!("{} is still mounted", mount.display())));
    }
    removal::remove(directory)
}

fn place(published: Published) -> MountedVolume {
    let Published { path, device, read_only } = published;
    MountedVolume { path, read_only, device, image: None }
}

/// What an operation is called where there is no file system.
fn of_device(operation: &'static str) -> &'static str {
    match operation {
        MOUNT_DEVICE => SET_UP_DEVICE,
        SET_UP => MAP_DEVICE,
        other => other,
    }
}

fn is_there(path: &Path, block: bool) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::metadata(path).is_ok_and(|found| !block || found.file_type().is_block_device())
}

/// Whether the files of a volume are left alone when its root has the group already.
fn on_root_mismatch(pod: &Pod) -> bool {
    pod.security_context().fs_group_change_policy.as_deref() == Some("OnRootMismatch")
}
