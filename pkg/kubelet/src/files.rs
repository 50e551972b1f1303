//! Calls into file systems: on threads of their own, one a pod, each for a limited time.
//!
//! A volume may be on an NFS server that is gone or behind a FUSE daemon that does not answer. Whoever touches it hangs, and
//! that must be the pod that has it alone. So every call that a pod's volumes may hold up goes through here, under the pod's
//! uid or, for what is the node's, its path: a second one fails at once while the first hangs, and a retry takes no further
//! thread.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use kedge_base::{Blocking, BlockingError, BoxFuture, Call, Ledger, SharedClock};

/// How long a call may take before the pod is told that it hangs, and is tried again.
const LIMIT: Duration = Duration::from_secs(15);
/// Changing the owner of a large volume on a slow card takes its time.
const LONG: Duration = Duration::from_secs(600);
/// The operations that have that long.
pub(crate) const SET_GROUP: &str = "set the group of";
pub(crate) const REMOVE_VOLUME: &str = "remove the volume";
/// A directory that becomes a volume.
pub(crate) const MAKE_VOLUME: &str = "make the volume";
/// Calls that are waited for at a time.
const ACTIVE: usize = 16;
/// Threads at most, with those that hang: more than a node has pods.
const MOST: usize = 512;

/// Puts a file into a directory, whole, in place of one of that name. `lasting`: it survives a power cut. Blocks.
pub(crate) fn replace(directory: &Path, name: &str, content: &[u8], lasting: bool) -> io::Result<()> {
    let unfinished = directory.join(format!(".{name}"));
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(content)?;
    if lasting {
        file.sync_all()?;
    }
    fs::rename(unfinished, directory.join(name))
}

/// The file system calls of one kubelet; cheap to clone.
#[derive(Clone)]
pub(crate) struct Files {
    blocking: Blocking,
    /// What may take minutes has places of its own, so that all else need not wait for it.
    long: Blocking,
}

impl Files {
    pub(crate) fn new(clock: SharedClock, ledger: &Ledger) -> Files {
        Files {
            blocking: Blocking::new("kubelet-files", clock.clone(), ledger, ACTIVE, MOST),
            long: Blocking::new("kubelet-files-long", clock, ledger, ACTIVE, MOST),
        }
    }

    /// Runs `work` for the pod `uid`, after what was begun for it before.
    ///
    /// # Errors
    /// [`BlockingError`], which names operation and path.
    pub(crate) fn of_pod<'a, T: Send + 'static>(
        &'a self,
        uid: &'a str,
        operation: &'static str,
        path: &'a Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'a, Result<T, BlockingError>> {
        // Boxed here, since the workers' own state is large enough.
        Box::pin(self.blocking.run(uid, Call { operation, path, limit: LIMIT }, work))
    }

    /// Looks at something of the node's that pods may share, and that is left alone when they go: all pods with the same path
    /// take one thread, and one that is deleted need not wait for it.
    ///
    /// # Errors
    /// [`BlockingError`].
    pub(crate) fn of_path<'a, T: Send + 'static>(
        &'a self,
        operation: &'static str,
        path: &'a Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'a, Result<T, BlockingError>> {
        let long = matches!(operation, SET_GROUP | REMOVE_VOLUME);
        let (blocking, limit) = if long { (&self.long, LONG) } else { (&self.blocking, LIMIT) };
        Box::pin(async move {
            let key = format!("{operation} {}", path.display());
            blocking.run(&key, Call { operation, path, limit }, work).await
        })
    }

    /// Runs `work` for the node itself; `user` is the part of the kubelet that asks, which is no pod's uid.
    ///
    /// # Errors
    /// [`BlockingError`].
    pub(crate) fn of_node<'a, T: Send + 'static>(
        &'a self,
        user: &'static str,
        operation: &'static str,
        path: &'a Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'a, Result<T, BlockingError>> {
        self.of_pod(user, operation, path, work)
    }
}
