//! What the kernel says about a process, and its peaks over a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often peaks are looked for.
const EVERY: Duration = Duration::from_millis(200);

/// Memory in KiB, threads and open files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub rss: u64,
    /// Of that, what is not backed by a file.
    pub anonymous: u64,
    pub threads: u64,
    pub fds: u64,
}

impl Usage {
    /// Of a process, if it is still there.
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Self {
            rss: field(&status, "VmRSS:")?,
            anonymous: field(&status, "RssAnon:")?,
            threads: field(&status, "Threads:")?,
            fds: fds as u64,
        })
    }

    /// The higher of each figure.
    pub fn peak(self, other: Self) -> Self {
        Self {
            rss: self.rss.max(other.rss),
            anonymous: self.anonymous.max(other.anonymous),
            threads: self.threads.max(other.threads),
            fds: self.fds.max(other.fds),
        }
    }
}

/// Clock ticks of processor time that a process has used; a tick is a hundredth of a second on every Linux that this runs on.
pub fn ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok());
    Some(ticks(11)? + ticks(12)?)
}

/// A number of `/proc/PID/status`.
pub fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// KiB as MiB.
pub fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

/// Looks at a process five times a second, until it is dropped.
pub struct Sampler {
    peak: Arc<Mutex<Usage>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    pub fn start(pid: u32) -> Self {
        let (peak, stop) = (Arc::<Mutex<Usage>>::default(), Arc::<AtomicBool>::default());
        let (seen, ended) = (peak.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(usage) = Usage::of(pid) {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    *seen = seen.peak(usage);
                }
                std::thread::sleep(EVERY);
            }
        });
        Self { peak, stop, thread: Some(thread) }
    }

    /// The highest figures since the last call, each by itself.
    pub fn take_peak(&self) -> Usage {
        std::mem::take(&mut *self.peak.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic: there is nothing in it that could.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_looked_at_until_it_is_gone() {
        let own = Usage::of(std::process::id()).unwrap();
        assert!(own.rss > own.anonymous && own.anonymous > 0 && own.threads > 0 && own.fds > 2, "{own:?}");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(Usage::of(child.id()).is_none());
    }
}
