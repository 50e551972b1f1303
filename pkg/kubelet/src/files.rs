//! Calls into file systems: on threads of their own, one a pod, each for a limited time.
//!
//! A volume may be on an NFS server that is gone or behind a FUSE daemon that does not answer. Whoever touches it hangs, and
//! that must be the pod that has it alone. So every call that a pod's volumes may hold up goes through here under the pod's
//! uid: a second call of the pod fails at once while the first hangs, and a retry takes no further thread.

use std::path::Path;
use std::time::Duration;

use kedge_base::{Blocking, BlockingError, Call, Ledger, SharedClock};

/// How long a call may take before the pod is told that it hangs, and is tried again.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);
/// Changing the owner of a large volume on a slow card takes its time.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// Calls that are waited for at a time.
const ACTIVE: usize = 16;
/// Threads at most, with those that hang: more than a node has pods.
const MOST: usize = 512;

/// The file system calls of one kubelet; cheap to clone.
#[derive(Clone)]
pub(crate) struct Files {
    blocking: Blocking,
}

impl Files {
    pub(crate) fn new(clock: SharedClock, ledger: &Ledger) -> Files {
        Files { blocking: Blocking::new("kubelet-files", clock, ledger, ACTIVE, MOST) }
    }

    /// Runs `work` for the pod `uid`, after what was begun for it before.
    ///
    /// # Errors
    /// [`BlockingError`], which names operation and path.
    pub(crate) async fn of_pod<T: Send + 'static>(
        &self,
        uid: &str,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        self.blocking.run(uid, Call { operation, path, limit: LIMIT }, work).await
    }

    /// As [`Files::of_pod`], for what may take long although nothing is wrong.
    ///
    /// # Errors
    /// [`BlockingError`].
    pub(crate) async fn long_of_pod<T: Send + 'static>(
        &self,
        uid: &str,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        self.blocking.run(uid, Call { operation, path, limit: LONG }, work).await
    }

    /// Runs `work` for the node itself; `user` is the part of the kubelet that asks, which is no pod's uid.
    ///
    /// # Errors
    /// [`BlockingError`].
    pub(crate) async fn of_node<T: Send + 'static>(
        &self,
        user: &'static str,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        self.blocking.run(user, Call { operation, path, limit: LIMIT }, work).await
    }
}
