//! File systems: how much of them is used, and what their devices are called.

use std::fs;
use std::path::Path;

/// A file system as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) capacity: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

impl Disk {
    pub(crate) fn inodes_used(&self) -> u64 {
        self.inodes.saturating_sub(self.inodes_free)
    }

    /// That which a path is on. Blocks.
    pub(crate) fn of(path: &Path) -> Option<Disk> {
        let found = rustix::fs::statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Disk {
            capacity: bytes(found.f_blocks),
            available: bytes(found.f_bavail),
            used: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
            inodes: found.f_files,
            inodes_free: found.f_ffree,
        })
    }
}

/// `/dev/sda1`, or the numbers of a device without a name.
pub(crate) fn device(major: u32, minor: u32) -> String {
    let about = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).unwrap_or_default();
    let name = about.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{name}"))
}

/// The device of the file system that a path is on.
pub(crate) fn device_of(path: &Path) -> String {
    let number = rustix::fs::stat(path).map(|stat| stat.st_dev).unwrap_or_default();
    device(rustix::fs::major(number), rustix::fs::minor(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_disk() {
        let disk = Disk::of(Path::new("/")).unwrap_or_default();
        assert!(disk.capacity > disk.available && disk.used > 0);
        assert!(!device_of(Path::new("/")).is_empty());
        assert_eq!(device(4095, 77), "4095:77", "one that nobody has");
    }
}
