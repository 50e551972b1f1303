//! Version 1: one hierarchy a controller. Hybrid machines are version 1 as well: their unified tree has no controllers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::detail::{Cpu, Detail, Memory, Pids, Stat, legacy_io, limit, processes};
use super::{Cgroups, Limits, hierarchy};

/// Nanoseconds in a tick of `cpuacct.stat`.
const TICK: u64 = 10_000_000;

/// The hierarchies in which pods are limited.
const LIMITED: [&str; 3] = ["cpu", "memory", "pids"];

/// The hierarchies below one directory.
pub(super) struct Legacy {
    root: PathBuf,
}

impl Legacy {
    pub(super) fn new(root: &Path) -> Legacy {
        Legacy { root: root.to_path_buf() }
    }

    fn directory(&self, controller: &str, path: &str) -> PathBuf {
        hierarchy::directory(&self.root.join(controller), path)
    }

    /// All hierarchies: the runtime makes groups in each of them.
    fn all(&self) -> Vec<PathBuf> {
        let names = hierarchy::children(&self.root);
        names.iter().map(|name| self.root.join(name)).filter(|d| !d.is_symlink()).collect()
    }
}

impl Cgroups for Legacy {
    fn version(&self) -> &'static str {
        "v1"
    }

    fn exists(&self, path: &str) -> bool {
        let mounted = LIMITED.iter().filter(|c| self.root.join(c).exists());
        mounted.into_iter().all(|controller| self.directory(controller, path).exists())
    }

    fn ensure(&self, path: &str, limits: &Limits) -> io::Result<()> {
        for controller in LIMITED.iter().filter(|c| self.root.join(c).exists()) {
            fs::create_dir_all(self.directory(controller, path))?;
        }
        let cpu = self.directory("cpu", path);
        if cpu.exists() {
            if limits.cpu_shares > 0 {
                hierarchy::write(&cpu, "cpu.shares", &limits.cpu_shares.to_string())?;
            }
            if limits.cpu_quota > 0 && cpu.join("cpu.cfs_quota_us").exists() {
                hierarchy::write(&cpu, "cpu.cfs_period_us", "100000")?;
                hierarchy::write(&cpu, "cpu.cfs_quota_us", &limits.cpu_quota.to_string())?;
            }
        }
        let memory = self.directory("memory", path);
        if limits.memory > 0 && memory.exists() {
            hierarchy::write(&memory, "memory.limit_in_bytes", &limits.memory.to_string())?;
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.all().iter().try_for_each(|root| hierarchy::remove(&hierarchy::directory(root, path)))
    }

    fn children(&self, path: &str) -> Vec<String> {
        let roots = self.all();
        let names = roots.iter().flat_map(|r| hierarchy::children(&hierarchy::directory(r, path)));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        names
    }

    fn usage(&self, path: &str) -> Option<(u64, u64)> {
        let memory = self.directory("memory", path);
        let root = || path.trim_matches('/').is_empty().then(hierarchy::used_of_machine).flatten();
        // Boards are often started without the controller of memory.
        let used = hierarchy::number(&memory.join("memory.usage_in_bytes"), None).or_else(root)?;
        let cache = hierarchy::number(&memory.join("memory.stat"), Some("total_inactive_file"));
        let cpu = self.directory("cpuacct", path).join("cpuacct.usage");
        let cpu = hierarchy::number(&cpu, None).unwrap_or_default();
        Some((used.saturating_sub(cache.unwrap_or_default()), cpu))
    }

    fn detail(&self, path: &str) -> Option<Detail> {
        let (cpu, memory) = (self.cpu(path), self.memory(path));
        if cpu.is_none() && memory.is_none() {
            return None;
        }
        let blkio = self.directory("blkio", path);
        let of = |name: &str| {
            let all = fs::read_to_string(blkio.join(format!("blkio.throttle.{name}_recursive")));
            all.or_else(|_| fs::read_to_string(blkio.join(format!("blkio.throttle.{name}")))).unwrap_or_default()
        };
        let io = legacy_io(&of("io_service_bytes"), &of("io_serviced"));
        let pids = self.directory("pids", path);
        let threads = hierarchy::number(&pids.join("pids.current"), None);
        let pids =
            threads.map(|threads| Pids { processes: processes(&pids), threads, limit: limit(&pids, "pids.max") });
        Some(Detail { cpu, memory, pids, io })
    }

    fn process(&self, path: &str) -> Option<u32> {
        let controllers = LIMITED.iter().filter(|c| self.root.join(c).exists());
        let read = |c: &&str| fs::read_to_string(self.directory(c, path).join("cgroup.procs")).ok();
        controllers.into_iter().find_map(|c| read(c)?.lines().next()?.parse().ok())
    }
}

