//! How often a configuration file was read anew while the server ran: metrics by upstream's names.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use kedge_base::exposition::Exposition;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

/// Reloads of one file.
pub struct Reloads {
    /// `authentication` or `authorization`.
    of: &'static str,
    server: String,
    succeeded: Outcome,
    failed: Outcome,
    /// The digest of the configuration that is in force; empty where it is no file.
    current: Mutex<String>,
}

#[derive(Debug, Default)]
struct Outcome {
    times: AtomicU64,
    /// In seconds since 1970.
    last: AtomicU64,
}

impl Outcome {
    fn count(&self, now: Timestamp) {
        self.last.store(u64::try_from(now.as_second()).unwrap_or_default(), Ordering::Relaxed);
        self.times.fetch_add(1, Ordering::Relaxed);
    }
}

fn hash(data: &[u8]) -> String {
    if data.is_empty() {
        return String::new();
    }
    let digest = digest(&SHA256, data);
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

// === impl Reloads ===

impl Reloads {
    /// Of a server of this identity.
    pub fn new(of: &'static str, server: &str) -> Self {
        let server = hash(server.as_bytes());
        Self { of, server, succeeded: Outcome::default(), failed: Outcome::default(), current: Mutex::default() }
    }

    /// This configuration is in force.
    pub fn in_force(&self, data: &[u8]) {
        *self.current.lock() = hash(data);
    }

    /// It has taken the place of another one.
    pub fn succeeded(&self, data: &[u8], now: Timestamp) {
        self.in_force(data);
        self.succeeded.count(now);
    }

    /// One could not be used, and the one before stays.
    pub fn failed(&self, now: Timestamp) {
        self.failed.count(now);
    }

    /// Writes them out.
    pub fn show(&self, out: &mut Exposition) {
        let Self { of, server, .. } = self;
        let current = self.current.lock().clone();
        if current.is_empty() {
            return;
        }
        let outcomes = [("failure", &self.failed), ("success", &self.succeeded)];
        let happened = || outcomes.iter().filter(|(_, outcome)| outcome.times.load(Ordering::Relaxed) > 0);
        let name = format!("apiserver_{of}_config_controller_automatic_reload_last_timestamp_seconds");
        let help = format!(
            "[BETA] Timestamp of the last automatic reload of {of} configuration split by status and apiserver identity."
        );
        out.family(&name, "gauge", &help);
        for (status, outcome) in happened() {
            let labels = [("apiserver_id_hash", server.as_str()), ("status", *status)];
            out.sample(&name, &labels, outcome.last.load(Ordering::Relaxed) as f64);
        }
        let name = format!("apiserver_{of}_config_controller_automatic_reloads_total");
        let help = format!(
            "[BETA] Total number of automatic reloads of {of} configuration split by status and apiserver identity."
        );
        out.family(&name, "counter", &help);
        for (status, outcome) in happened() {
            let labels = [("apiserver_id_hash", server.as_str()), ("status", *status)];
            out.sample(&name, &labels, outcome.times.load(Ordering::Relaxed) as f64);
        }
        let name = format!("apiserver_{of}_config_controller_last_config_info");
        let help = format!(
            "[ALPHA] Information about the last applied {of} configuration with hash as label, split by apiserver identity."
        );
        out.family(&name, "gauge", &help);
        out.sample(&name, &[("apiserver_id_hash", server), ("hash", &current)], 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_shown_and_what_did_not_is_not() {
        let reloads = Reloads::new("authorization", "one");
        let text = || {
            let mut out = Exposition::default();
            reloads.show(&mut out);
            out.into_text()
        };
        assert_eq!(text(), "", "there is no file");
        reloads.in_force(b"a");
        let first = text();
        assert!(first.contains("last_config_info{apiserver_id_hash=\"sha256:7692c3ad"), "{first}");
        assert!(!first.contains("status="), "{first}");
        reloads.failed(Timestamp::UNIX_EPOCH);
        reloads.succeeded(b"b", Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(5));
        let second = text();
        assert!(second.contains("hash=\"sha256:3e23e816"), "{second}");
        assert!(second.contains("automatic_reloads_total{apiserver_id_hash=\"sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed\",status=\"failure\"} 1"), "{second}");
        assert!(second.contains("status=\"success\"} 5\n"), "{second}");
    }
}
