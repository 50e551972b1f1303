//! A file system that hangs: a FUSE daemon that says hello and then nothing.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const INIT: u32 = 26;
/// The length of the kernel's `fuse_in_header` and `fuse_out_header`, and of `fuse_init_out`.
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
const INIT_OUT: usize = 64;

/// Mounted; whoever looks at it waits until this is dropped.
pub struct Hung {
    dir: tempfile::TempDir,
    /// Nothing is read from it any more, so that those who wait can still be killed.
    device: Option<File>,
}

impl Hung {
    /// Mounts one below a directory of its own.
    pub fn mount() -> Self {
        let dir = tempfile::Builder::new().prefix("kedge-hung-").tempdir().unwrap();
        let target = dir.path().join("mnt");
        std::fs::create_dir(&target).unwrap();
        let mut device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        mount("kedge-test", &target, "fuse", MountFlags::empty(), options.as_c_str()).unwrap();
        // From here on it is unmounted whatever happens.
        let mut hung = Self { dir, device: None };
        let mut request = vec![0; 16 << 10];
        let length = device.read(&mut request).unwrap();
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert!(length >= IN_HEADER + 8 && word(4) == INIT, "the kernel says hello first");
        let mut answer = Vec::with_capacity(OUT_HEADER + INIT_OUT);
        answer.extend(((OUT_HEADER + INIT_OUT) as u32).to_ne_bytes());
        answer.extend(0_i32.to_ne_bytes());
        answer.extend(&request[8..16]);
        // Version 7.31, no read-ahead, no flags, no background requests, writes of a page.
        for number in [7_u32, 31, 0, 0, 0, 4096] {
            answer.extend(number.to_ne_bytes());
        }
        answer.resize(OUT_HEADER + INIT_OUT, 0);
        device.write_all(&answer).unwrap();
        hung.device = Some(device);
        hung
    }

    /// The directory that the mount is in; it answers.
    pub fn parent(&self) -> &Path {
        self.dir.path()
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// The kernel's number of the connection.
    fn connection(&self) -> Option<u32> {
        let path = self.path();
        let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let line = table.lines().find(|l| l.split(' ').nth(4).is_some_and(|p| Path::new(p) == path))?;
        line.split(' ').nth(2)?.split_once(':')?.1.parse().ok()
    }

    /// Fails whatever waits, and takes the mount away: below it is an empty directory.
    pub fn end(&mut self) -> Result<(), String> {
        let Some(device) = self.device.take() else { return Ok(()) };
        let abort = self.connection().map(|n| format!("/sys/fs/fuse/connections/{n}/abort"));
        // Where that file system is not mounted, closing the device does the same.
        let _ = abort.map(|path| std::fs::write(path, "1"));
        drop(device);
        unmount(self.path(), UnmountFlags::DETACH).map_err(|e| format!("cannot unmount {}: {e}", self.path().display()))
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        if self.device.is_none() {
            // Ended, or never answered the kernel's greeting; then the mount goes without being looked at.
            let _ = Command::new("umount").args(["-l", "-i"]).arg(self.path()).output();
        }
        match self.end() {
            Err(why) if std::thread::panicking() => eprintln!("{why}"),
            ended => ended.unwrap(),
        }
    }
}