impl Legacy {
    fn cpu(&self, path: &str) -> Option<Cpu> {
        let account = self.directory("cpuacct", path);
        let usage = hierarchy::number(&account.join("cpuacct.usage"), None)?;
        let times = Stat::read(&account.join("cpuacct.stat"));
        let cpu = self.directory("cpu", path);
        let throttling = Stat::read(&cpu.join("cpu.stat"));
        Some(Cpu {
            usage,
            user: times.get("user").saturating_mul(TICK),
            system: times.get("system").saturating_mul(TICK),
            periods: throttling.get("nr_periods"),
            throttled_periods: throttling.get("nr_throttled"),
            throttled: throttling.get("throttled_time"),
            shares: hierarchy::number(&cpu.join("cpu.shares"), None),
            // No limit is less than nothing.
            quota: hierarchy::number(&cpu.join("cpu.cfs_quota_us"), None),
            period: hierarchy::number(&cpu.join("cpu.cfs_period_us"), None),
        })
    }

    fn memory(&self, path: &str) -> Option<Memory> {
        let memory = self.directory("memory", path);
        let number = |file: &str| hierarchy::number(&memory.join(file), None);
        let usage = number("memory.usage_in_bytes")?;
        let stat = Stat::read(&memory.join("memory.stat"));
        Some(Memory {
            usage,
            working_set: usage.saturating_sub(stat.get("total_inactive_file")),
            rss: stat.get("total_rss"),
            cache: stat.get("total_cache"),
            mapped_file: stat.get("total_mapped_file"),
            swap: stat.get("total_swap"),
            kernel: number("memory.kmem.usage_in_bytes").unwrap_or_default(),
            max_usage: number("memory.max_usage_in_bytes"),
            page_faults: stat.get("total_pgfault"),
            major_page_faults: stat.get("total_pgmajfault"),
            limit_reached: number("memory.failcnt").unwrap_or_default(),
            oom_kills: Stat::read(&memory.join("memory.oom_control")).get("oom_kill"),
            limit: limit(&memory, "memory.limit_in_bytes"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn groups_are_made_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        for controller in ["cpu", "memory", "devices"] {
            fs::create_dir(dir.path().join(controller)).unwrap();
        }
        let cgroups = Legacy::new(dir.path());
        let limits = Limits { cpu_shares: 512, memory: 1024, ..Limits::default() };
        cgroups.ensure("/kubepods/podu", &limits).unwrap();
        assert!(cgroups.exists("/kubepods/podu"));
        let shares = dir.path().join("cpu/kubepods/podu/cpu.shares");
        assert_eq!(fs::read_to_string(&shares).unwrap(), "512");
        assert_eq!(cgroups.children("/kubepods"), ["podu"]);
        // Real groups lose their files with their directory.
        fs::remove_file(shares).unwrap();
        fs::remove_file(dir.path().join("memory/kubepods/podu/memory.limit_in_bytes")).unwrap();
        fs::create_dir_all(dir.path().join("devices/kubepods/podu/c")).unwrap();
        cgroups.remove("/kubepods/podu").unwrap();
        assert!(!cgroups.exists("/kubepods/podu"));
        assert!(cgroups.children("/kubepods").is_empty());
    }
}
