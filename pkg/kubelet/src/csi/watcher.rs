//! Plug-ins that register: sockets in `plugins_registry`, as upstream's kubelet watches them.
//!
//! A plug-in whose registration fails is asked again, with growing pauses; one whose socket goes is forgotten. Sockets that were there
//! before are found at start.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{Backoff, Changes, DirWatch, TaskGroup, time};
use kedge_csi::{NodeDriver, Registrar};
use tracing::{info, warn};

use super::Csi;

/// Directories within directories that are looked into, and sockets that are minded.
const MAX_DEPTH: usize = 3;
const MAX_SOCKETS: usize = 256;
/// For what watching does not tell: sockets in directories within, and everything where it does not work.
const LOOK: Duration = Duration::from_secs(20);
/// How long others wait for a plug-in that does not answer.
const REGISTRATION: Duration = Duration::from_secs(15);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(120);

/// A socket as it was found: another file under its name is another plug-in.
type Found = BTreeMap<PathBuf, (u64, i64)>;

/// A plug-in that has registered.
struct Plugin {
    identity: (u64, i64),
    /// The driver's name and its own socket.
    driver: Option<(String, PathBuf)>,
    /// When it is asked again, where that is to be.
    again: Option<(Duration, Backoff)>,
}

impl Csi {
    /// Starts to mind plug-ins that register.
    pub(crate) fn start(self: &Arc<Self>, tasks: &TaskGroup) {
        let csi = self.clone();
        tasks.spawn_worker("plugin-registration", move || csi.clone().watch());
    }

    async fn watch(self: Arc<Self>) {
        self.introduce_for_long().await;
        let directory = self.directories.registrations();
        let mut plugins: BTreeMap<PathBuf, Plugin> = BTreeMap::new();
        let mut watch = None;
        let mut announced = false;
        loop {
            if watch.is_none() {
                watch = match open(&directory).await {
                    Ok(opened) => Some(opened),
                    Err(error) => {
                        if !announced {
                            warn!(directory = %directory.display(), %error, "plug-ins are looked for now and then");
                        }
                        announced = true;
                        None
                    }
                };
            }
            if !self.in_use.is_whole() {
                self.recall().await;
            }
            let looked = directory.clone();
            match self.files.of_node("plugins", "list", &directory, move || sockets(&looked)).await {
                Ok(Ok(found)) => self.follow(&mut plugins, found).await,
                Ok(Err(error)) => warn!(directory = %directory.display(), %error, "cannot look for plug-ins"),
                Err(error) => warn!(directory = %directory.display(), %error, "cannot look for plug-ins"),
            }
            let now = self.clock.monotonic();
            let retry = plugins.values().filter_map(|plugin| plugin.again.as_ref()).map(|(at, _)| *at).min();
            let wait = retry.map_or(LOOK, |at| at.saturating_sub(now).min(LOOK));
            let changed = async {
                match &watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = self.renewed.notified() => {
                    self.introduce_for_long().await;
                    // All register once more.
                    plugins.clear();
                }
                result = changed => {
                    if result.is_err() {
                        watch = None;
                    }
                }
            }
        }
    }

    async fn introduce_for_long(&self) {
        let mut wait = Backoff::new(FIRST_RETRY, LAST_RETRY, 20);
        // The node may not be registered yet.
        while let Err(error) = self.introduce().await {
            tracing::debug!(error, "the node's CSINode is not there yet");
            self.clock.sleep(wait.next()).await;
        }
    }

