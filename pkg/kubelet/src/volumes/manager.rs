//! All volumes of a pod: set up, refreshed, torn down.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use kedge_base::{BlockingError, SharedClock};
use kedge_client::Client;
use kedge_cri::v1;

use super::atomic::{self, Payload};
use super::payload::Sources;
use super::persistent::{bound, claim_name};
use super::token::Tokens;
use super::{Directories, Mounter, host_path, ownership};
use crate::files::{Files, SET_GROUP};
use crate::generate::Machine;
use crate::objects::{ConfigMap, Objects, Secret};
use crate::pod::{Amount, PodExt, amount, limit_of};

/// Upstream's words, whose feature gate is off.
const NO_REPOSITORIES: &str = "git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the feature-gate `GitRepoVolumeDriver`";

/// Where a volume is to be found on the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct MountedVolume {
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
    /// For a volume that is an image: the runtime mounts it.
    pub(crate) image: Option<v1::ImageSpec>,
}

/// A volume that could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub(crate) struct VolumeError {
    volume: String,
    message: String,
}

/// Why one volume is not ready.
#[derive(Debug)]
pub(super) struct Refusal {
    message: String,
    /// A call for it has not come back: what follows of this pod would fail in the same way.
    stuck: bool,
}

impl From<String> for Refusal {
    fn from(message: String) -> Refusal {
        Refusal { message, stuck: false }
    }
}

impl From<BlockingError> for Refusal {
    fn from(error: BlockingError) -> Refusal {
        // Where there was no place for one, the others need not wait for one in turn.
        let stuck =
            matches!(error, BlockingError::Hung { .. } | BlockingError::StillHung { .. } | BlockingError::Busy { .. });
        Refusal { message: error.to_string(), stuck }
    }
}

/// The volumes of this node's pods.
pub(crate) struct Volumes {
    client: Client,
    clock: SharedClock,
    directories: Directories,
    mounter: Arc<dyn Mounter>,
    files: Files,
    config_maps: Arc<Objects<ConfigMap>>,
    secrets: Arc<Objects<Secret>>,
    tokens: Tokens,
    machine: Arc<Machine>,
}

impl Volumes {
    #[allow(clippy::too_many_arguments)] // Called once, where the kubelet is put together.
    pub(crate) fn new(
        client: Client,
        clock: SharedClock,
        directories: Directories,
        mounter: Arc<dyn Mounter>,
        files: Files,
        config_maps: Arc<Objects<ConfigMap>>,
        secrets: Arc<Objects<Secret>>,
        machine: Arc<Machine>,
    ) -> Volumes {
        let tokens = Tokens::new(client.clone(), clock.clone());
        Volumes { client, clock, directories, mounter, files, config_maps, secrets, tokens, machine }
    }

    pub(crate) fn mounter(&self) -> &Arc<dyn Mounter> {
        &self.mounter
    }

    #[cfg(test)]
    pub(super) fn register_for_test(&self, uid: &str, ns: &str, maps: &HashSet<String>, secrets: &HashSet<String>) {
        self.config_maps.register(uid, ns, maps);
        self.secrets.register(uid, ns, secrets);
    }

    /// Makes all volumes of a pod, or brings them up to date.
    ///
    /// # Errors
    /// One for each volume that is not ready; the others are, unless a call for one hangs, which ends the round.
    pub(crate) async fn set_up(&self, pod: &Pod) -> Result<HashMap<String, MountedVolume>, Vec<VolumeError>> {
        let mut mounted = HashMap::new();
        let mut errors = Vec::new();
        for volume in pod.volumes() {
            match self.one(pod, volume).await {
                Ok(place) => {
                    mounted.insert(volume.name.clone(), place);
                }
                Err(Refusal { message, stuck }) => {
                    errors.push(VolumeError { volume: volume.name.clone(), message });
                    if stuck {
                        break;
                    }
                }
            }
        }
        if errors.is_empty() { Ok(mounted) } else { Err(errors) }
    }

