//! The node this kubelet runs on: what it has, its object in the API, and its heartbeat.

mod conditions;
mod lease;
mod machine;
mod object;
mod register;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{Backoff, TaskGroup};
use kedge_client::{EventType, Patch};
use kedge_meta::{ObjectReference, resources};
use serde_json::Value;
use tracing::{debug, info, warn};

use crate::cgroups::Cgroups;
use crate::eviction::Thresholds;
use crate::generate::Machine;
use crate::kubelet::Kubelet;
pub(crate) use machine::MachineInfo;

/// Upstream's `nodeStatusUpdateFrequency`: how often the status is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Upstream's `nodeStatusReportFrequency`: how often it is written although nothing changed.
const REPORT: Duration = Duration::from_secs(300);

/// How events name this node; its uid is its name, as upstream writes it.
pub(crate) fn reference(name: &str) -> ObjectReference {
    ObjectReference { kind: "Node".into(), name: name.into(), uid: name.into(), ..ObjectReference::default() }
}

/// What containers are limited against on this machine.
pub(crate) fn machine(cgroups: Option<&dyn Cgroups>, thresholds: &Thresholds) -> Machine {
    MachineInfo::detect(Path::new("/"), thresholds).machine(cgroups.is_some_and(|c| c.version() == "v2"))
}

/// Registers the node, then keeps its status and lease up to date until shutdown. Returns at once.
pub(crate) fn start(kubelet: &Arc<Kubelet>, tasks: &TaskGroup) {
    let node = reference(&kubelet.config.node_name);
    kubelet.event(&node, EventType::Normal, "Starting", "Starting kubelet.");
    if !kubelet.config.register_node {
        return;
    }
    let keeper = Keeper {
        kubelet: kubelet.clone(),
        info: Arc::new(MachineInfo::detect(&kubelet.config.root_dir, &kubelet.config.args.eviction_hard)),
        reported: None,
        seen: HashMap::new(),
    };
    tasks.spawn_worker("node-status", move || keeper.clone().run());
    let kubelet = kubelet.clone();
    tasks.spawn_worker("node-lease", move || lease::run(kubelet.clone()));
}

#[derive(Clone)]
struct Keeper {
    kubelet: Arc<Kubelet>,
    info: Arc<MachineInfo>,
    /// When the status was last written, on the monotonic clock.
    reported: Option<Duration>,
    /// The conditions' last states, for events about changes.
    seen: HashMap<String, String>,
}

impl Keeper {
    async fn run(mut self) {
        let clock = self.kubelet.clock.clone();
        let (mut health, mut pressure) = (self.kubelet.health.subscribe(), self.kubelet.pressure.subscribe());
        let mut in_use = self.kubelet.volumes.csi().in_use.subscribe();
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(7), 20);
        loop {
            let inputs = self.inputs().await;
            match register::ensure(&self.kubelet, &inputs).await {
                Ok(()) => break,
                Err(error) => {
                    warn!(node = self.kubelet.config.node_name, %error, "cannot register the node yet");
                    clock.sleep(retry.next()).await;
                }
            }
        }
        info!(node = self.kubelet.config.node_name, "the node is registered");
        retry.reset();
        loop {
            let wait = match self.round().await {
                Ok(()) => {
                    retry.reset();
                    LOOK
                }
                Err(error) => {
                    warn!(node = self.kubelet.config.node_name, %error, "cannot update the node's status");
                    retry.next().min(LOOK)
                }
            };
            tokio::select! {
                () = clock.sleep(wait) => {}
                Ok(()) = health.changed() => {}
                Ok(()) = in_use.changed() => {}
                Ok(()) = pressure.changed() => {}
            }
        }
    }

    async fn inputs(&mut self) -> object::Inputs {
        let kubelet = self.kubelet.clone();
        let pressure = *kubelet.pressure.borrow();
        let images = match kubelet.runtime.list_images().await {
            Ok(images) => images,
            Err(error) => {
                debug!(%error, "cannot list images for the node's status");
                Vec::new()
            }
        };
        // The health has judged a runtime that does not answer; here it only has nothing to add.
        let runtime = kubelet.runtime.status(false).await.unwrap_or_default();
        object::Inputs {
            config: kubelet.config.clone(),
            info: self.info.clone(),
            health: kubelet.health.get(),
            pleg_age: kubelet.pleg.age(),
            pressure,
            images,
            runtime,
            volumes_in_use: kubelet.volumes.csi().in_use.list().map(|(names, _)| names),
            now: kubelet.clock.now(),
        }
    }

    async fn round(&mut self) -> Result<(), kedge_client::Error> {
        let csi = self.kubelet.volumes.csi().clone();
        // Before the list is read, so that no more is said to be told than is.
        let told = csi.in_use.list().map(|(_, generation)| generation);
        self.tell_api().await?;
        if let Some(generation) = told {
            csi.in_use.report(generation);
        }
        Ok(())
    }

    async fn tell_api(&mut self) -> Result<(), kedge_client::Error> {
        let inputs = self.inputs().await;
        let name = self.kubelet.config.node_name.clone();
        let node: Value = match self.kubelet.config.client.get(&resources::NODES, "", &name).await {
            // Somebody deleted it; a kubelet that runs makes it anew.
            Err(error) if error.is_not_found() => {
                register::ensure(&self.kubelet, &inputs).await?;
                self.kubelet.volumes.csi().renew();
                return Ok(());
            }
            node => node?,
        };
        let have = node.get("status").cloned().unwrap_or_default();
        let want = object::status(&inputs, &have);
        self.tell(&want);
        let clock = &self.kubelet.clock;
        let due = self.reported.is_none_or(|at| clock.monotonic().saturating_sub(at) >= REPORT);
        let Some(patch) = object::patch(&have, &want, due) else { return Ok(()) };
        let patch = Patch::Strategic(patch);
        let _: Value = self.kubelet.config.client.patch(&resources::NODES, "", &name, patch, Some("status")).await?;
        self.reported = Some(clock.monotonic());
        Ok(())
    }

    /// Events about conditions that changed.
    fn tell(&mut self, want: &Value) {
        let name = self.kubelet.config.node_name.clone();
        for (kind, status) in conditions::states(want) {
            let before = self.seen.insert(kind.clone(), status.clone());
            let changed = before.as_ref() != Some(&status);
            if let Some(reason) = conditions::event(&kind, &status).filter(|_| changed) {
                let message = format!("Node {name} status is now: {reason}");
                self.kubelet.event(&reference(&name), EventType::Normal, reason, message);
            }
        }
    }
}
