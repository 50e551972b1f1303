//! Configuration files that are read anew while the server runs: when they change, and every minute, as upstream.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_base::{Changes, DirWatch, SharedClock, TaskGroup, blocking};
use tracing::warn;

/// Between two looks at a file without a sign that it has changed.
const INTERVAL: Duration = Duration::from_secs(60);
/// What changes at the same time is looked at once.
const SETTLED: Duration = Duration::from_millis(50);
/// The largest file.
const LARGEST: u64 = 3 << 20;

/// Takes in what a file says.
#[async_trait]
pub(crate) trait Reload: Send + Sync {
    /// Takes in what it says now, or that it cannot be read.
    async fn take(&self, data: Result<Vec<u8>, String>);
}

/// Has a file followed for as long as the server runs.
pub(crate) fn follow(
    task: &'static str,
    path: &Path,
    reload: Arc<dyn Reload>,
    (clock, tasks): (&SharedClock, &TaskGroup),
) {
    let (path, clock) = (path.to_owned(), clock.clone());
    tasks.spawn_worker(task, move || watched(path.clone(), reload.clone(), clock.clone()));
}

async fn watched(path: PathBuf, reload: Arc<dyn Reload>, clock: SharedClock) {
    // Files are replaced, and so are directories: in the one that is named each replacement is seen.
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    loop {
        // Made anew after each interval: there may be another directory of that name.
        let watch = DirWatch::open(&directory, Changes::Settled).await;
        let watch = watch.inspect_err(|why| warn!(path = %path.display(), error = %why, "cannot watch a configuration file; it is looked at every minute")).ok();
        reload.take(read(&path).await).await;
        let mut over = clock.sleep(INTERVAL);
        loop {
            tokio::select! {
                changed = changed(watch.as_ref()) => if let Err(why) = changed {
                    warn!(path = %path.display(), error = %why, "cannot watch a configuration file any more; it is looked at every minute");
                    over.await;
                    break;
                },
                () = &mut over => break,
            }
            clock.sleep(SETTLED).await;
            reload.take(read(&path).await).await;
        }
    }
}

async fn changed(watch: Option<&DirWatch>) -> io::Result<()> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// What a file says.
pub(crate) async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let read = blocking::unbounded("read a configuration file", move || read_now(&path));
    read.await.map_err(|why| why.to_string())?
}

/// The same for who starts the server and may wait.
pub(crate) fn read_now(path: &Path) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut data));
    match read {
        Err(why) => Err(format!("{}: {why}", path.display())),
        Ok(_) if data.len() as u64 > LARGEST => Err(format!("{}: it has more than {LARGEST} bytes", path.display())),
        Ok(_) => Ok(data),
    }
}

/// The tree of a file.
pub(crate) fn tree(data: &[u8]) -> Result<serde_json::Value, String> {
    if data.is_empty() {
        Err("empty config data".to_owned())
    } else {
        serde_yaml::from_slice(data).map_err(|why| why.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::{Shutdown, system_clock};
    use tokio::sync::mpsc;

    struct Tells(mpsc::Sender<Result<Vec<u8>, String>>);

    #[async_trait]
    impl Reload for Tells {
        async fn take(&self, data: Result<Vec<u8>, String>) {
            self.0.send(data).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_is_read_when_it_is_written_replaced_or_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, "a").unwrap();
        let (said, mut heard) = mpsc::channel(16);
        let tasks = TaskGroup::new("test", Shutdown::new());
        follow("test", &path, Arc::new(Tells(said)), (&system_clock(), &tasks));
        let mut until = async |wanted: Option<&[u8]>| {
            while heard.recv().await.unwrap().ok().as_deref() != wanted {}
        };
        until(Some(b"a")).await;
        std::fs::write(&path, "b").unwrap();
        until(Some(b"b")).await;
        let next = dir.path().join("next");
        std::fs::write(&next, "c").unwrap();
        std::fs::rename(&next, &path).unwrap();
        until(Some(b"c")).await;
        std::fs::remove_file(&path).unwrap();
        until(None).await;
        tasks.shutdown().trigger();
    }

    #[test]
    fn what_is_too_large_or_empty_is_no_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        std::fs::write(&path, vec![b' '; LARGEST as usize + 1]).unwrap();
        assert!(read_now(&path).unwrap_err().contains("more than"));
        assert!(tree(b"").is_err() && tree(b"a: [").is_err());
    }
}
