//! Version 2: one hierarchy for all controllers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cgroups, Limits, hierarchy};

const WANTED: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// The unified hierarchy.
pub(super) struct Unified {
    root: PathBuf,
}

impl Unified {
    pub(super) fn new(root: &Path) -> Unified {
        Unified { root: root.to_path_buf() }
    }

    /// Lets the groups below `directory` use the controllers that it has itself.
    fn delegate(&self, directory: &Path) -> io::Result<()> {
        let have = fs::read_to_string(directory.join("cgroup.controllers"))?;
        let on = fs::read_to_string(directory.join("cgroup.subtree_control"))?;
        let is_on = |name: &str| on.split_whitespace().any(|c| c == name);
        let off = have.split_whitespace().filter(|c| WANTED.contains(c) && !is_on(c));
        let text: Vec<String> = off.map(|c| format!("+{c}")).collect();
        if text.is_empty() {
            return Ok(());
        }
        fs::write(directory.join("cgroup.subtree_control"), text.join(" "))
    }
}

/// Shares from 2 to 262144 as a weight from 1 to 10000.
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

impl Cgroups for Unified {
    fn version(&self) -> &'static str {
        "v2"
    }

    fn exists(&self, path: &str) -> bool {
        hierarchy::directory(&self.root, path).exists()
    }

    fn ensure(&self, path: &str, limits: &Limits) -> io::Result<()> {
        let mut directory = self.root.clone();
        for part in path.split('/').filter(|p| !p.is_empty()) {
            self.delegate(&directory)?;
            directory.push(part);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        if limits.cpu_shares > 0 && directory.join("cpu.weight").exists() {
            hierarchy::write(&directory, "cpu.weight", &weight(limits.cpu_shares).to_string())?;
        }
        if limits.cpu_quota > 0 && directory.join("cpu.max").exists() {
            hierarchy::write(&directory, "cpu.max", &format!("{} 100000", limits.cpu_quota))?;
        }
        if limits.memory > 0 && directory.join("memory.max").exists() {
            hierarchy::write(&directory, "memory.max", &limits.memory.to_string())?;
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        hierarchy::remove(&hierarchy::directory(&self.root, path))
    }

    fn children(&self, path: &str) -> Vec<String> {
        hierarchy::children(&hierarchy::directory(&self.root, path))
    }

    fn usage(&self, path: &str) -> Option<(u64, u64)> {
        let directory = hierarchy::directory(&self.root, path);
        // The root group does not count memory: what the machine uses is told by the machine.
        let root = || path.trim_matches('/').is_empty().then(hierarchy::used_of_machine).flatten();
        let used = hierarchy::number(&directory.join("memory.current"), None).or_else(root)?;
        let cache = hierarchy::number(&directory.join("memory.stat"), Some("inactive_file"));
        let micros = hierarchy::number(&directory.join("cpu.stat"), Some("usage_usec"));
        let nanos = micros.unwrap_or_default().saturating_mul(1000);
        Some((used.saturating_sub(cache.unwrap_or_default()), nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_span_the_range() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }
}
