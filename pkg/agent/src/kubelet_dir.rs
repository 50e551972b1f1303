//! The kubelet's directory: where pods' volumes are, and where storage drivers look for the kubelet.
//!
//! Drivers come as pods whose manifests name `/var/lib/kubelet`, as that is where every kubelet has them. So the node of a host is there,
//! too, unless it has pods elsewhere already; several nodes on one host are each in their own data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::MountPropagationFlags;
use tracing::{info, warn};

use crate::config::AgentConfig;

const USUAL: &str = "/var/lib/kubelet";
/// The data directory of the node that is a host's own.
const DATA_DIR: &str = "/var/lib/kedge";
const MARK: &str = ".kedge";

/// Where it is.
pub(crate) fn choose(config: &AgentConfig) -> PathBuf {
    if let Some(given) = &config.kubelet_args.root_dir {
        return given.clone();
    }
    let own = config.agent_dir().join("kubelet");
    if config.data_dir == Path::new(DATA_DIR) && !has_pods(&own) && is_ours(Path::new(USUAL)) {
        return PathBuf::from(USUAL);
    }
    own
}

fn has_pods(directory: &Path) -> bool {
    fs::read_dir(directory.join("pods")).is_ok_and(|mut pods| pods.next().is_some())
}

/// Whether a directory may be had: another kubelet's pods are not ours to clear away. The mark says whose it is from now on.
fn is_ours(directory: &Path) -> bool {
    let mark = directory.join(MARK);
    if mark.exists() {
        return true;
    }
    if has_pods(directory) {
        warn!(directory = %directory.display(), "another kubelet has pods there; this one keeps its own in the data directory");
        return false;
    }
    let marked = fs::create_dir_all(directory).and_then(|()| fs::write(&mark, "This directory is used by kedge.\n"));
    marked.inspect_err(|error| warn!(directory = %directory.display(), %error, "cannot be used for pods")).is_ok()
}

/// Makes it so that what is mounted there in a container that may do so is mounted on the host, and for pods, too. A host whose mounts
/// spread already is left as it is, and so is a directory that belongs to one node among several.
///
/// # Errors
/// What the kernel says.
pub(crate) fn spread_mounts(directory: &Path, data_dir: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let directory = &fs::canonicalize(directory)?;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    if directory.starts_with(data_dir) || spreads(&table, directory) {
        return Ok(());
    }
    if !is_mount(&table, directory) {
        rustix::mount::mount_bind_recursive(directory, directory)?;
    }
    rustix::mount::mount_change(directory, MountPropagationFlags::SHARED | MountPropagationFlags::REC)?;
    info!(directory = %directory.display(), "what is mounted in the kubelet's directory spreads from now on");
    Ok(())
}

fn points(table: &str) -> impl Iterator<Item = (&str, bool)> {
    table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(4)?;
        // Optional fields end with a hyphen.
        let shared = fields.skip(1).take_while(|field| *field != "-").any(|field| field.starts_with("shared:"));
        Some((point, shared))
    })
}

fn is_mount(table: &str, directory: &Path) -> bool {
    points(table).any(|(point, _)| Path::new(point) == directory)
}

/// Whether the mount that a directory is in spreads.
fn spreads(table: &str, directory: &Path) -> bool {
    // Of several at one place the last is the one that is seen.
    let within = points(table).filter(|(point, _)| directory.starts_with(point));
    within.max_by_key(|(point, _)| Path::new(point).components().count()).is_some_and(|(_, shared)| shared)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_pods_of_another_kubelet_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, free) = (dir.path().join("theirs"), dir.path().join("free"));
        fs::create_dir_all(theirs.join("pods/uid")).unwrap();
        assert!(!is_ours(&theirs));
        assert!(is_ours(&free));
        fs::create_dir_all(free.join("pods/uid")).unwrap();
        assert!(is_ours(&free), "these are ours");
    }

    #[test]
    fn the_nearest_mount_counts() {
        let table = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                     23 22 8:1 / /var/lib rw,relatime - ext4 /dev/vda rw\n\
                     24 23 8:1 /k /var/lib/kubelet rw,relatime master:1 shared:7 - ext4 /dev/vda rw\n";
        assert!(spreads(table, Path::new("/opt")));
        assert!(!spreads(table, Path::new("/var/lib/other")));
        assert!(spreads(table, Path::new("/var/lib/kubelet")));
        assert!(is_mount(table, Path::new("/var/lib/kubelet")) && !is_mount(table, Path::new("/var/lib/kube")));
        assert!(!spreads("", Path::new("/")));
    }
}
