//! The mounts of one container, among them sub-paths of volumes that a pod must not be able to redirect.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use kedge_cri::v1;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Directories, MountedVolume, Mounter};
use crate::generate::expand;
use crate::pod::PodExt;

/// What the mounts of a container are made from.
pub(crate) struct MountPlan<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) volumes: &'a HashMap<String, MountedVolume>,
    pub(crate) env: &'a [(String, String)],
    pub(crate) directories: &'a Directories,
}

/// A sub-path that is to be there before the container is made.
#[derive(Clone, Debug)]
pub(crate) struct SubPath {
    pub(crate) volume: PathBuf,
    sub: String,
    target: PathBuf,
    /// What it is for, in an error.
    what: String,
}

impl SubPath {
    /// Makes it. Blocks, for as long as the volume does.
    ///
    /// # Errors
    /// The message for the container's waiting state.
    pub(crate) fn prepare(&self, mounter: &dyn Mounter) -> Result<(), String> {
        prepare(&self.volume, &self.sub, &self.target, mounter)
            .map_err(|error| format!("failed to prepare subPath for {}: {error}", self.what))
    }
}

/// The container's volume mounts as the runtime takes them, and the sub-paths among them. Nothing is touched.
///
/// # Errors
/// The message for the container's waiting state.
pub(crate) fn container_mounts(plan: &MountPlan<'_>) -> Result<(Vec<v1::Mount>, Vec<SubPath>), String> {
    let mut sub_paths = Vec::new();
    let mounts = plan.container.volume_mounts.iter().flatten().enumerate();
    let mounts = mounts.map(|(index, mount)| one(plan, index, mount, &mut sub_paths)).collect::<Result<_, String>>()?;
    Ok((mounts, sub_paths))
}

/// The block devices of a container, as the runtime takes them.
///
/// # Errors
/// The message for the container's waiting state.
pub(crate) fn container_devices(
    container: &Container,
    volumes: &HashMap<String, MountedVolume>,
) -> Result<Vec<v1::Device>, String> {
    let devices = container.volume_devices.iter().flatten().map(|device| {
        let volume = volumes.get(&device.name).filter(|volume| volume.device).ok_or_else(|| {
            format!("cannot find volume {:?} to pass into container {:?}", device.name, container.name)
        })?;
        let permissions = if volume.read_only { "r" } else { "mrw" };
        Ok(v1::Device {
            container_path: device.device_path.clone(),
            host_path: volume.path.display().to_string(),
            permissions: permissions.to_owned(),
        })
    });
    devices.collect()
}

fn one(
    plan: &MountPlan<'_>,
    index: usize,
    mount: &VolumeMount,
    sub_paths: &mut Vec<SubPath>,
) -> Result<v1::Mount, String> {
    let volume = plan.volumes.get(&mount.name).ok_or_else(|| {
        format!("cannot find volume {:?} to mount into container {:?}", mount.name, plan.container.name)
    })?;
    let sub_path = sub_path(mount, plan.env)?;
    if volume.device {
        return Err(format!(
            "volume {:?} is a block device, which volumeMounts of container {:?} cannot have",
            mount.name, plan.container.name
        ));
    }
    if volume.image.is_none() && volume.path.as_os_str().is_empty() {
        return Err(format!("volume {:?} has no path to mount", mount.name));
    }
    let host_path = match &sub_path {
        Some(sub) if volume.image.is_none() => {
            let target = plan.directories.subpath(plan.pod.uid(), &mount.name, &plan.container.name, index);
            let what = format!("volumeMount {:?} of container {:?}", mount.name, plan.container.name);
            let (volume, sub) = (volume.path.clone(), sub.clone());
            sub_paths.push(SubPath { volume, sub, target: target.clone(), what });
            target
        }
        _ => volume.path.clone(),
    };
    let container_path = match mount.mount_path.starts_with('/') {
        true => mount.mount_path.clone(),
        false => format!("/{}", mount.mount_path),
    };
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    };
    let image = volume.image_spec();
    Ok(v1::Mount {
        container_path,
        host_path: if image.is_some() { String::new() } else { host_path.display().to_string() },
        readonly: mount.read_only == Some(true) || volume.read_only,
        propagation: propagation as i32,
        image_sub_path: sub_path.filter(|_| image.is_some()).unwrap_or_default(),
        image,
        ..Default::default()
    })
}

/// The path below the volume, with variables put in.
fn sub_path(mount: &VolumeMount, env: &[(String, String)]) -> Result<Option<String>, String> {
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let path = match given(&mount.sub_path_expr) {
        Some(text) => {
            let lookup = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            let (path, unknown) = expand(&text, &lookup);
            if unknown {
                return Err(format!("missing value for {text:?}"));
            }
            Some(path)
        }
        None => given(&mount.sub_path),
    };
    match path {
        Some(path) if path.starts_with('/') => Err(format!("error SubPath `{path}` must not be an absolute path")),
        Some(path) if Path::new(&path).components().any(|c| c == Component::ParentDir) => {
            Err(format!("unable to provision SubPath `{path}`: must not contain '..'"))
        }
        path => Ok(path),
    }
}

