//! The certificates that a client showed when it connected, and who that was found to be: a signature is checked once a connection,
//! not with each request.

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use kedge_meta::UserInfo;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authenticator::Unauthenticated;

/// Who is asked about one client: those who certify clients, and those who certify servers in front of this one.
const MAX_VERDICTS: usize = 2;

/// A client's certificate chain, leaf first. It has proved to hold the key, nothing else.
#[derive(Debug, Default)]
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    verdicts: Mutex<Vec<Verdict>>,
    ends: OnceLock<Option<i64>>,
}

/// Whom a chain stands for.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) user: UserInfo,
    /// When all of its certificates are valid, in seconds since 1970.
    pub(crate) valid: RangeInclusive<i64>,
}

#[derive(Debug)]
struct Verdict {
    judge: u64,
    found: Found,
}

// === impl Shown ===

impl Shown {
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// When the client's own certificate runs out, in seconds since 1970; none where that cannot be read.
    pub fn ends(&self) -> Option<i64> {
        *self.ends.get_or_init(|| {
            let (_, leaf) = X509Certificate::from_der(self.chain.first()?).ok()?;
            Some(leaf.validity().not_after.timestamp())
        })
    }

    /// What a judge has found, or finds now. Authorities that are read anew are another judge. That somebody is not known is not
    /// kept: it may be a matter of time.
    pub(crate) fn judged(
        &self,
        judge: u64,
        now: i64,
        find: impl FnOnce(&[CertificateDer<'static>]) -> Result<Found, Unauthenticated>,
    ) -> Result<UserInfo, Unauthenticated> {
        let known = |verdict: &&Verdict| verdict.judge == judge && verdict.found.valid.contains(&now);
        if let Some(verdict) = self.verdicts.lock().iter().find(known) {
            return Ok(verdict.found.user.clone());
        }
        let found = find(&self.chain)?;
        let user = found.user.clone();
        let mut verdicts = self.verdicts.lock();
        verdicts.retain(|verdict| verdict.judge != judge);
        if verdicts.len() >= MAX_VERDICTS {
            verdicts.remove(0);
        }
        verdicts.push(Verdict { judge, found });
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    /// Each request of a connection once cost the check of a signature, most of what a GET cost.
    #[test]
    fn a_connection_is_judged_once_by_each_judge_and_while_its_certificates_are_valid() {
        let (shown, times) = (Shown::default(), Cell::new(0));
        let asked = |judge: u64, now: i64| {
            let user = shown.judged(judge, now, |_| {
                times.set(times.get() + 1);
                Ok(Found { user: UserInfo::new(format!("by {judge}"), &[]), valid: 10..=20 })
            });
            (user.unwrap().name, times.get())
        };
        assert_eq!(asked(1, 10), ("by 1".into(), 1));
        assert_eq!(asked(1, 20), ("by 1".into(), 1));
        assert_eq!(asked(2, 20), ("by 2".into(), 2), "of another authority nothing is known");
        assert_eq!((asked(1, 15).1, asked(2, 15).1), (2, 2), "both are kept");
        assert_eq!(asked(1, 21).1, 3, "it has run out");
        assert_eq!(asked(1, 9).1, 4, "the clock was set back");
        for judge in 3..10 {
            asked(judge, 15);
        }
        assert_eq!(shown.verdicts.lock().len(), MAX_VERDICTS);
    }

    #[test]
    fn who_was_not_known_is_asked_about_again() {
        let shown = Shown::default();
        let refused = Unauthenticated::Certificate("not yet valid".into());
        assert_eq!(shown.judged(1, 5, |_| Err(refused.clone())), Err(refused));
        let found = Found { user: UserInfo::new("jane", &[]), valid: 10..=20 };
        assert_eq!(shown.judged(1, 10, |_| Ok(found)).unwrap().name, "jane");
    }
}
