//! A file system of its own, with a device whose writes nobody else counts in.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::output;

/// The size of a disk that is made for a measurement.
const DISK_MIB: u64 = 1_024;

/// A mounted image; taken down when dropped.
pub struct Disk {
    device: String,
    mounted: PathBuf,
    image: PathBuf,
}

impl Disk {
    pub fn mount(image: PathBuf, at: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at)?;
        std::fs::File::create(&image)?.set_len(DISK_MIB << 20)?;
        // What would be initialized later, in the background, would be counted.
        output("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image.to_string_lossy()])?;
        let device = output("losetup", &["--find", "--show", &image.to_string_lossy()])?.trim().to_owned();
        let disk = Self { device, mounted: at.to_owned(), image };
        output("mount", &[&disk.device, &at.to_string_lossy()])?;
        Ok(disk)
    }

    /// Bytes that were written to the device.
    pub fn written(&self) -> anyhow::Result<u64> {
        let name = Path::new(&self.device).file_name().context("the device has no name")?;
        let stat = std::fs::read_to_string(Path::new("/sys/block").join(name).join("stat"))?;
        let sectors = stat.split_whitespace().nth(6).context("the device says not what was written")?;
        Ok(sectors.parse::<u64>()? * 512)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mounted = self.mounted.to_string_lossy();
        let undo = [("umount", vec![&*mounted]), ("losetup", vec!["--detach", &self.device])];
        for (program, args) in undo {
            if let Err(err) = output(program, &args) {
                eprintln!("do it by hand: {err}");
            }
        }
        // The directory that it lies in goes too.
        let _ = std::fs::remove_file(&self.image);
    }
}
