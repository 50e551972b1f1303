//! Where logs are: `/var/log/pods/<namespace>_<name>_<uid>/<container>/<attempt>.log`.

use std::path::{Path, PathBuf};

/// Upstream's limit for a legacy link's name.
const MAX_LINK_NAME: usize = 251;

/// The directory of a pod's logs.
pub(crate) fn pod_log_dir(root: &Path, namespace: &str, name: &str, uid: &str) -> PathBuf {
    root.join(format!("{namespace}_{name}_{uid}"))
}

/// The directory of one container's logs.
pub(crate) fn container_log_dir(pod_dir: &Path, container: &str) -> PathBuf {
    pod_dir.join(container)
}

/// A log's path below the pod's directory.
pub(crate) fn relative_log_path(container: &str, restart_count: i32) -> String {
    format!("{container}/{restart_count}.log")
}

/// The link that log collectors look for: `<pod>_<namespace>_<container>-<container id>.log`.
pub(crate) fn legacy_symlink(directory: &Path, pod: &str, namespace: &str, container: &str, id: &str) -> PathBuf {
    let suffix = format!("-{id}");
    let mut prefix = format!("{pod}_{namespace}_{container}");
    let room = MAX_LINK_NAME.saturating_sub(suffix.len());
    if prefix.len() > room {
        // Names are ASCII, so that cutting anywhere is safe.
        prefix.truncate(room);
    }
    directory.join(format!("{prefix}{suffix}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let dir = pod_log_dir(Path::new("/var/log/pods"), "ns", "p", "u");
        assert_eq!(dir, Path::new("/var/log/pods/ns_p_u"));
        assert_eq!(relative_log_path("c", 2), "c/2.log");
        let link = legacy_symlink(Path::new("/l"), &"p".repeat(300), "ns", "c", "id");
        assert_eq!(link.file_name().map(|n| n.len()), Some(MAX_LINK_NAME + 4));
    }
}
