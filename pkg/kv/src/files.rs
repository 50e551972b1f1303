//! File operations behind a trait, so that tests can lose, tear and refuse writes.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::Error;
use crate::lock::DirLock;

/// A file that is written.
pub trait WriteFile: Send {
    /// Writes all of `data` at a place; the file grows when it lies beyond the end.
    ///
    /// # Errors
    /// When any of it could not be written; how much was is unknown.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts the file, or lets it grow with zeroes.
    ///
    /// # Errors
    /// As the file system says.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Makes what was written durable, with what is needed to read it back.
    ///
    /// # Errors
    /// When it may not be durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that is read.
pub trait ReadFile: Send {
    /// Its length.
    ///
    /// # Errors
    /// As the file system says.
    fn len(&self) -> io::Result<u64>;
    /// Reads from a place; returns how much there was.
    ///
    /// # Errors
    /// As the file system says.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Whether nothing is in it.
    ///
    /// # Errors
    /// As the file system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A directory's operations.
pub trait Files: Send + Sync {
    /// Creates a directory and its parents, 0700, durably.
    ///
    /// # Errors
    /// As the file system says; so for all calls.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes a directory for this process, until what is returned is dropped.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it.
    fn lock(&self, dir: &Path) -> Result<Box<dyn Any + Send>, Error>;
    /// Names in a directory, sorted.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens a file for reading.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>>;
    /// A new empty file, 0600; it must not exist.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;
    /// Opens a file for writing.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;
    /// Renames a file or directory within its directory, atomically.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that can still be written to the file system of a directory.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn free_space(&self, dir: &Path) -> io::Result<u64>;

    /// A whole file.
    ///
    /// # Errors
    /// See [`Files::create_dir`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut data = vec![0; len];
        let mut done = 0;
        while done < len {
            match file.read_at(done as u64, &mut data[done..])? {
                0 => break,
                n => done += n,
            }
        }
        data.truncate(done);
        Ok(data)
    }
}

/// The real file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFiles;

struct RealFile(File);

impl WriteFile for RealFile {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl ReadFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
}

impl Files for RealFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        path.canonicalize()?.parent().map_or(Ok(()), |parent| self.sync_dir(parent))
    }

    fn lock(&self, dir: &Path) -> Result<Box<dyn Any + Send>, Error> {
        Ok(Box::new(DirLock::acquire(dir)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
