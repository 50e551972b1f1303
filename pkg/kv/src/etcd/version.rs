//! Which etcd is good enough.
//!
//! Consistent reads from caches need answers to questions for progress that are true. Before 3.4.31, and in 3.5 before
//! 3.5.13, etcd could announce a revision before its events, so those versions are refused.

use kedge_etcdpb::etcdserverpb as pb;
use tracing::info;

use super::Shared;
use super::status::{Subject, Verdict, judge};
use crate::error::Error;

const OLDEST: &str = "3.4.31, 3.5.13 or 3.6";

fn is_good(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next(), next());
    match version {
        (3, 4, patch) => patch >= 31,
        (3, 5, patch) => patch >= 13,
        other => other >= (3, 6, 0),
    }
}

impl Shared {
    /// Asks every endpoint that answers for its version.
    pub(super) async fn check_versions(&self) -> Result<(), Error> {
        let asked = (0..self.caller.len()).map(|index| self.check_version(index));
        for checked in futures::future::join_all(asked).await {
            checked?;
        }
        Ok(())
    }

    async fn check_version(&self, index: usize) -> Result<(), Error> {
        let name = self.caller.name(index);
        let answer = async {
            let to = self.caller.stream_target(index).await?;
            to.maintenance().status(to.request(pb::StatusRequest {})).await
        };
        let answer = tokio::select! {
            answer = answer => answer,
            () = self.caller.clock().sleep(self.caller.attempt_timeout()) => return Ok(()),
        };
        let status = match answer.map_err(|status| judge(&status, &Subject::default())) {
            Ok(answer) => answer.into_inner(),
            // A member that is down now is none to be used now; a refusal of this question is not one of others.
            Err(Verdict::Elsewhere { what, .. } | Verdict::Reauthenticate(what)) => {
                info!(endpoint = name, what, "an etcd endpoint does not say its version");
                return Ok(());
            }
            Err(Verdict::Final(Error::Unauthenticated(what))) => {
                info!(endpoint = name, what, "an etcd endpoint does not say its version");
                return Ok(());
            }
            Err(Verdict::Final(error)) => return Err(error),
        };
        self.caller.note(status.header.as_ref())?;
        if is_good(&status.version) {
            return Ok(());
        }
        Err(Error::Protocol(format!("{name} runs etcd {}; {OLDEST} or newer is needed", status.version)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_whose_progress_is_true() {
        for good in ["3.4.31", "3.5.13", "3.5.30", "3.6.0", "3.6.0-rc.1", "3.7.0", "4.0.0"] {
            assert!(is_good(good), "{good}");
        }
        for bad in ["", "3.3.27", "3.4.30", "3.5.0", "3.5.12", "2.3.8", "x"] {
            assert!(!is_good(bad), "{bad}");
        }
    }
}
