//! What the machine is and has, read once at start from the kernel and the system's files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tracing::warn;

use crate::eviction::{Limit, Thresholds};
use crate::generate::Machine;

/// The facts about a machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct MachineInfo {
    pub(crate) cpus: i64,
    pub(crate) physical_cores: i64,
    pub(crate) sockets: i64,
    /// Bytes.
    pub(crate) memory: i64,
    pub(crate) swap: i64,
    pub(crate) ephemeral_storage: i64,
    /// What lies below the eviction thresholds, which is not for pods.
    pub(crate) memory_reserved: i64,
    pub(crate) storage_reserved: i64,
    /// Bytes set aside, by page size such as `2Mi`.
    pub(crate) hugepages: BTreeMap<String, i64>,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel_version: String,
    pub(crate) os_image: String,
}

impl MachineInfo {
    /// Looks at this machine. `root` is on the file system that counts as ephemeral storage.
    pub(crate) fn detect(root: &Path, thresholds: &Thresholds) -> MachineInfo {
        let meminfo = read("/proc/meminfo");
        let os_release = read("/etc/os-release");
        let cpuinfo = read("/proc/cpuinfo");
        let machine_id = first(&["/etc/machine-id", "/var/lib/dbus/machine-id"]);
        let uuid = first(&["/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid"]).to_lowercase();
        let (memory, storage) = (kilobytes(&meminfo, "MemTotal"), disk_size(root));
        let reserved = |limit: Option<Limit>, total| limit.map_or(0, |limit| limit.of(total));
        MachineInfo {
            memory_reserved: reserved(thresholds.memory, memory),
            storage_reserved: reserved(thresholds.nodefs, storage),
            physical_cores: topology(&cpuinfo).0,
            sockets: topology(&cpuinfo).1,
            cpus: std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
            memory,
            swap: kilobytes(&meminfo, "SwapTotal"),
            ephemeral_storage: storage,
            hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
            // Boards without firmware tables are told apart by their machine id.
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: first(&["/proc/sys/kernel/random/boot_id"]),
            kernel_version: first(&["/proc/sys/kernel/osrelease"]),
            os_image: os_name(&os_release),
        }
    }

    /// What containers are limited against. `unified`: whether cgroups are version 2.
    pub(crate) fn machine(&self, unified: bool) -> Machine {
        Machine {
            memory: self.memory,
            allocatable_cpu_millis: self.cpus * 1000,
            allocatable_memory: self.allocatable_memory(),
            allocatable_ephemeral_storage: self.allocatable_storage(),
            unified,
        }
    }

    /// Memory for pods: less what keeps the node itself alive, and what is set aside as huge pages.
    pub(crate) fn allocatable_memory(&self) -> i64 {
        let huge: i64 = self.hugepages.values().sum();
        (self.memory - self.memory_reserved - huge).max(0)
    }

    pub(crate) fn allocatable_storage(&self) -> i64 {
        (self.ephemeral_storage - self.storage_reserved).max(0)
    }
}

/// The architecture by Go's names.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first of the files that says anything.
fn first(paths: &[&str]) -> String {
    let texts = paths.iter().map(|path| read(path).trim_matches(['\0', '\n', ' ']).to_string());
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn kilobytes(meminfo: &str, name: &str) -> i64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse::<i64>().ok());
    number.unwrap_or_default() * 1024
}

/// (cores, sockets), as far as the kernel tells them apart; each processor is one of both otherwise.
fn topology(cpuinfo: &str) -> (i64, i64) {
    let mut cores = std::collections::BTreeSet::new();
    let mut sockets = std::collections::BTreeSet::new();
    for (number, processor) in cpuinfo.split("\n\n").filter(|p| p.contains("processor")).enumerate() {
        let value = |name: &str| {
            let line = processor.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let socket = value("physical id").unwrap_or_default();
        cores.insert((socket.clone(), value("core id").unwrap_or_else(|| format!("p{number}"))));
        sockets.insert(socket);
    }
    let count = |n: usize| i64::try_from(n).unwrap_or(1).max(1);
    (count(cores.len()), count(sockets.len()))
}

fn os_name(os_release: &str) -> String {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map(|v| v.trim_matches('"').to_string()).filter(|v| !v.is_empty())
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_else(|| "Linux".into())
}

fn disk_size(path: &Path) -> i64 {
    match rustix::fs::statvfs(path) {
        Ok(found) => i64::try_from(found.f_blocks.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX),
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot read the size of the file system");
            0
        }
    }
}

fn hugepages(directory: &Path) -> BTreeMap<String, i64> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kilobytes: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
        let count: i64 = count.trim().parse().ok()?;
        Some((page_size(kilobytes), kilobytes * 1024 * count))
    });
    sizes.collect()
}

fn page_size(kilobytes: i64) -> String {
    match kilobytes {
        n if n % (1 << 20) == 0 => format!("{}Gi", n >> 20),
        n if n % (1 << 10) == 0 => format!("{}Mi", n >> 10),
        n => format!("{n}Ki"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something() {
        let info = MachineInfo::detect(Path::new("/"), &Thresholds::default());
        assert!(info.cpus > 0 && info.memory > 0 && info.ephemeral_storage > 0);
        assert!(info.allocatable_memory() < info.memory);
        assert!(!info.kernel_version.is_empty() && !info.boot_id.is_empty());
    }

    #[test]
    fn threads_of_a_core_are_one() {
        let one = |socket: u8, core: u8| format!("processor\t: 0\nphysical id\t: {socket}\ncore id\t: {core}\n");
        assert_eq!(topology(&[one(0, 0), one(0, 0), one(0, 1), one(1, 0)].join("\n")), (3, 2));
        assert_eq!(topology("processor\t: 0\n\nprocessor\t: 1\n"), (2, 1), "a board that does not say");
    }

    #[test]
    fn texts_are_read() {
        assert_eq!(kilobytes("MemTotal:       1024 kB\nMemFree: 1 kB\n", "MemTotal"), 1 << 20);
        assert_eq!(os_name("NAME=\"X\"\nPRETTY_NAME=\"X 1\"\n"), "X 1");
        assert_eq!((page_size(2048), page_size(1 << 20), page_size(64)), ("2Mi".into(), "1Gi".into(), "64Ki".into()));
    }
}
