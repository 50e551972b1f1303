//! What the log says of requests that nobody stands behind: some of each address and of all in a minute, and how many more there were.
//!
//! Anybody can send such requests, and the log is on a disk that may be small and worn by writing.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

/// Seconds that are looked at together.
const WINDOW: i64 = 60;
/// Lines in that time about one address, so that it does not speak for all.
const OF_ONE: u32 = 4;
/// Lines in that time about all.
const OF_ALL: u32 = 32;

/// Failed authentications of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: i64,
    lines: u32,
    /// Of each address; as many addresses as lines.
    of: HashMap<Option<IpAddr>, u32>,
    unsaid: u64,
}

impl Failures {
    /// Counts one. If the log is to say it, then with how many of before it has not said.
    pub(crate) fn count(&self, address: Option<IpAddr>, now: i64) -> Option<u64> {
        let mut window = self.0.lock();
        // Also when the clock was set back.
        if !(0..WINDOW).contains(&now.saturating_sub(window.began)) {
            (window.began, window.lines) = (now, 0);
            window.of.clear();
        }
        let of_one = window.of.get(&address).copied().unwrap_or_default();
        if of_one >= OF_ONE || window.lines >= OF_ALL {
            window.unsaid = window.unsaid.saturating_add(1);
            return None;
        }
        window.lines += 1;
        window.of.insert(address, of_one + 1);
        Some(std::mem::take(&mut window.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    /// Once each was a line, and whoever sent nonsense filled the disk.
    #[test]
    fn a_flood_is_some_lines_and_a_number() {
        let failures = Failures::default();
        let said = |last, now| failures.count(address(last), now);
        let lines = (0..1_000).filter(|_| said(1, 600).is_some()).count();
        assert_eq!(lines, OF_ONE as usize);
        assert_eq!(said(2, 601), Some(996), "somebody else is heard, and what was not said is counted");
        assert_eq!(said(1, 659), None);
        assert_eq!(said(1, 660), Some(1), "a minute later");
        assert_eq!(said(1, 10), Some(0), "the clock was set back");
    }

    #[test]
    fn many_addresses_have_no_more_lines_and_take_no_more_memory() {
        let failures = Failures::default();
        let lines = (0..=255).filter(|last| failures.count(address(*last), 5).is_some()).count();
        assert_eq!((lines, failures.0.lock().of.len()), (OF_ALL as usize, OF_ALL as usize));
    }
}
