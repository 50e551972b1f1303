//! How often, and how quickly, it was found who asks and whether they may: metrics by upstream's names.
//!
//! Names of users are nobody's business who reads metrics: they are counted by the few kinds that upstream tells apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kedge_auth::{Decision, ShownToken};
use kedge_base::exposition::{Exposition, Histogram};

/// Upstream's buckets, in seconds: from a millisecond, each twice the one before.
const DURATION: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
/// The same of what is left of a certificate.
const LEFT: [f64; 14] = [
    0.0,
    1_800.0,
    3_600.0,
    7_200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];
const AUTHENTICATED: [&str; 3] = ["success", "failure", "error"];
const AUTHORIZED: [&str; 4] = ["allowed", "denied", "no-opinion", "error"];
/// Names that upstream shows; the last two are kinds of others.
const NAMES: [&str; 7] =
    ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default", "email_id", "other"];

/// Tokens of service accounts.
const TOKENS: [(ShownToken, &str, &str); 6] = [
    (ShownToken::Valid, "valid_tokens_total", "Cumulative valid projected service account tokens used"),
    (ShownToken::Stale, "stale_tokens_total", "Cumulative stale projected service account tokens used"),
    (ShownToken::Legacy, "legacy_tokens_total", "Cumulative legacy service account tokens used"),
    (ShownToken::LegacyAuto, "legacy_auto_token_uses_total", "Cumulative auto-generated legacy tokens used"),
    (ShownToken::LegacyManual, "legacy_manual_token_uses_total", "Cumulative manually created legacy tokens used"),
    (
        ShownToken::LegacyInvalid,
        "invalid_legacy_auto_token_uses_total",
        "Cumulative invalid auto-generated legacy tokens used",
    ),
];

/// How it was found who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    /// A user of this name.
    Somebody(&'a str),
    /// Nothing was shown that says who it is.
    Nobody,
    /// What was shown is not to be believed.
    Error,
}

/// The figures of one server.
pub(crate) struct AccessMeters {
    users: [AtomicU64; NAMES.len()],
    tokens: [AtomicU64; TOKENS.len()],
    /// How long the certificates of clients are still good.
    left: Histogram<14>,
    authentication: Results<3>,
    authorization: Results<4>,
}

/// How something ended, how often, and after which time.
struct Results<const N: usize> {
    labels: [&'static str; N],
    took: [Histogram<15>; N],
}

// === impl AccessMeters ===

impl Default for AccessMeters {
    fn default() -> Self {
        Self {
            users: Default::default(),
            tokens: Default::default(),
            left: Histogram::new(&LEFT),
            authentication: Results::new(AUTHENTICATED),
            authorization: Results::new(AUTHORIZED),
        }
    }
}

impl AccessMeters {
    /// Counts who asked.
    pub(crate) fn authenticated(&self, found: Found<'_>, took: Duration) {
        let result = match found {
            Found::Somebody(name) => {
                self.users[kind(name)].fetch_add(1, Ordering::Relaxed);
                0
            }
            Found::Nobody => 1,
            Found::Error => 2,
        };
        self.authentication.count(result, took);
    }

