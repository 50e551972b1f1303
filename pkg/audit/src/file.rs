//! A file of lines that is set aside when it is large, and of which only so many and so old ones are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// As upstream's, when nobody says.
const USUAL: u64 = 100 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What is between the name of the file and its ending when it is set aside.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// Lines go to a file, or to the standard output.
#[derive(Debug)]
pub struct LogFile {
    /// None for the standard output.
    path: Option<PathBuf>,
    file: Option<File>,
    size: u64,
    most: u64,
    backups: usize,
    age: Option<Duration>,
    compress: bool,
    /// Whether something was set aside that has not been packed, or is to be removed.
    untidy: bool,
}

/// What is done with files that were set aside, apart from the writing: it may take long.
#[derive(Debug, Clone)]
pub(crate) struct Tidying {
    path: PathBuf,
    backups: usize,
    age: Option<Duration>,
    compress: bool,
}

impl LogFile {
    /// At a path, `-` being the standard output; files of up to `most` MiB, of which `backups` are kept for as many days as `age`. Zero
    /// stands for what is usual, for all, and for ever.
    pub fn new(path: &str, most: u64, backups: usize, age: u64, compress: bool) -> Self {
        Self {
            path: (path != "-").then(|| PathBuf::from(path)),
            file: None,
            size: 0,
            most: if most == 0 { USUAL } else { most << 20 },
            backups,
            age: (age > 0).then(|| DAY.saturating_mul(u32::try_from(age).unwrap_or(u32::MAX))),
            compress,
            untidy: true,
        }
    }

    /// What is to be done with files that were set aside, if anything is.
    pub(crate) fn tidying(&mut self) -> Option<Tidying> {
        let path = self.path.clone().filter(|_| std::mem::take(&mut self.untidy))?;
        Some(Tidying { path, backups: self.backups, age: self.age, compress: self.compress })
    }

    /// Opens it, so that what is wrong with its place is known at once.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&mut self) -> io::Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.file.is_none()) else { return Ok(()) };
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Appends lines, each with its end.
    ///
    /// # Errors
    /// When the file cannot be written; it is opened anew for the next.
    pub fn append(&mut self, lines: &[Vec<u8>], now: Timestamp) -> io::Result<()> {
        let written = self.append_all(lines, now);
        if written.is_err() {
            self.file = None;
        }
        written
    }

    fn append_all(&mut self, lines: &[Vec<u8>], now: Timestamp) -> io::Result<()> {
        if self.path.is_none() {
            let mut out = io::stdout().lock();
            for line in lines {
                out.write_all(line)?;
            }
            return out.flush();
        }
        let mut together = Vec::new();
        for line in lines {
            self.open()?;
            let next = self.size + together.len() as u64 + line.len() as u64;
            if next > self.most && next > line.len() as u64 {
                self.write(&mut together)?;
                self.set_aside(now)?;
            }
            together.extend_from_slice(line);
        }
        self.open()?;
        self.write(&mut together)
    }

    fn write(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            self.size += bytes.len() as u64;
        }
        bytes.clear();
        Ok(())
    }

    /// The file gets a name with the time, and a new one is begun.
    fn set_aside(&mut self, now: Timestamp) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        self.file = None;
        let (stem, ending) = Self::parts(path);
        let mut stamp = now;
        let mut aside = path.with_file_name(format!("{stem}-{}{ending}", stamp.strftime(STAMP)));
        // Two within a thousandth of a second are not one.
        while aside.exists() || aside.with_file_name(format!("{}.gz", name(&aside))).exists() {
            stamp += jiff::SignedDuration::from_millis(1);
            aside = path.with_file_name(format!("{stem}-{}{ending}", stamp.strftime(STAMP)));
        }
        fs::rename(path, &aside)?;
        self.untidy = true;
        Ok(())
    }

    fn parts(path: &Path) -> (String, String) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
        (stem, ending)
    }
}

impl Tidying {
    /// Packs those that are not, and removes those that are too many or too old.
    ///
    /// # Errors
    /// When a file cannot be read, written or removed.
    pub(crate) fn run(&self, now: Timestamp) -> io::Result<()> {
        if self.compress {
            for (_, file) in self.aside()? {
                if file.extension().is_none_or(|ending| ending != "gz") {
                    compress(&file)?;
                }
            }
        }
        self.remove_old(&self.aside()?, now)
    }

