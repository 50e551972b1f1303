//! Whether memory, disk or process ids run short on this machine.

use std::path::Path;
use std::time::Duration;

use super::machine::{DISK_RESERVED_PERCENT, kilobytes, memory_reserve, read};

/// Upstream's default `imagefs` and `nodefs` threshold for inodes.
const INODES_RESERVED_PERCENT: i64 = 5;
/// Process ids that must stay free for the node itself.
const PIDS_RESERVED_PERCENT: i64 = 5;
/// Upstream's `evictionPressureTransitionPeriod`: a shortage counts for so long after it was last seen.
const TRANSITION: Duration = Duration::from_secs(300);

/// Which resources are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pressure {
    pub(super) memory: bool,
    pub(super) disk: bool,
    pub(super) pids: bool,
}

/// Remembers when a shortage was last seen, so that a node does not flap.
#[derive(Debug, Default)]
pub(super) struct PressureGauge {
    memory: Option<Duration>,
    disk: Option<Duration>,
    pids: Option<Duration>,
}

impl PressureGauge {
    /// Measures now; `root` is on the file system of pods.
    pub(super) fn read(&mut self, root: &Path, now: Duration) -> Pressure {
        self.count(measure(root), now)
    }

    fn count(&mut self, seen: Pressure, now: Duration) -> Pressure {
        let short = |last: &mut Option<Duration>, seen: bool| {
            if seen {
                *last = Some(now);
            }
            last.is_some_and(|at| seen || now.saturating_sub(at) < TRANSITION)
        };
        Pressure {
            memory: short(&mut self.memory, seen.memory),
            disk: short(&mut self.disk, seen.disk),
            pids: short(&mut self.pids, seen.pids),
        }
    }
}

/// Whether less than so many percent are left; nothing can be said about a total of nothing.
fn below(left: i64, total: i64, percent: i64) -> bool {
    total > 0 && left < total / 100 * percent
}

fn measure(root: &Path) -> Pressure {
    let meminfo = read("/proc/meminfo");
    let (total, left) = (kilobytes(&meminfo, "MemTotal"), kilobytes(&meminfo, "MemAvailable"));
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let disk = rustix::fs::statvfs(root).is_ok_and(|found| {
        below(number(found.f_bavail), number(found.f_blocks), DISK_RESERVED_PERCENT)
            || below(number(found.f_favail), number(found.f_files), INODES_RESERVED_PERCENT)
    });
    Pressure { memory: total > 0 && left < memory_reserve(total), disk, pids: pids_short() }
}

/// The kernel tells how many tasks there are as the second number of the fourth field.
fn pids_short() -> bool {
    let limit: i64 = read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or_default();
    let load = read("/proc/loadavg");
    let tasks = load.split_whitespace().nth(3).and_then(|f| f.split_once('/')?.1.parse::<i64>().ok());
    tasks.is_some_and(|tasks| below(limit - tasks, limit, PIDS_RESERVED_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_counts_for_a_while_after_it_is_over() {
        let mut gauge = PressureGauge::default();
        let short = Pressure { memory: true, ..Pressure::default() };
        let at = Duration::from_secs;
        assert_eq!(gauge.count(Pressure::default(), at(1)), Pressure::default());
        assert_eq!(gauge.count(short, at(10)), short);
        assert_eq!(gauge.count(Pressure::default(), at(309)), short);
        assert_eq!(gauge.count(Pressure::default(), at(310)), Pressure::default());
    }

    #[test]
    fn percentages() {
        assert!(below(9, 100, 10) && !below(10, 100, 10) && !below(0, 0, 10));
    }
}
