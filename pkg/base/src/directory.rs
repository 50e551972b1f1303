//! Waiting for a change in a directory, by inotify.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::blocking;

/// What counts as a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// Every write to a file, and every file that comes.
    Written,
    /// Files that come or go, or that whoever wrote to them has closed: what is in them is whole.
    Settled,
}

/// A watch on one directory.
pub struct DirWatch {
    fd: AsyncFd<OwnedFd>,
}

impl DirWatch {
    /// Starts to watch.
    ///
    /// # Errors
    /// When the directory is not there, or the system watches no more of them.
    pub async fn open(directory: &Path, changes: Changes) -> io::Result<DirWatch> {
        let directory = directory.to_path_buf();
        let watch = move || -> io::Result<OwnedFd> {
            let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let what = WatchFlags::CREATE
                | WatchFlags::MOVED_TO
                | match changes {
                    Changes::Written => WatchFlags::MODIFY,
                    Changes::Settled => WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_FROM | WatchFlags::DELETE,
                };
            inotify::add_watch(&fd, directory, what)?;
            Ok(fd)
        };
        let fd = blocking::unbounded("watch a directory", watch).await.map_err(io::Error::other)??;
        // An `OwnedFd` names the same descriptor as long as it lives, which is all that the deprecation is about.
        #[allow(deprecated)]
        let fd = AsyncFd::new(fd)?;
        Ok(DirWatch { fd })
    }

    /// Completes when something changed since the last call.
    ///
    /// # Errors
    /// When the watch does not work any more.
    pub async fn changed(&self) -> io::Result<()> {
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