    /// What was set aside, the oldest first.
    fn aside(&self) -> io::Result<Vec<(Timestamp, PathBuf)>> {
        let path = self.path.as_path();
        let (stem, ending) = LogFile::parts(path);
        let mut aside = Vec::new();
        for entry in
            fs::read_dir(path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
        {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            let plain = file.strip_suffix(".gz").unwrap_or(&file);
            let stamp = plain.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&ending));
            if let Some(at) = stamp.and_then(set_aside_at) {
                aside.push((at, entry.path()));
            }
        }
        aside.sort();
        Ok(aside)
    }

    fn remove_old(&self, aside: &[(Timestamp, PathBuf)], now: Timestamp) -> io::Result<()> {
        let many = if self.backups == 0 { 0 } else { aside.len().saturating_sub(self.backups) };
        for (place, (at, file)) in aside.iter().enumerate() {
            let old = self.age.is_some_and(|age| now.duration_since(*at).unsigned_abs() > age && now > *at);
            if place < many || old {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// When a file was set aside, by its name.
fn set_aside_at(stamp: &str) -> Option<Timestamp> {
    let at = jiff::civil::DateTime::strptime(STAMP, stamp).ok()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn compress(path: &Path) -> io::Result<()> {
    let packed = path.with_file_name(format!("{}.gz", name(path)));
    // One that is there was not finished.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&packed)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| name(&entry.unwrap().path())).collect();
        names.sort();
        names
    }

    fn line(of: u8) -> Vec<u8> {
        let mut line = vec![of; (400 << 10) - 1];
        line.push(b'\n');
        line
    }

    #[test]
    fn a_large_file_is_set_aside_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/audit.log");
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut log = LogFile::new(path.to_str().unwrap(), 1, 2, 0, false);
        for n in 0..9u8 {
            log.append(&[line(b'a' + n)], at(i64::from(n))).unwrap();
            if let Some(tidying) = log.tidying() {
                tidying.run(at(i64::from(n))).unwrap();
            }
        }
        let above = path.parent().unwrap();
        assert_eq!(
            names(above),
            ["audit-1970-01-01T00-00-06.000.log", "audit-1970-01-01T00-00-08.000.log", "audit.log"].map(str::to_owned)
        );
        assert_eq!(fs::read(&path).unwrap()[0], b'i');
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(names(above).iter().all(|file| fs::metadata(above.join(file)).unwrap().len() <= 1 << 20));
        // Several at once are as several one after the other, also for one that finds the file there.
        let mut again = LogFile::new(path.to_str().unwrap(), 1, 0, 0, false);
        again.append(&(0..5).map(|n| line(b'0' + n)).collect::<Vec<_>>(), at(20)).unwrap();
        let all: usize = names(above)
            .iter()
            .map(|file| fs::read(above.join(file)).unwrap().iter().filter(|b| **b == b'\n').count())
            .sum();
        assert_eq!(all, 4 + 1 + 5);
    }

    #[test]
    fn old_ones_go_and_kept_ones_are_packed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let mut log = LogFile::new(path.to_str().unwrap(), 1, 0, 1, true);
        let day = |n: i64| Timestamp::from_second(n * 86_400).unwrap();
        for n in 1..=4u8 {
            log.append(&[line(b'a'), line(b'b'), line(b'c')], day(i64::from(n))).unwrap();
            // As after a start in the middle of packing.
            fs::write(dir.path().join("audit-1970-01-05T00-00-00.000.gz"), "half").unwrap();
            if let Some(tidying) = log.tidying() {
                tidying.run(day(i64::from(n))).unwrap();
            }
        }
        let names = names(dir.path());
        let (old, packed): (Vec<_>, Vec<_>) = (
            names.iter().filter(|name| name.contains("1970-01-02") || name.contains("1970-01-03")).collect(),
            names.iter().filter(|name| name.ends_with(".gz")).collect(),
        );
        assert!(old.is_empty() && packed.len() == names.len() - 1 && packed.len() >= 2, "{names:?}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(LogFile::new(dir.path().to_str().unwrap(), 1, 0, 0, false).open().is_err());
    }
}
