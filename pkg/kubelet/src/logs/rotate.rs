//! Log rotation: a log over its limit is renamed, the runtime reopens it, and only so many old ones are kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_base::{SharedClock, TaskGroup};
use kedge_cri::{Runtime, v1};
use tracing::warn;

use crate::files::Files;

const PERIOD: Duration = Duration::from_secs(10);

/// Rotates the logs of running containers.
pub(crate) struct Rotator {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: SharedClock,
    pub(crate) files: Files,
    /// Upstream's `containerLogMaxSize`, in bytes.
    pub(crate) max_size: u64,
    /// Upstream's `containerLogMaxFiles`, the current one included.
    pub(crate) max_files: usize,
}

impl Rotator {
    /// Looks at all logs every ten seconds until shutdown.
    pub(crate) fn start(self, tasks: &TaskGroup) {
        let rotator = Arc::new(self);
        tasks.spawn_worker("log-rotation", move || {
            let rotator = rotator.clone();
            async move {
                loop {
                    rotator.clock.sleep(PERIOD).await;
                    if let Err(error) = rotator.round().await {
                        warn!(%error, "cannot list containers to rotate their logs");
                    }
                }
            }
        });
    }

    async fn round(&self) -> Result<(), kedge_cri::Error> {
        let containers = self.runtime.list_containers(Default::default()).await?;
        let running = v1::ContainerState::ContainerRunning as i32;
        for container in containers.into_iter().filter(|c| c.state == running) {
            let status = match self.runtime.container_status(&container.id, false).await {
                Ok(answer) => answer.status.unwrap_or_default(),
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let path = PathBuf::from(&status.log_path);
            if path.as_os_str().is_empty() {
                continue;
            }
            if let Err(error) = self.look_at(&container.id, &path).await {
                warn!(container = container.id, path = %path.display(), %error, "log rotation failed");
            }
        }
        Ok(())
    }

    async fn look_at(&self, id: &str, path: &Path) -> io::Result<()> {
        let measured = path.to_path_buf();
        match self.call("stat", path, move || std::fs::metadata(measured)).await? {
            Ok(metadata) if metadata.len() < self.max_size => Ok(()),
            Ok(_) => self.rotate(id, path).await,
            // A renaming that took too long came about after all: the container writes on into a file that nobody reads.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.runtime.reopen_container_log(id).await.map_err(io::Error::other)
            }
            Err(error) => Err(error),
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        self.files.of_node("log-rotation", operation, path, work).await.map_err(io::Error::other)
    }

    async fn rotate(&self, id: &str, path: &Path) -> io::Result<()> {
        let (keep, rotated) = (self.max_files.saturating_sub(2), rotated_name(path, self.clock.now()));
        let (from, to) = (path.to_path_buf(), rotated.clone());
        self.call("rename", path, move || prune(&from, keep).and_then(|()| std::fs::rename(&from, &to))).await??;
        if let Err(error) = self.runtime.reopen_container_log(id).await {
            // Without a new file the container would write on into the old one, which nobody reads.
            let back = path.to_path_buf();
            self.call("rename", path, move || std::fs::rename(&rotated, back)).await??;
            return Err(io::Error::other(error));
        }
        Ok(())
    }
}

fn rotated_name(path: &Path, now: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{}", now.strftime("%Y%m%d-%H%M%S")));
    PathBuf::from(name)
}

/// Removes the oldest rotated logs, so that `keep` are left.
fn prune(path: &Path, keep: usize) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(());
    };
    let prefix = format!("{name}.");
    let mut rotated = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|n| n.starts_with(&prefix)) {
            rotated.push(entry.path());
        }
    }
    // The names end in their time, so that their order is their age.
    rotated.sort();
    let surplus = rotated.len().saturating_sub(keep);
    rotated.drain(..surplus).try_for_each(std::fs::remove_file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_cri::fake::FakeRuntime;

    #[tokio::test]
    async fn keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for name in ["0.log", "0.log.20260101-000000", "0.log.20260102-000000", "1.log"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let files = Files::new(kedge_base::system_clock(), &kedge_base::Ledger::process());
        let rotator = Rotator {
            runtime: Arc::new(FakeRuntime::default()),
            clock: Arc::new(kedge_base::VirtualClock::new("2026-01-03T00:00:00Z".parse().unwrap())),
            files,
            max_size: 1,
            max_files: 3,
        };
        rotator.rotate("c", &path).await.unwrap();
        let mut names: Vec<String> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["0.log.20260102-000000", "0.log.20260103-000000", "1.log"]);
    }

    /// Once a renaming that came about too late left the container writing into a file that nobody reads, for good.
    #[tokio::test]
    async fn a_log_that_is_not_there_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Arc::new(FakeRuntime::default());
        let rotator = Rotator {
            runtime: runtime.clone(),
            clock: kedge_base::system_clock(),
            files: Files::new(kedge_base::system_clock(), &kedge_base::Ledger::process()),
            max_size: 10,
            max_files: 3,
        };
        let path = dir.path().join("0.log");
        std::fs::write(&path, "short").unwrap();
        rotator.look_at("c", &path).await.unwrap();
        assert_eq!(runtime.calls(), [""; 0]);
        std::fs::remove_file(&path).unwrap();
        rotator.look_at("c", &path).await.unwrap();
        assert_eq!(runtime.calls(), ["ReopenContainerLog(c)"]);
    }
}
