//! Volumes of storage drivers (CSI): which drivers there are, and how their volumes come to pods and go again.
//!
//! # Layers
//! ```text
//! watcher                     drivers that register and go
//! publish release             volumes for pods, and back
//! attach                      what a controller does before
//! drivers node_info secrets   what there is
//! source record in_use        what a volume is, what is written down of it, and what is told
//! ```
//!
//! Invariant: what a driver was asked to do for a pod is written down before it is asked (`vol_data.json`, in upstream's form and place),
//! and struck out only when the driver has undone it. So what is found after a crash or a restart can be undone, whoever began it, and a
//! volume is unstaged only when no pod of the node has it any more. For one volume one call is made at a time.

mod attach;
mod drivers;
mod grow;
mod in_use;
mod node_info;
mod publish;
mod record;
mod release;
mod secrets;
mod source;
mod watcher;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use kedge_base::{SharedClock, TaskGroup};
use kedge_client::Client;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Call, Notify};

use crate::files::Files;
use crate::volumes::{Directories, Tokens};
use drivers::Drivers;
use in_use::InUse;

pub(crate) use grow::Growth;
pub(crate) use publish::Published;
pub(crate) use source::{Around, PersistentSource, Source};

/// What comes before all of upstream's messages about these volumes.
const PLUGIN: &str = "kubernetes.io/csi";

/// Why a volume of a driver is not ready.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CsiError {
    /// What was being done, as upstream names it in events.
    pub(crate) operation: &'static str,
    pub(crate) message: String,
}

pub(crate) const MOUNT_DEVICE: &str = "MountVolume.MountDevice";
const SET_UP: &str = "MountVolume.SetUp";
const ATTACH: &str = "AttachVolume.Attach";

fn device(message: impl Into<String>) -> CsiError {
    CsiError { operation: MOUNT_DEVICE, message: message.into() }
}

fn set_up(message: impl Into<String>) -> CsiError {
    CsiError { operation: SET_UP, message: message.into() }
}

/// The storage drivers of this node and their volumes.
pub(crate) struct Csi {
    client: Client,
    clock: SharedClock,
    files: Files,
    directories: Directories,
    node: String,
    tokens: Arc<Tokens>,
    tasks: TaskGroup,
    drivers: Drivers,
    /// The node was made anew, and knows nothing of drivers.
    renewed: Notify,
    pub(crate) in_use: InUse,
    /// One call at a time for each volume.
    calls: Mutex<HashMap<String, Weak<Call<()>>>>,
    /// What this process has seen staged, by driver and handle, and published, by pod and name. What is not here is asked for once more.
    staged: Mutex<HashSet<(String, String)>>,
    published: Mutex<HashSet<(String, String)>>,
}

impl Csi {
    #[allow(clippy::too_many_arguments)] // Called once, where the kubelet is put together.
    pub(crate) fn new(
        client: Client,
        clock: SharedClock,
        files: Files,
        directories: Directories,
        node: String,
        reports: bool,
        tokens: Arc<Tokens>,
        tasks: TaskGroup,
    ) -> Csi {
        let in_use = InUse::new(reports);
        Csi {
            client,
            clock,
            files,
            directories,
            node,
            tokens,
            tasks,
            drivers: Drivers::default(),
            renewed: Notify::new(),
            in_use,
            calls: Mutex::default(),
            staged: Mutex::default(),
            published: Mutex::default(),
        }
    }

    /// Held while a driver is asked something about a volume.
    fn call(&self, driver: &str, handle: &str) -> Arc<Call<()>> {
        let mut calls = self.calls.lock();
        let key = format!("{driver}^{handle}");
        if let Some(call) = calls.get(&key).and_then(Weak::upgrade) {
            return call;
        }
        calls.retain(|_, call| call.strong_count() > 0);
        let call = Arc::default();
        calls.insert(key, Arc::downgrade(&call));
        call
    }

    /// The node was made anew: what it knew of drivers is to be written once more.
    pub(crate) fn renew(&self) {
        self.renewed.notify_one();
    }
}
