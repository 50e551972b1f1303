//! Directories of a hierarchy: made, listed and removed from the leaves up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use tracing::warn;

/// The directory of a group.
pub(super) fn directory(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Removes a directory and all below; control groups have files that cannot be removed, only their directories can. Where there are still
/// processes they are killed, and the next attempt finds none: whoever looked after them was killed, too, and nobody else will.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            kill_all(directory);
            Err(error)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn kill_all(group: &Path) {
    let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in processes(&list) {
        warn!(group = %group.display(), pid = pid.as_raw_nonzero(), "killing what is left in a group that is to go");
        // It may end by itself meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// The processes of a list. Zero is one that cannot be seen from here, and one is the host's own.
fn processes(list: &str) -> impl Iterator<Item = Pid> {
    let numbers = list.lines().filter_map(|line| line.trim().parse::<i32>().ok());
    numbers.filter(|pid| *pid > 1).filter_map(Pid::from_raw)
}

/// The names of the directories below.
pub(super) fn children(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let dirs = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    dirs.filter_map(|e| e.file_name().into_string().ok()).collect()
}

/// Writes one value, unless the file has it already.
pub(super) fn write(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = directory.join(file);
    if fs::read_to_string(&path).is_ok_and(|have| have.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// One number of a file of `name value` lines, or of a file that holds one number.
pub(super) fn number(path: &Path, name: Option<&str>) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    match name {
        None => text.trim().parse().ok(),
        Some(name) => {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            value.trim().parse().ok()
        }
    }
}

/// Bytes of memory that the machine uses, with what can be reclaimed.
pub(super) fn used_of_machine() -> Option<u64> {
    used(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn used(meminfo: &str) -> Option<u64> {
    let kilobytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(kilobytes("MemTotal")?.saturating_sub(kilobytes("MemFree")?).saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_that_can_be_seen_are_killed() {
        let found: Vec<i32> = processes("0\n1\n-1\n4711\nx\n42\n").map(|pid| pid.as_raw_nonzero().get()).collect();
        assert_eq!(found, [4711, 42]);
    }

    #[test]
    fn a_machine_uses_what_is_not_free() {
        assert_eq!(used("MemTotal:  1000 kB\nMemFree:    400 kB\nCached: 9 kB\n"), Some(600 << 10));
        assert_eq!(used("MemTotal:  1000 kB\n"), None);
        assert!(used_of_machine().is_some_and(|bytes| bytes > 0));
    }
}