    async fn follow(&self, plugins: &mut BTreeMap<PathBuf, Plugin>, found: Found) {
        let gone: Vec<PathBuf> = plugins
            .iter()
            .filter(|(socket, plugin)| found.get(*socket) != Some(&plugin.identity))
            .map(|(socket, _)| socket.clone())
            .collect();
        for socket in gone {
            let Some(plugin) = plugins.remove(&socket) else { continue };
            let Some((name, endpoint)) = plugin.driver else { continue };
            // Another registration may speak for the same driver, or this one come anew: then it stays until that says otherwise.
            let replaced = plugins.values().any(|other| other.driver.as_ref().is_some_and(|(n, _)| *n == name));
            let back = found.contains_key(&socket);
            if !replaced && !back && self.drivers.remove(&name, &endpoint) {
                info!(driver = name, "the storage driver is gone");
                if let Err(error) = self.uninstall(&name).await {
                    warn!(driver = name, error, "cannot write down that the driver is gone");
                }
            }
        }
        for (socket, identity) in found {
            let now = self.clock.monotonic();
            let due = match plugins.get(&socket) {
                None => true,
                Some(plugin) => plugin.again.as_ref().is_some_and(|(at, _)| *at <= now),
            };
            if !due {
                continue;
            }
            let before = plugins.remove(&socket).and_then(|plugin| plugin.again);
            let mut wait = before.map_or_else(|| Backoff::new(FIRST_RETRY, LAST_RETRY, 20), |(_, wait)| wait);
            let registered = time::timeout(REGISTRATION, self.register(&socket)).await;
            let registered = registered.unwrap_or_else(|_| Err("it does not answer".into()));
            let plugin = match registered {
                Ok(driver) => Plugin { identity, driver: Some(driver), again: None },
                Err(error) => {
                    warn!(socket = %socket.display(), error, "a plug-in is not registered");
                    Plugin { identity, driver: None, again: Some((now + wait.next(), wait)) }
                }
            };
            plugins.insert(socket, plugin);
        }
    }

    async fn register(&self, socket: &Path) -> Result<(String, PathBuf), String> {
        let registrar = Registrar::new(socket);
        let plugin = registrar.info().await.map_err(|error| format!("failed to get plugin info: {error}"))?;
        let endpoint = if plugin.endpoint.is_empty() { socket.to_path_buf() } else { PathBuf::from(&plugin.endpoint) };
        let outcome = match plugin.r#type.as_str() {
            "CSIPlugin" => self.take_in(&plugin.name, &endpoint, &plugin.supported_versions).await,
            other => Err(format!("no handler registered for plugin type: {other} at socket {}", socket.display())),
        };
        let told = registrar.notify(outcome.clone()).await;
        outcome?;
        if let Err(error) = told {
            self.drivers.remove(&plugin.name, &endpoint);
            return Err(format!("failed to send registration status: {error}"));
        }
        Ok((plugin.name, endpoint))
    }

    async fn take_in(&self, name: &str, endpoint: &Path, versions: &[String]) -> Result<(), String> {
        if name.is_empty() {
            return Err("driver name is empty".into());
        }
        let supported = |version: &String| version.trim_start_matches('v').starts_with("1.");
        if !versions.iter().any(supported) {
            let versions = versions.join(",");
            return Err(format!(
                "validation failed for CSI Driver {name} at endpoint {}: no supported version among {versions:?}",
                endpoint.display()
            ));
        }
        // One that does not work takes no place of one that does.
        let info = NodeDriver::new(endpoint).info().await.map_err(|error| error.to_string())?;
        self.install(name, &info).await?;
        self.drivers.add(name, endpoint);
        info!(driver = name, node = info.node_id, "a storage driver has registered");
        Ok(())
    }
}

async fn open(directory: &Path) -> io::Result<DirWatch> {
    let made = directory.to_path_buf();
    let make = move || fs::create_dir_all(made);
    kedge_base::blocking::unbounded("make a directory", make).await.map_err(io::Error::other)??;
    DirWatch::open(directory, Changes::Settled).await
}

/// The sockets in a directory and those within, but for hidden ones. Blocks.
fn sockets(directory: &Path) -> io::Result<Found> {
    let mut found = Found::new();
    let mut waiting = vec![(directory.to_path_buf(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let Ok(metadata) = entry.metadata() else { continue };
            if hidden || found.len() >= MAX_SOCKETS {
                continue;
            }
            if metadata.is_dir() && depth < MAX_DEPTH {
                waiting.push((entry.path(), depth + 1));
            } else if metadata.file_type().is_socket() {
                found.insert(entry.path(), (metadata.ino(), metadata.ctime_nsec()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sockets_are_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert!(sockets(&dir.path().join("absent")).unwrap().is_empty());
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("file.sock"), "").unwrap();
        let listen = |name: &str| std::os::unix::net::UnixListener::bind(dir.path().join(name)).unwrap();
        let _open = (listen("a.sock"), listen("d/b.sock"), listen(".hidden.sock"));
        let found: Vec<PathBuf> = sockets(dir.path()).unwrap().into_keys().collect();
        assert_eq!(found, [dir.path().join("a.sock"), dir.path().join("d/b.sock")]);
    }
}
