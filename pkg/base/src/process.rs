//! What the kernel says of this process.

use std::fs;
use std::io;

/// Clock ticks of `/proc`, which Linux has at this rate everywhere.
const TICKS: f64 = 100.0;

/// Figures of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Bytes in memory.
    pub resident: u64,
    /// Bytes of address space.
    pub virtual_memory: u64,
    pub threads: u64,
    pub open_fds: u64,
    pub max_fds: u64,
    /// User and system time.
    pub cpu_seconds: f64,
    /// When it was started, in seconds since 1970.
    pub started: f64,
}

/// Reads them from `/proc`.
///
/// # Errors
/// When that cannot be read.
pub fn figures() -> io::Result<Figures> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or(stat.as_str(), |(_, rest)| rest).split_whitespace().collect();
    let number = |n: usize| fields.get(n).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = |name: &str| first_number(status.lines().find_map(|line| line.strip_prefix(name))) * 1_024;
    let limits = fs::read_to_string("/proc/self/limits")?;
    let booted = fs::read_to_string("/proc/stat")?;
    let booted = first_number(booted.lines().find_map(|line| line.strip_prefix("btime")));
    Ok(Figures {
        resident: kib("VmRSS:"),
        virtual_memory: kib("VmSize:"),
        threads: first_number(status.lines().find_map(|line| line.strip_prefix("Threads:"))),
        open_fds: fs::read_dir("/proc/self/fd")?.count() as u64,
        max_fds: first_number(limits.lines().find_map(|line| line.strip_prefix("Max open files"))),
        cpu_seconds: (number(11) + number(12)) / TICKS,
        started: booted as f64 + number(19) / TICKS,
    })
}

fn first_number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