    /// Counts a token that was shown, by everything that it is, however often it was looked at.
    pub(crate) fn shown(&self, token: &[ShownToken]) {
        for ((kind, ..), count) in TOKENS.iter().zip(&self.tokens) {
            if token.contains(kind) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts a certificate that is good for so many seconds more.
    pub(crate) fn certificate(&self, left: i64) {
        self.left.observe(left as f64);
    }

    /// Counts what was decided.
    pub(crate) fn authorized(&self, decision: &Decision, took: Duration) {
        let result = match decision {
            Decision::Allow(_) => 0,
            Decision::Deny(_) => 1,
            Decision::NoOpinion(_) => 2,
            Decision::Failed { .. } => 3,
        };
        self.authorization.count(result, took);
    }

    /// The metrics.
    pub(crate) fn show(&self, out: &mut Exposition) {
        const USERS: &str = "authenticated_user_requests";
        out.family(USERS, "counter", "[ALPHA] Counter of authenticated requests broken out by username.");
        for (name, count) in NAMES.iter().zip(&self.users) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                out.sample(USERS, &[("username", name)], count as f64);
            }
        }
        for ((_, name, help), count) in TOKENS.iter().zip(&self.tokens) {
            let count = count.load(Ordering::Relaxed) as f64;
            out.single(&format!("serviceaccount_{name}"), "counter", &format!("[ALPHA] {help}"), count);
        }
        const CERTIFICATES: &str = "apiserver_client_certificate_expiration_seconds";
        let help = "[ALPHA] Distribution of the remaining lifetime on the certificate used to authenticate a request.";
        out.family(CERTIFICATES, "histogram", help);
        self.left.show(out, CERTIFICATES, "");
        let help = "[ALPHA] Counter of authenticated attempts.";
        self.authentication.show_counts(out, "authentication_attempts", help);
        let help = "[ALPHA] Authentication duration in seconds broken out by result.";
        self.authentication.show_times(out, "authentication_duration_seconds", help);
        let help = "[ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.";
        self.authorization.show_counts(out, "authorization_attempts_total", help);
        let help = "[ALPHA] Authorization duration in seconds broken out by result.";
        self.authorization.show_times(out, "authorization_duration_seconds", help);
    }
}

/// Which of [`NAMES`] stands for a user.
fn kind(name: &str) -> usize {
    let (email, other) = (NAMES.len() - 2, NAMES.len() - 1);
    let known = NAMES[..email].iter().position(|known| *known == name);
    known.unwrap_or(if name.contains('@') { email } else { other })
}

impl<const N: usize> Results<N> {
    fn new(labels: [&'static str; N]) -> Self {
        Self { labels, took: std::array::from_fn(|_| Histogram::new(&DURATION)) }
    }

    fn count(&self, result: usize, took: Duration) {
        self.took[result].observe(took.as_secs_f64());
    }

    /// Those that there were.
    fn seen(&self) -> impl Iterator<Item = (&'static str, u64, &Histogram<15>)> {
        let all = self.labels.iter().zip(&self.took).map(|(label, took)| (*label, took.count(), took));
        all.filter(|(_, count, _)| *count > 0)
    }

    fn show_counts(&self, out: &mut Exposition, name: &str, help: &str) {
        out.family(name, "counter", help);
        self.seen().for_each(|(label, count, _)| out.sample(name, &[("result", label)], count as f64));
    }

    fn show_times(&self, out: &mut Exposition, name: &str, help: &str) {
        out.family(name, "histogram", help);
        self.seen().for_each(|(label, _, took)| took.show(out, name, &format!("result=\"{label}\"")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_without_names() {
        let meters = AccessMeters::default();
        let took = Duration::from_millis(3);
        for name in ["admin", "jane@example.com", "system:node:n1", "email_id", "other"] {
            meters.authenticated(Found::Somebody(name), took);
        }
        meters.authenticated(Found::Nobody, took);
        meters.authenticated(Found::Error, took);
        meters.authorized(&Decision::Allow(String::new()), took);
        meters.authorized(&Decision::NoOpinion(String::new()), took);
        meters.certificate(-5);
        meters.certificate(3_000);
        meters.shown(&[ShownToken::Legacy, ShownToken::LegacyManual]);
        meters.shown(&[ShownToken::Legacy, ShownToken::LegacyInvalid, ShownToken::Legacy]);
        let mut out = Exposition::default();
        meters.show(&mut out);
        let text = out.into_text();
        for line in [
            "authenticated_user_requests{username=\"admin\"} 1",
            "authenticated_user_requests{username=\"email_id\"} 1",
            "authenticated_user_requests{username=\"other\"} 3",
            "authentication_attempts{result=\"success\"} 5",
            "authentication_attempts{result=\"failure\"} 1",
            "authentication_duration_seconds_bucket{result=\"error\",le=\"0.002\"} 0",
            "authentication_duration_seconds_bucket{result=\"error\",le=\"0.004\"} 1",
            "authorization_attempts_total{result=\"no-opinion\"} 1",
            "authorization_duration_seconds_count{result=\"allowed\"} 1",
            "apiserver_client_certificate_expiration_seconds_bucket{le=\"0\"} 1",
            "apiserver_client_certificate_expiration_seconds_bucket{le=\"3600\"} 2",
            "apiserver_client_certificate_expiration_seconds_count 2",
            "serviceaccount_legacy_tokens_total 2",
            "serviceaccount_legacy_manual_token_uses_total 1",
            "serviceaccount_invalid_legacy_auto_token_uses_total 1",
            "serviceaccount_stale_tokens_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("jane") && !text.contains("result=\"denied\""));
    }
}
