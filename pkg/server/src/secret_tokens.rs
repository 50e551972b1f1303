//! Tokens in secrets, as far as the server has a part in them: it signs those that controllers put there, and notes their use.
//!
//! The day on which the token of a secret was last shown, as a label of the secret: that is how it is known which of them nobody
//! needs any more.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use kedge_apiserver::{ApiServer, UsedTokens};
use kedge_auth::{TokenSigner, UsedSecret};
use kedge_base::SharedClock;
use kedge_client::Patch;
use kedge_controllers::SignError;
use kedge_meta::{UserInfo, resources};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::warn;

use crate::inprocess;

/// Signs for controllers.
pub(crate) struct SecretTokens(pub(crate) Arc<TokenSigner>);

impl kedge_controllers::TokenSigner for SecretTokens {
    fn sign(&self, claims: &Value) -> Result<String, SignError> {
        self.0.sign(claims).map_err(|err| SignError(err.to_string()))
    }
}

/// A request does not wait longer for the note.
const PATIENCE: Duration = Duration::from_secs(5);
/// After one that failed no request with this token tries again for so long.
const PAUSE: Duration = Duration::from_secs(60);
/// So many that failed are remembered.
const FAILED: usize = 1_024;

/// Notes it through the API of this process, as upstream does.
pub(crate) struct NotedUses {
    /// Unset before the server is there; it has this in turn.
    server: OnceLock<Weak<ApiServer>>,
    clock: SharedClock,
    /// Until when nothing is noted on secrets, by their UIDs, on the monotonic clock.
    failed: Mutex<HashMap<String, Duration>>,
}

// === impl NotedUses ===

impl NotedUses {
    pub(crate) fn new(clock: SharedClock) -> Arc<Self> {
        Arc::new(Self { server: OnceLock::new(), clock, failed: Mutex::default() })
    }

    fn is_paused(&self, uid: &str) -> bool {
        self.failed.lock().get(uid).is_some_and(|until| self.clock.monotonic() < *until)
    }

    fn has_failed(&self, uid: String) {
        let (now, mut failed) = (self.clock.monotonic(), self.failed.lock());
        failed.retain(|_, until| now < *until);
        if failed.len() < FAILED {
            failed.insert(uid, now + PAUSE);
        }
    }

    /// Says through which server.
    pub(crate) fn through(&self, server: &Arc<ApiServer>) {
        // It is said once.
        self.server.get_or_init(|| Arc::downgrade(server));
    }
}

#[async_trait]
impl UsedTokens for NotedUses {
    async fn note(&self, secret: UsedSecret) {
        let Some(server) = self.server.get().and_then(Weak::upgrade).filter(|_| !self.is_paused(&secret.uid)) else {
            return;
        };
        let client = inprocess::client(&server, UserInfo::new("system:apiserver", &[kedge_auth::MASTERS]));
        let UsedSecret { namespace, name, uid, day } = secret;
        let labels = json!({ "kubernetes.io/legacy-token-last-used": day });
        let patch = json!({ "metadata": { "uid": uid, "labels": labels } });
        let noted = client.patch::<Value>(&resources::SECRETS, &namespace, &name, Patch::Merge(patch), None);
        tokio::select! {
            noted = noted => match noted {
                Ok(_) => return,
                Err(err) => warn!(error = %err, namespace, name, "cannot note on a secret that its token was used"),
            },
            () = self.clock.sleep(PATIENCE) => {
                warn!(namespace, name, "noting on a secret that its token was used takes too long");
            }
        }
        self.has_failed(uid);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kedge_base::VirtualClock;

    use super::*;

    /// Else a webhook that refuses such changes is asked, and the log written to, with every request of that token.
    #[test]
    fn what_failed_is_not_tried_again_for_a_while_and_only_so_many_are_remembered() {
        let clock = VirtualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let notes = NotedUses::new(Arc::new(clock.clone()));
        notes.has_failed("a".into());
        assert!(notes.is_paused("a") && !notes.is_paused("b"));
        (0..2 * FAILED).for_each(|uid| notes.has_failed(uid.to_string()));
        assert_eq!(notes.failed.lock().len(), FAILED);
        clock.advance(PAUSE);
        assert!(!notes.is_paused("a"));
        notes.has_failed("b".into());
        assert_eq!(notes.failed.lock().len(), 1);
    }
}
