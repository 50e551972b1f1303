//! One process a data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::Error;

/// Held while the directory is in use; the kernel lets go of it when the process ends, however it ends.
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(|e| Error::io("cannot open", &path, e))?;
        if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != Errno::WOULDBLOCK {
                return Err(Error::io("cannot lock", &path, errno.into()));
            }
            let mut pid = String::new();
            // The pid only makes the message better; without it the message still says what is wrong.
            let holder = match file.read_to_string(&mut pid) {
                Ok(n) if n > 0 => format!(" (pid {})", pid.trim()),
                _ => String::new(),
            };
            return Err(Error::Locked { path: dir.to_owned(), holder });
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|e| Error::io("cannot write", &path, e))?;
        Ok(Self { _file: file })
    }
}