/// Opens a path below a volume; links are followed only as long as they stay inside.
fn open_beneath(root: &File, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Makes the sub-path's missing directories, with the rights of the volume's root.
fn make_beneath(root: &File, path: &Path) -> io::Result<()> {
    let mode = root.metadata()?.permissions().mode() & 0o777;
    let mut done = PathBuf::new();
    for part in path.components().filter(|c| matches!(c, Component::Normal(_))) {
        let parent = match done.as_os_str().is_empty() {
            true => root.try_clone()?.into(),
            false => open_beneath(root, &done)?,
        };
        done.push(part);
        if open_beneath(root, &done).is_ok() {
            continue;
        }
        rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(mode))?;
        // The mode at creation is subject to the umask.
        let made = File::from(rustix::fs::openat(
            &parent,
            part.as_os_str(),
            OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        made.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Binds what is at the sub-path now to a place that only the kubelet can change. Were the path given to the runtime,
/// the pod could swap it for a link to anywhere in the meantime.
fn prepare(volume: &Path, sub: &str, target: &Path, mounter: &dyn Mounter) -> io::Result<()> {
    let root = File::open(volume)?;
    let path = Path::new(sub);
    let found = match open_beneath(&root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_beneath(&root, path)?;
            open_beneath(&root, path)?
        }
        found => found?,
    };
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let metadata = fs::metadata(&source)?;
    if mounter.is_mounted(target)? {
        let mounted = fs::metadata(target)?;
        if (mounted.dev(), mounted.ino()) == (metadata.dev(), metadata.ino()) {
            return Ok(());
        }
        mounter.unmount(target)?;
    }
    if metadata.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        if target.is_dir() {
            fs::remove_dir(target)?;
        }
        File::options().write(true).create(true).truncate(false).open(target)?;
    }
    mounter.bind(&source, target)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::mounter::testing::FakeMounter;
    use super::*;

    #[test]
    fn a_missing_sub_path_is_made_and_bound() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, target) = (dir.path().join("v"), dir.path().join("t/0"));
        fs::create_dir(&volume).unwrap();
        let mounter = FakeMounter::default();
        prepare(&volume, "a/b", &target, &mounter).unwrap();
        assert!(volume.join("a/b").is_dir());
        assert_eq!(*mounter.mounted.lock(), [target]);
    }

    #[test]
    fn links_out_of_the_volume_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("in", volume.join("link")).unwrap();
        fs::write(volume.join("in"), "").unwrap();
        let mounter = FakeMounter::default();
        let target = dir.path().join("t");
        assert!(prepare(&volume, "out/passwd", &target, &mounter).is_err());
        prepare(&volume, "link", &target, &mounter).unwrap();
    }

    #[test]
    fn sub_paths_are_expanded_and_checked() {
        let env = [("A".to_string(), "x".to_string())];
        let of = |expr: &str| {
            let mount = VolumeMount { sub_path_expr: Some(expr.into()), ..VolumeMount::default() };
            sub_path(&mount, &env)
        };
        assert_eq!(of("$(A)/y").unwrap().as_deref(), Some("x/y"));
        assert!(of("$(B)").is_err() && of("../y").is_err() && of("/y").is_err());
    }

    /// Notes what is bound, after the pod has put a link in its place.
    struct Swapping<'a> {
        swap: Box<dyn Fn() + Send + Sync + 'a>,
        bound: parking_lot::Mutex<Vec<u64>>,
    }

    impl Mounter for Swapping<'_> {
        fn hugetlbfs(&self, _target: &Path, _page: u64, _size: u64) -> io::Result<()> {
            Ok(())
        }
        fn tmpfs(&self, _target: &Path, _size: u64) -> io::Result<()> {
            Ok(())
        }
        fn bind(&self, source: &Path, _target: &Path) -> io::Result<()> {
            (self.swap)();
            self.bound.lock().push(fs::metadata(source)?.ino());
            Ok(())
        }
        fn unmount(&self, _target: &Path) -> io::Result<()> {
            Ok(())
        }
        fn mounts_below(&self, _path: &Path) -> io::Result<Vec<PathBuf>> {
            Ok(Vec::new())
        }
    }

    fn exchange(one: &Path, other: &Path) {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    }

    /// CVE-2021-25741: a container that exchanged its sub-path for a link in the right moment was given any directory of the node.
    #[test]
    fn what_is_bound_is_what_was_found_in_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("v"), dir.path().join("o"));
        for directory in [&volume.join("a/b"), &outside.join("b")] {
            fs::create_dir_all(directory).unwrap();
        }
        let (part, link) = (volume.join("a"), dir.path().join("link"));
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        let inside = fs::metadata(volume.join("a/b")).unwrap().ino();
        let target = dir.path().join("t");
        // Exactly between finding and binding.
        let mounter = Swapping { swap: Box::new(|| exchange(&part, &link)), bound: Default::default() };
        prepare(&volume, "a/b", &target, &mounter).unwrap();
        assert_eq!(*mounter.bound.lock(), [inside]);
        exchange(&part, &link);
        // At any moment, also while what is missing is made.
        let ends = std::sync::atomic::AtomicBool::new(false);
        let mounter = Swapping { swap: Box::new(|| ()), bound: Default::default() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                    exchange(&part, &link);
                }
            });
            for new in 0..2_000 {
                // It may be refused, when it is the link that is found.
                let _ = prepare(&volume, "a/b", &target, &mounter);
                let _ = prepare(&volume, &format!("a/new-{new}/x"), &target, &mounter);
            }
            ends.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(!mounter.bound.lock().is_empty(), "it is found now and then");
        let outside: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(outside, ["b"], "nothing is made outside");
        let foreign = fs::metadata(dir.path().join("o/b")).unwrap().ino();
        assert!(!mounter.bound.lock().contains(&foreign), "nothing outside is bound");
    }
}
