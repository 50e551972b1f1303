//! Looks at memory, disks and process ids. Blocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::signals::{Observation, Signal};
use crate::cgroups::{Cgroups, KUBEPODS};
use crate::stats::Disk;

/// Where to look.
#[derive(Clone)]
pub(super) struct Places {
    /// On the file system of pods.
    pub(super) root: PathBuf,
    /// On that of images.
    pub(super) images: PathBuf,
}

/// What there is of memory and process ids, as far as it can be told; of memory pods may use `pods_memory` together.
pub(super) fn measure(pods_memory: i64, cgroups: Option<&dyn Cgroups>) -> BTreeMap<Signal, Observation> {
    let mut seen = BTreeMap::new();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if let (Some(capacity), Some(available)) = (kilobytes(&meminfo, "MemTotal"), kilobytes(&meminfo, "MemAvailable")) {
        seen.insert(Signal::MemoryAvailable, Observation { capacity, available });
    }
    if let Some((used, _)) = cgroups.and_then(|groups| groups.usage(KUBEPODS)) {
        let capacity = pods_memory;
        let available = capacity.saturating_sub(number(used)).max(0);
        seen.insert(Signal::AllocatableMemoryAvailable, Observation { capacity, available });
    }
    seen.extend(processes().map(|seen| (Signal::PidAvailable, seen)));
    seen
}

/// What there is of disks, which may hang.
pub(super) fn measure_disks(places: &Places) -> BTreeMap<Signal, Observation> {
    let mut seen = BTreeMap::new();
    let disks = [
        (&places.root, Signal::NodefsAvailable, Signal::NodefsInodesFree),
        (&places.images, Signal::ImagefsAvailable, Signal::ImagefsInodesFree),
    ];
    for (path, bytes, inodes) in disks {
        let Some(disk) = Disk::of(path) else { continue };
        seen.insert(bytes, Observation { capacity: number(disk.capacity), available: number(disk.available) });
        seen.insert(inodes, Observation { capacity: number(disk.inodes), available: number(disk.inodes_free) });
    }
    seen
}

/// Whether images are on a disk of their own.
pub(super) fn has_own_images(places: &Places) -> bool {
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev).ok();
    match (device(&places.root), device(&places.images)) {
        (Some(root), Some(images)) => root != images,
        _ => false,
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn kilobytes(meminfo: &str, name: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|number| number * 1024)
}

/// The kernel tells how many tasks there are as the second number of the fourth field.
fn processes() -> Option<Observation> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let number = |path: &str| read(path).trim().parse::<i64>().ok();
    let most = [number("/proc/sys/kernel/pid_max"), number("/proc/sys/kernel/threads-max")];
    let capacity = most.into_iter().flatten().min()?;
    let tasks: i64 = read("/proc/loadavg").split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(Observation { capacity, available: capacity - tasks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::signals::Condition;

    #[test]
    fn this_machine_has_something_left() {
        let places = Places { root: "/".into(), images: "/".into() };
        let mut seen = measure(0, None);
        assert!(seen.keys().all(|signal| signal.condition() != Condition::Disk));
        seen.extend(measure_disks(&places));
        for signal in [Signal::MemoryAvailable, Signal::NodefsAvailable, Signal::PidAvailable] {
            let seen = seen.get(&signal).copied().unwrap_or_default();
            assert!(seen.capacity > 0 && seen.available <= seen.capacity, "{signal:?} {seen:?}");
        }
        assert!(!seen.contains_key(&Signal::AllocatableMemoryAvailable) && !has_own_images(&places));
    }
}
