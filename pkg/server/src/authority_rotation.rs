//! Other authorities in the place of the cluster's, which this server, and every other one, uses from its next start on.
//!
//! Invariant: authorities are replaced only by a server that uses those that there are, so that nobody's are skipped over; in a
//! store that is shared they are replaced there, else beside the files that they will replace.

use std::path::PathBuf;
use std::sync::Arc;

use kedge_base::{SharedClock, blocking};
use kedge_certs::rotation::{self, Files};
use kedge_certs::shared;
use kedge_kv::Kv;
use tokio::sync::Mutex;
use tracing::info;

use crate::error::Error;
use crate::identity;
use crate::start::now;
use crate::token_rotation::TokenRotation;

/// Replaces the authorities of a running server.
pub(crate) struct AuthorityRotation {
    /// The store, if other servers have it too.
    pub(crate) shared: Option<Arc<dyn Kv>>,
    pub(crate) dir: PathBuf,
    /// Knows the token, and that it is not changed meanwhile.
    pub(crate) token: Arc<TokenRotation>,
    pub(crate) clock: SharedClock,
    /// One at a time.
    pub(crate) changing: Mutex<()>,
}

impl AuthorityRotation {
    /// Puts files, or new authorities that those that there are certify, in the place of what there is. Returns the names of what changes.
    ///
    /// # Errors
    /// [`Error::Rotation`] when that makes no sense, else what failed.
    pub(crate) async fn rotate(&self, given: Option<Files>, forced: bool) -> Result<Vec<String>, Error> {
        let _one_at_a_time = self.changing.lock().await;
        let dir = self.dir.clone();
        let is_shared = self.shared.is_some();
        let here = self.apart(move || if is_shared { shared::export(&dir) } else { shared::kept(&dir) }).await??;
        let changed = match &self.shared {
            Some(kv) => self.in_store(&**kv, here, given, forced).await?,
            None => self.beside(here, given, forced).await?,
        };
        info!(
            files = changed.join(","),
            "the cluster has other authorities; servers use them from their next start on"
        );
        Ok(changed)
    }

    async fn in_store(
        &self,
        kv: &dyn Kv,
        here: Files,
        given: Option<Files>,
        forced: bool,
    ) -> Result<Vec<String>, Error> {
        let token = self.token.current.lock().await;
        let found = identity::load(kv, &token).await?;
        let (mut identity, revision) = found.ok_or_else(|| Error::Identity("it is not in the store".into()))?;
        if identity.certificates != here {
            return Err(not_in_use());
        }
        let now = now(&self.clock);
        let (then, changed) = self.apart(move || replaced(&here, given, forced, now)).await??;
        identity.certificates = then;
        let stored = identity::store(kv, &token, &identity, revision).await?;
        stored.ok_or_else(|| Error::Identity("it was changed by another server at the same time; try again".into()))?;
        Ok(changed)
    }

    async fn beside(&self, here: Files, given: Option<Files>, forced: bool) -> Result<Vec<String>, Error> {
        if shared::is_waiting(&self.dir) {
            return Err(not_in_use());
        }
        let (dir, now) = (self.dir.clone(), now(&self.clock));
        let left = move || {
            let (then, changed) = replaced(&here, given, forced, now)?;
            shared::leave(&dir, &then)?;
            Ok(changed)
        };
        self.apart(left).await?
    }

    /// Files and keys are nothing for the threads of requests.
    async fn apart<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        blocking::unbounded("rotate authorities", work).await.map_err(|err| Error::Tls(err.to_string()))
    }
}

fn replaced(
    here: &Files,
    given: Option<Files>,
    forced: bool,
    now: time::OffsetDateTime,
) -> Result<(Files, Vec<String>), Error> {
    let given = match given {
        Some(given) => given,
        None => rotation::made(here, now)?,
    };
    let then = rotation::checked(here, &given, forced, now)?;
    let changed = then.iter().filter(|(name, content)| here.get(*name) != Some(content));
    let changed = changed.map(|(name, _)| name.clone()).collect();
    Ok((shared::replacing(here, then), changed))
}

fn not_in_use() -> Error {
    Error::Waiting("the cluster has other authorities than this server already: start it again before they are rotated")
}
