//! What a control group tells of itself beyond CPU time and memory: all that dashboards draw. What a controller does not tell is
//! nothing here, and is left out by whoever shows it.

use std::fs;
use std::path::Path;

/// One group, with all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) cpu: Option<Cpu>,
    pub(crate) memory: Option<Memory>,
    pub(crate) pids: Option<Pids>,
    pub(crate) io: Vec<Io>,
}

/// Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) usage: u64,
    pub(crate) user: u64,
    pub(crate) system: u64,
    pub(crate) periods: u64,
    pub(crate) throttled_periods: u64,
    pub(crate) throttled: u64,
    pub(crate) shares: Option<u64>,
    /// Microseconds in each period; `None` without a limit.
    pub(crate) quota: Option<u64>,
    pub(crate) period: Option<u64>,
}

/// In bytes, but for counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    pub(crate) working_set: u64,
    pub(crate) rss: u64,
    pub(crate) cache: u64,
    pub(crate) mapped_file: u64,
    pub(crate) swap: u64,
    pub(crate) kernel: u64,
    pub(crate) max_usage: Option<u64>,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    /// How often the limit was reached.
    pub(crate) limit_reached: u64,
    pub(crate) oom_kills: u64,
    /// `None` without a limit.
    pub(crate) limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pids {
    pub(crate) processes: u64,
    pub(crate) threads: u64,
    pub(crate) limit: Option<u64>,
}

/// What was read from and written to one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Io {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
}

/// A limit that is none has the largest number of pages there is, or says `max`.
pub(super) fn limit(directory: &Path, file: &str) -> Option<u64> {
    const NONE: u64 = 1 << 62;
    super::hierarchy::number(&directory.join(file), None).filter(|limit| *limit < NONE)
}

/// The files of numbers by name, such as `memory.stat`.
pub(super) struct Stat(String);

impl Stat {
    pub(super) fn read(path: &Path) -> Stat {
        Stat(fs::read_to_string(path).unwrap_or_default())
    }

    pub(super) fn get(&self, name: &str) -> u64 {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
        self.0.lines().find_map(value).unwrap_or_default()
    }
}

/// Lines of `cgroup.procs`.
pub(super) fn processes(directory: &Path) -> u64 {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    u64::try_from(text.lines().count()).unwrap_or_default()
}

/// `8:0`.
fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn of(list: &mut Vec<Io>, (major, minor): (u32, u32)) -> &mut Io {
    let at = list.iter().position(|io| (io.major, io.minor) == (major, minor)).unwrap_or_else(|| {
        list.push(Io { major, minor, ..Io::default() });
        list.len() - 1
    });
    &mut list[at]
}

/// Version 1: `8:0 Read 12`, of bytes and of operations.
pub(super) fn legacy_io(bytes: &str, operations: &str) -> Vec<Io> {
    let mut list = Vec::new();
    for (text, is_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(at), Some(what), Some(number)) = (words.next().and_then(device), words.next(), words.next())
            else {
                continue;
            };
            let number = number.parse().unwrap_or_default();
            let io = of(&mut list, at);
            match (what, is_bytes) {
                ("Read", true) => io.read_bytes = number,
                ("Write", true) => io.written_bytes = number,
                ("Read", false) => io.reads = number,
                ("Write", false) => io.writes = number,
                _ => {}
            }
        }
    }
    list
}

/// Version 2: `8:0 rbytes=1 wbytes=2 rios=3 wios=4`.
pub(super) fn unified_io(text: &str) -> Vec<Io> {
    let mut list = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(at) = words.next().and_then(device) else { continue };
        let io = of(&mut list, at);
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or_default();
            match name {
                "rbytes" => io.read_bytes = value,
                "wbytes" => io.written_bytes = value,
                "rios" => io.reads = value,
                "wios" => io.writes = value,
                _ => {}
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_the_same_of_a_device() {
        let io = [Io { major: 8, minor: 16, read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 }];
        assert_eq!(unified_io("8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"), io);
        let bytes = "8:16 Read 1\n8:16 Write 2\n8:16 Sync 3\n8:16 Total 3\nTotal 3\n";
        assert_eq!(legacy_io(bytes, "8:16 Read 3\n8:16 Write 4\nTotal 7\n"), io);
        assert!(unified_io("nonsense\n").is_empty() && legacy_io("8:x Read 1\n", "").is_empty());
    }
}
