//! What went over the network interfaces that a process sees.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: Direction,
    pub(crate) sent: Direction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Direction {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

/// Those of this machine.
pub(crate) fn of_machine() -> Vec<Interface> {
    parse(&fs::read_to_string("/proc/self/net/dev").unwrap_or_default())
}

/// Those of the network that a process is in; none when that is the machine's own.
pub(crate) fn of_process(pid: u32) -> Vec<Interface> {
    let network = |of: &str| fs::metadata(format!("/proc/{of}/ns/net")).map(|m| m.ino()).ok();
    let pid = pid.to_string();
    match (network(&pid), network("self")) {
        (Some(its), Some(own)) if its != own => {
            parse(&fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

/// As the kernel writes it, without what never leaves the machine.
fn parse(text: &str) -> Vec<Interface> {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let name = name.trim();
        let hidden = name == "lo" || name.starts_with("veth") || name.starts_with("docker");
        let direction = |from: usize| {
            let at = |n: usize| numbers.get(from + n).copied().unwrap_or_default();
            Direction { bytes: at(0), packets: at(1), errors: at(2), dropped: at(3) }
        };
        let interface = || Interface { name: name.to_owned(), received: direction(0), sent: direction(8) };
        (!hidden && numbers.len() >= 16).then(interface)
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_and_the_inner_ones_left_out() {
        let text = "Inter-|   Receive   |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n    \
                    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 20 5 6 7 0 0 0 0\n";
        let all = parse(text);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].received, Direction { bytes: 10, packets: 2, errors: 3, dropped: 4 });
        assert_eq!(all[0].sent, Direction { bytes: 20, packets: 5, errors: 6, dropped: 7 });
        assert!(of_process(std::process::id()).is_empty(), "the machine's own");
    }
}