    async fn one(&self, pod: &Pod, volume: &Volume) -> Result<MountedVolume, Refusal> {
        let group = pod.security_context().fs_group.and_then(|g| u32::try_from(g).ok());
        if let Some(source) = &volume.host_path {
            let path = PathBuf::from(&source.path);
            self.check_host_path(&path, source.type_.as_deref().unwrap_or_default()).await?;
            return Ok(MountedVolume { path, ..MountedVolume::default() });
        }
        if let Some(source) = &volume.empty_dir {
            let path = self.directories.volume(pod.uid(), "kubernetes.io~empty-dir", &volume.name);
            let memory = memory_size(pod, volume, source, self.machine.memory)?;
            let (target, mounter) = (path.clone(), self.mounter.clone());
            let make = move || empty_dir(&target, memory, group, mounter.as_ref());
            self.files.of_pod(pod.uid(), "make", &path, make).await?.map_err(|e| e.to_string())?;
            return Ok(MountedVolume { path, ..MountedVolume::default() });
        }
        if let Some(source) = &volume.image {
            let image = v1::ImageSpec { image: source.reference.clone().unwrap_or_default(), ..Default::default() };
            return Ok(MountedVolume { read_only: true, image: Some(image), path: PathBuf::new() });
        }
        if let Some(claim) = claim_name(pod, volume) {
            return self.claimed(pod, volume, claim, group).await;
        }
        // What a repository brings along is run by git as root. Upstream has it disabled as well.
        if volume.git_repo.is_some() {
            return Err(NO_REPOSITORIES.to_owned().into());
        }
        let sources = Sources {
            pod,
            config_maps: &self.config_maps,
            secrets: &self.secrets,
            tokens: &self.tokens,
            machine: &self.machine,
        };
        match sources.payload(volume).await? {
            Some(payload) => self.project(pod, volume, payload, group).await,
            None => Err("no volume plugin matched".to_string().into()),
        }
    }

    async fn check_host_path(&self, path: &Path, kind: &str) -> Result<(), Refusal> {
        let (checked, kind) = (path.to_path_buf(), kind.to_string());
        let check = move || host_path::check(&checked, &kind);
        Ok(self.files.of_path("stat", path, check).await??)
    }

    async fn claimed(
        &self,
        pod: &Pod,
        volume: &Volume,
        claim: (String, bool),
        group: Option<u32>,
    ) -> Result<MountedVolume, Refusal> {
        let bound = bound(&self.client, pod, volume, claim).await?;
        let path = bound.path.clone();
        match &bound.host_path_type {
            Some(kind) => self.check_host_path(&path, kind).await?,
            None => {
                let local = path.clone();
                if !self.files.of_path("stat", &path, move || local.exists()).await? {
                    return Err(format!("path {:?} does not exist", path.display().to_string()).into());
                }
            }
        }
        if let (Some(group), None, false) = (group, &bound.host_path_type, bound.read_only) {
            let root = path.clone();
            let own = move || ownership::set_group(&root, group, false);
            self.files.of_path(SET_GROUP, &path, own).await?.map_err(|e| e.to_string())?;
        }
        Ok(MountedVolume { path, read_only: bound.read_only, image: None })
    }

    async fn project(
        &self,
        pod: &Pod,
        volume: &Volume,
        payload: Payload,
        group: Option<u32>,
    ) -> Result<MountedVolume, Refusal> {
        // Secrets and tokens are kept in memory, so that they never reach a disk.
        let (plugin, in_memory) = if volume.config_map.is_some() {
            ("kubernetes.io~configmap", false)
        } else if volume.secret.is_some() {
            ("kubernetes.io~secret", true)
        } else if volume.downward_api.is_some() {
            ("kubernetes.io~downward-api", false)
        } else {
            ("kubernetes.io~projected", true)
        };
        let path = self.directories.volume(pod.uid(), plugin, &volume.name);
        let (target, mounter, now) = (path.clone(), self.mounter.clone(), self.clock.now());
        let write = move || -> io::Result<()> {
            let memory = in_memory.then_some(0);
            empty_dir(&target, memory, None, mounter.as_ref())?;
            let prepare = |fresh: &Path| match group {
                Some(group) => ownership::set_group(fresh, group, true),
                None => Ok(()),
            };
            atomic::write(&target, &payload, now, &prepare)?;
            Ok(())
        };
        self.files.of_pod(pod.uid(), "write", &path, write).await?.map_err(|error| error.to_string())?;
        // Whatever the pod says: what a container wrote here would be lost with the next change of the source.
        Ok(MountedVolume { path, read_only: true, image: None })
    }

    /// Unmounts everything below a pod's directory and removes it. What is not ours to remove stays behind its mount.
    /// Blocks: to be called where that may be.
    ///
    /// # Errors
    /// When a mount stays; then nothing is removed.
    pub(crate) fn tear_down(&self, uid: &str) -> io::Result<()> {
        self.tokens.forget(uid);
        let directory = self.directories.pod(uid);
        if uid.is_empty() || !directory.exists() {
            return Ok(());
        }
        for mount in self.mounter.mounts_below(&directory)? {
            self.mounter.unmount(&mount)?;
        }
        if let Some(mount) = self.mounter.mounts_below(&directory)?.first() {
            return Err(io::Error::other(format!("{} is still mounted", mount.display())));
        }
        fs::remove_dir_all(&directory)
    }

