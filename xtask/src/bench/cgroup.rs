//! A memory control group for one server: one child of the root, and nothing else of the hierarchy is touched.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long the last processes may take to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// A group with a limit; removed when dropped.
pub struct Cgroup {
    dir: PathBuf,
    files: &'static Files,
}

/// The names of the two versions.
struct Files {
    limit: &'static str,
    /// Holds a line `oom_kill COUNT`.
    kills: &'static str,
    peak: &'static str,
}

const V1: Files =
    Files { limit: "memory.limit_in_bytes", kills: "memory.oom_control", peak: "memory.max_usage_in_bytes" };
const V2: Files = Files { limit: "memory.max", kills: "memory.events", peak: "memory.peak" };

impl Cgroup {
    pub fn create(mib: u64) -> anyhow::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let (above, files) = if root.join("memory").join(V1.limit).exists() {
            (root.join("memory"), &V1)
        } else if std::fs::read_to_string(root.join("cgroup.subtree_control")).is_ok_and(|on| on.contains("memory")) {
            (root.to_owned(), &V2)
        } else {
            bail!("there is no memory controller that child groups of the root can use");
        };
        let dir = above.join(format!("kedge-bench-{}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let group = Self { dir, files };
        std::fs::write(group.dir.join(files.limit), (mib << 20).to_string())?;
        Ok(group)
    }

    /// A command that enters the group and then becomes `program`.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.dir.join("cgroup.procs")).arg(program);
        command
    }

    /// How many processes of the group the kernel has killed.
    pub fn kills(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(self.dir.join(self.files.kills))?;
        let line = text.lines().find_map(|l| l.strip_prefix("oom_kill ")).context("the kernel counts no kills")?;
        Ok(line.trim().parse()?)
    }

    /// The most that the group ever held, page cache included, in KiB, where the kernel says so.
    pub fn peak(&self) -> Option<u64> {
        let text = std::fs::read_to_string(self.dir.join(self.files.peak)).ok()?;
        Some(text.trim().parse::<u64>().ok()? / 1024)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let start = Instant::now();
        while let Err(err) = std::fs::remove_dir(&self.dir) {
            if start.elapsed() > PATIENCE {
                eprintln!("{} is left: {err}", self.dir.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
