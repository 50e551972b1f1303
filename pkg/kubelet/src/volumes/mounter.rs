//! Mounting, behind a trait so that tests need no privileges.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

/// What volumes ask of the kernel.
pub(crate) trait Mounter: Send + Sync {
    /// A file system in memory, limited to `size` bytes if that is not 0.
    fn tmpfs(&self, target: &Path, size: u64) -> io::Result<()>;
    /// A file system of huge pages of that size.
    fn hugetlbfs(&self, target: &Path, page: u64, size: u64) -> io::Result<()>;
    /// Shows `source` at `target` as well.
    fn bind(&self, source: &Path, target: &Path) -> io::Result<()>;
    fn unmount(&self, target: &Path) -> io::Result<()>;
    /// The mount points at and below a path, the deepest first.
    fn mounts_below(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    fn is_mounted(&self, path: &Path) -> io::Result<bool> {
        Ok(self.mounts_below(path)?.iter().any(|m| m == path))
    }
}

/// The kernel itself.
pub(crate) struct KernelMounter;

impl Mounter for KernelMounter {
    fn tmpfs(&self, target: &Path, size: u64) -> io::Result<()> {
        let options = match size {
            0 => c"mode=0777".to_owned(),
            size => std::ffi::CString::new(format!("mode=0777,size={size}"))?,
        };
        rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::empty(), options.as_c_str())?;
        Ok(())
    }

    fn hugetlbfs(&self, target: &Path, page: u64, size: u64) -> io::Result<()> {
        let options = std::ffi::CString::new(format!("pagesize={page},size={size}"))?;
        rustix::mount::mount("nodev", target, "hugetlbfs", MountFlags::empty(), options.as_c_str())?;
        Ok(())
    }

    fn bind(&self, source: &Path, target: &Path) -> io::Result<()> {
        rustix::mount::mount_bind(source, target)?;
        Ok(())
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            Ok(()) => Ok(()),
            // Somebody still looks at it: it goes when they do.
            Err(rustix::io::Errno::BUSY) => {
                Ok(rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?)
            }
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn mounts_below(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(mount_points(&fs::read_to_string("/proc/self/mountinfo")?, path))
    }
}

/// Mount points of a mount table at and below `path`, the deepest first.
fn mount_points(table: &str, path: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut found: Vec<PathBuf> = points.map(PathBuf::from).filter(|p| p.starts_with(path)).collect();
    // One on top of the other shows in order of mounting; the last goes first.
    found.reverse();
    found.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    found
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let digits: Vec<u8> = bytes.by_ref().take(3).collect();
        let value = std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 8).ok());
        out.push(value.unwrap_or(b'\\'));
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
pub(crate) mod testing {
    //! A mounter that only remembers.
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    pub(crate) struct FakeMounter {
        pub(crate) mounted: Mutex<Vec<PathBuf>>,
    }

    impl Mounter for FakeMounter {
        fn tmpfs(&self, target: &Path, _size: u64) -> io::Result<()> {
            self.mounted.lock().push(target.to_path_buf());
            Ok(())
        }
        fn hugetlbfs(&self, target: &Path, _page: u64, size: u64) -> io::Result<()> {
            self.tmpfs(target, size)
        }
        fn bind(&self, _source: &Path, target: &Path) -> io::Result<()> {
            self.mounted.lock().push(target.to_path_buf());
            Ok(())
        }
        fn unmount(&self, target: &Path) -> io::Result<()> {
            self.mounted.lock().retain(|p| p != target);
            Ok(())
        }
        fn mounts_below(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
            Ok(self.mounted.lock().iter().filter(|p| p.starts_with(path)).cloned().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_comes_first_and_names_are_unescaped() {
        let table = "1 0 0:1 / /a rw - x x rw\n2 1 0:2 / /a/b\\040c rw - x x rw\n3 1 0:3 / /ab rw - x x rw\n";
        let points = mount_points(table, Path::new("/a"));
        assert_eq!(points, [PathBuf::from("/a/b c"), PathBuf::from("/a")]);
    }
}