    /// The uids of the pods that have a directory. Blocks.
    pub(crate) fn known_pods(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directories.pods()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// A directory with the rights for everybody, in memory if `memory` says how much (0: no limit of its own).
fn empty_dir(path: &Path, memory: Option<u64>, group: Option<u32>, mounter: &dyn Mounter) -> io::Result<()> {
    let fresh = !path.exists();
    fs::create_dir_all(path)?;
    if let Some(size) = memory
        && !mounter.is_mounted(path)?
    {
        mounter.tmpfs(path, size)?;
    }
    if fresh || fs::metadata(path)?.permissions().mode() & 0o777 != 0o777 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    match group {
        Some(group) if fresh => ownership::set_group(path, group, false),
        _ => Ok(()),
    }
}

/// The size of an `emptyDir` in memory: its own limit, or that of the pod's memory; `None` on disk.
fn memory_size(pod: &Pod, volume: &Volume, source: &EmptyDirVolumeSource, machine: i64) -> Result<Option<u64>, String> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => return Ok(None),
        "Memory" => {}
        other => return Err(format!("unknown storage medium {other:?}")),
    }
    let mounts =
        |c: &&k8s_openapi::api::core::v1::Container| c.volume_mounts.iter().flatten().any(|m| m.name == volume.name);
    let users = PodExt::spec(pod).containers.iter().chain(pod.init_containers()).filter(mounts);
    let limits: Vec<Option<Amount>> = users.map(|c| limit_of(c, "memory")).collect();
    let total: i64 = limits.iter().flatten().map(Amount::value).sum();
    let unlimited = limits.is_empty() || limits.iter().any(Option::is_none);
    let of_pod = if unlimited { machine } else { total.min(machine) };
    let own = source.size_limit.as_ref().map(|q| amount(q).value()).filter(|v| *v > 0);
    let size = own.map_or(of_pod, |own| own.min(of_pod));
    Ok(Some(u64::try_from(size).unwrap_or_default()))
}

/// The (ConfigMaps, Secrets) that a pod refers to, by name.
pub(crate) fn referenced_objects(pod: &Pod) -> (HashSet<String>, HashSet<String>) {
    let (mut maps, mut secrets) = (HashSet::new(), HashSet::new());
    let spec = PodExt::spec(pod);
    let ephemeral: Vec<_> = pod.ephemeral_containers().iter().map(crate::pod::ephemeral_as_container).collect();
    for container in spec.containers.iter().chain(pod.init_containers()).chain(&ephemeral) {
        for source in container.env_from.iter().flatten() {
            maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
            secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
            secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    for volume in pod.volumes() {
        maps.extend(volume.config_map.iter().map(|s| s.name.clone()));
        secrets.extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()));
        let parts = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        for part in parts {
            maps.extend(part.config_map.iter().map(|s| s.name.clone()));
            secrets.extend(part.secret.iter().map(|s| s.name.clone()));
        }
    }
    secrets.extend(spec.image_pull_secrets.iter().flatten().map(|r| r.name.clone()));
    (maps, secrets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::mounter::testing::FakeMounter;
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn memory_volumes_are_limited_by_the_least() {
        let spec = |limit: serde_json::Value, size: serde_json::Value| {
            pod(json!({
                "containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    "resources": {"limits": limit}}],
                "volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": size}}]}))
        };
        let of = |pod: Pod| {
            let volume = &pod.volumes()[0];
            memory_size(&pod, volume, volume.empty_dir.as_ref().unwrap(), 1 << 30).unwrap()
        };
        assert_eq!(of(spec(json!({}), json!(null))), Some(1 << 30));
        assert_eq!(of(spec(json!({"memory": "64Mi"}), json!(null))), Some(64 << 20));
        assert_eq!(of(spec(json!({"memory": "64Mi"}), json!("16Mi"))), Some(16 << 20));
    }

    #[test]
    fn an_empty_dir_is_for_everybody_and_mounted_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let mounter = FakeMounter::default();
        empty_dir(&path, Some(1), None, &mounter).unwrap();
        empty_dir(&path, Some(1), None, &mounter).unwrap();
        assert_eq!(mounter.mounted.lock().len(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
    }

    #[test]
    fn references_are_found_everywhere() {
        let pod = pod(json!({
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "m1"}}]}],
            "containers": [{"name": "a", "env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}}]}],
            "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "m2"}}]}},
                        {"name": "w", "secret": {"secretName": "s2"}}]}));
        let (maps, secrets) = referenced_objects(&pod);
        assert_eq!(maps, HashSet::from(["m1".to_string(), "m2".to_string()]));
        let want = ["pull", "s1", "s2"].map(str::to_string);
        assert_eq!(secrets, HashSet::from(want));
    }
}
