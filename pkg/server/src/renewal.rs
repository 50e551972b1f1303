//! Certificates of this server, renewed while it runs: whoever uses one is given the next, and connections that are open keep
//! the one that they began with.
//!
//! Invariant: a certificate is on disk before anybody shows it; what cannot be renewed is tried again until it can, and the old one
//! is used meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kedge_base::{Backoff, SharedClock, blocking};
use kedge_certs::{Credential, KeptLeaf, Leaf};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::error::Error;
use crate::start::now;

/// Longest sleep: the wall clock may have been set meanwhile, by years on boards that have none that runs on. To look costs a comparison.
const LONGEST: Duration = Duration::from_secs(600);
/// Pauses after failures.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LAST_PAUSE: Duration = Duration::from_secs(3600);

/// Takes a leaf into use.
type Take = Box<dyn Fn(&Leaf) -> Result<(), Error> + Send + Sync>;

struct Kept {
    leaf: KeptLeaf,
    take: Take,
    /// The certificate in use; held while another is made, so that there is one at a time.
    used: Mutex<String>,
    /// When it is to be renewed, in seconds.
    due: AtomicI64,
}

/// All certificates that this process uses. Clones share them.
#[derive(Clone)]
pub(crate) struct Renewal(Arc<Inner>);

struct Inner {
    clock: SharedClock,
    kept: Mutex<Vec<Arc<Kept>>>,
    /// There are others than before.
    changed: Notify,
}

impl Renewal {
    pub(crate) fn new(clock: &SharedClock) -> Self {
        let inner = Inner { clock: clock.clone(), kept: Mutex::default(), changed: Notify::new() };
        Self(Arc::new(inner))
    }

    /// Has `take` use a leaf, and every later one.
    ///
    /// # Errors
    /// When it cannot be read, issued or used now.
    pub(crate) fn keep(
        &self,
        leaf: KeptLeaf,
        take: impl Fn(&Leaf) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let first = leaf.ensure(now(&self.0.clock))?;
        take(&first)?;
        let due = AtomicI64::new(first.renewed_at());
        let kept = Kept { leaf, take: Box::new(take), used: Mutex::new(first.certificate), due };
        self.0.kept.lock().push(Arc::new(kept));
        self.0.changed.notify_one();
        Ok(())
    }

    /// What TLS shows of a leaf, now and later.
    ///
    /// # Errors
    /// As [`Renewal::keep`].
    pub(crate) fn credential(&self, leaf: KeptLeaf) -> Result<Arc<Credential>, Error> {
        let first = leaf.ensure(now(&self.0.clock))?;
        let unusable = |err: kedge_certs::UnusableLeaf| Error::Tls(err.to_string());
        let credential = Arc::new(Credential::new(&first).map_err(unusable)?);
        let shown = credential.clone();
        self.keep(leaf, move |leaf| shown.replace(leaf).map_err(unusable))?;
        Ok(credential)
    }

    /// Renews what is to be renewed, as long as the process lives.
    pub(crate) async fn run(&self) {
        let mut pause = Backoff::new(FIRST_PAUSE, LAST_PAUSE, 20);
        let mut failed = false;
        loop {
            let wait = if failed { pause.next() } else { self.wait() };
            tokio::select! {
                () = self.0.clock.sleep(wait) => {}
                () = self.0.changed.notified() => continue,
            }
            failed = !self.renew().await;
            if !failed {
                pause.reset();
            }
        }
    }

    /// Until the first of them is to be renewed.
    fn wait(&self) -> Duration {
        let today = now(&self.0.clock).unix_timestamp();
        let due = self.0.kept.lock().iter().map(|kept| kept.due.load(Ordering::Relaxed)).min();
        let left = due.map_or(0, |due| due.saturating_sub(today)).max(0);
        // A little later, so that it surely is.
        Duration::from_secs(left.unsigned_abs() + 1).min(LONGEST)
    }

    /// Whether all are in use that should be.
    async fn renew(&self) -> bool {
        let mut all = true;
        for kept in self.all() {
            let (name, clock) = (kept.leaf.file().to_owned(), self.0.clock.clone());
            let renewed = blocking::unbounded("renew a certificate", move || kept.renew(&clock, false)).await;
            match renewed {
                Ok(Ok(())) => {}
                Ok(Err(err)) => {
                    all = false;
                    warn!(certificate = name, error = %err, "a certificate is not renewed; it is tried again");
                }
                Err(err) => {
                    all = false;
                    warn!(certificate = name, error = %err, "a certificate is not renewed; it is tried again");
                }
            }
        }
        all
    }

    fn all(&self) -> Vec<Arc<Kept>> {
        self.0.kept.lock().clone()
    }

    /// Issues anew those with these names, and has them used. Returns their names.
    ///
    /// # Errors
    /// When one cannot be issued, written or used; those before it are renewed.
    pub(crate) async fn rotate(&self, files: &[String]) -> Result<Vec<String>, Error> {
        let mut rotated = Vec::new();
        for kept in self.all().into_iter().filter(|kept| files.iter().any(|file| file == kept.leaf.file())) {
            rotated.push(kept.leaf.file().to_owned());
            let clock = self.0.clock.clone();
            let done = blocking::unbounded("renew a certificate", move || kept.renew(&clock, true)).await;
            done.map_err(|err| Error::Tls(err.to_string()))??;
        }
        // They are due at another time now.
        self.0.changed.notify_one();
        Ok(rotated)
    }
}

impl Kept {
    /// Reads the leaf, which is issued anew when it is time, and has it used when it is another.
    fn renew(&self, clock: &SharedClock, at_once: bool) -> Result<(), Error> {
        // The timer and somebody who asks may come together.
        let mut used = self.used.lock();
        let now = now(clock);
        let leaf = if at_once { self.leaf.issue(now)? } else { self.leaf.ensure(now)? };
        if leaf.certificate != *used {
            (self.take)(&leaf)?;
            info!(certificate = self.leaf.file(), "a renewed certificate is in use");
            self.due.store(leaf.renewed_at(), Ordering::Relaxed);
            *used = leaf.certificate;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
