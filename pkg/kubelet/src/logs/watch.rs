//! Waiting for a change in a directory, by inotify.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use kedge_base::blocking;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// A watch on one directory.
pub(super) struct DirWatch {
    fd: AsyncFd<OwnedFd>,
}

impl DirWatch {
    /// Starts to watch.
    pub(super) async fn open(directory: &Path) -> io::Result<DirWatch> {
        let directory = directory.to_path_buf();
        let watch = move || -> io::Result<OwnedFd> {
            let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
            inotify::add_watch(&fd, directory, what)?;
            Ok(fd)
        };
        let fd = blocking::unbounded("watch logs", watch).await.map_err(io::Error::other)??;
        // An `OwnedFd` names the same descriptor as long as it lives, which is all that the deprecation is about.
        #[allow(deprecated)]
        let fd = AsyncFd::new(fd)?;
        Ok(DirWatch { fd })
    }

    /// Completes when something changed since the last call.
    pub(super) async fn changed(&self) -> io::Result<()> {
        let mut guard = self.fd.readable().await?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let drained = guard.try_io(|fd| {
            let mut reader = inotify::Reader::new(fd.get_ref(), &mut buffer);
            // One buffer is enough to know; what is left wakes the next call.
            reader.next().map(drop).map_err(io::Error::from)
        });
        match drained {
            Ok(result) => result,
            Err(_would_block) => Ok(()),
        }
    }
}
