//! Whether memory, disk or process ids run short on this machine.

use std::path::Path;
use std::time::Duration;

use super::machine::{kilobytes, read};
use crate::args::KubeletArgs;
use crate::eviction::{Limit, Thresholds};

/// Which resources are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pressure {
    pub(super) memory: bool,
    pub(super) disk: bool,
    pub(super) pids: bool,
}

/// Remembers when a shortage was last seen, so that a node does not flap.
#[derive(Clone, Debug)]
pub(super) struct PressureGauge {
    thresholds: Thresholds,
    /// A shortage counts for so long after it was last seen.
    transition: Duration,
    memory: Option<Duration>,
    disk: Option<Duration>,
    pids: Option<Duration>,
}

impl PressureGauge {
    pub(super) fn new(args: &KubeletArgs) -> Self {
        let (thresholds, transition) = (args.eviction_hard.clone(), args.pressure_transition);
        Self { thresholds, transition, memory: None, disk: None, pids: None }
    }

    /// What is measured against; to be taken where it may block.
    pub(super) fn thresholds(&self) -> Thresholds {
        self.thresholds.clone()
    }

    /// Takes in what was measured.
    pub(super) fn count(&mut self, seen: Pressure, now: Duration) -> Pressure {
        let transition = self.transition;
        let short = |last: &mut Option<Duration>, seen: bool| {
            if seen {
                *last = Some(now);
            }
            last.is_some_and(|at| seen || now.saturating_sub(at) < transition)
        };
        Pressure {
            memory: short(&mut self.memory, seen.memory),
            disk: short(&mut self.disk, seen.disk),
            pids: short(&mut self.pids, seen.pids),
        }
    }
}

/// Whether less is left than must be; nothing can be said about a total of nothing.
fn below(left: i64, total: i64, limit: Option<Limit>) -> bool {
    limit.is_some_and(|limit| total > 0 && left < limit.of(total))
}

/// Measures now; `root` is on the file system of pods, `images` on that of images. Blocks.
pub(super) fn measure(thresholds: &Thresholds, root: &Path, images: &Path) -> Pressure {
    let meminfo = read("/proc/meminfo");
    let (total, left) = (kilobytes(&meminfo, "MemTotal"), kilobytes(&meminfo, "MemAvailable"));
    Pressure {
        memory: below(left, total, thresholds.memory),
        disk: disk_short(root, thresholds.nodefs, thresholds.nodefs_inodes)
            || disk_short(images, thresholds.imagefs, thresholds.imagefs_inodes),
        pids: pids_short(thresholds.pids),
    }
}

fn disk_short(path: &Path, bytes: Option<Limit>, inodes: Option<Limit>) -> bool {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    rustix::fs::statvfs(path).is_ok_and(|found| {
        let size = |blocks: u64| number(blocks.saturating_mul(found.f_frsize));
        below(size(found.f_bavail), size(found.f_blocks), bytes)
            || below(number(found.f_favail), number(found.f_files), inodes)
    })
}

/// The kernel tells how many tasks there are as the second number of the fourth field.
fn pids_short(threshold: Option<Limit>) -> bool {
    let limit: i64 = read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or_default();
    let load = read("/proc/loadavg");
    let tasks = load.split_whitespace().nth(3).and_then(|f| f.split_once('/')?.1.parse::<i64>().ok());
    tasks.is_some_and(|tasks| below(limit - tasks, limit, threshold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_counts_for_a_while_after_it_is_over() {
        let mut gauge = PressureGauge::new(&KubeletArgs::default());
        let short = Pressure { memory: true, ..Pressure::default() };
        let at = Duration::from_secs;
        assert_eq!(gauge.count(Pressure::default(), at(1)), Pressure::default());
        assert_eq!(gauge.count(short, at(10)), short);
        assert_eq!(gauge.count(Pressure::default(), at(309)), short);
        assert_eq!(gauge.count(Pressure::default(), at(310)), Pressure::default());
    }

    #[test]
    fn a_disk_is_short_below_its_threshold_and_never_without_one() {
        assert!(below(9, 100, Some(Limit::Amount(10))) && !below(10, 100, Some(Limit::Amount(10))));
        assert!(!below(0, 0, Some(Limit::Amount(10))) && !below(0, 100, None));
        let root = Path::new("/");
        let all = Thresholds::parse("nodefs.available<1Ei").unwrap_or_default();
        assert!(measure(&all, root, root).disk);
        let never = Thresholds::parse("memory.available<1").unwrap_or_default();
        assert_eq!(measure(&never, root, root), Pressure::default());
    }
}
