//! What all parts of one kubelet share. It is put together once, at start, and holds no decision.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kedge_base::SharedClock;
use kedge_client::{EventRecorder, EventType, Informer, WorkQueue};
use kedge_cri::Runtime;
use kedge_meta::{ObjectKey, ObjectReference};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::backoff::KeyedBackoff;
use crate::cgroups::Cgroups;
use crate::config::KubeletConfig;
use crate::eviction::Pressure;
use crate::files::Files;
use crate::generate::{Machine, SlimService};
use crate::metrics::Metrics;
use crate::objects::{ConfigMap, Objects, Secret};
use crate::pod::PodExt;
use crate::pods::Pods;
use crate::probes::Probes;
use crate::runtime::{Pleg, PodRuntime, RuntimeHealth, observe};
use crate::status::StatusManager;
use crate::volumes::{Directories, Refreshing, Volumes};
use crate::worker::{ImageGc, Images, Undisturbed};

/// One kubelet.
pub(crate) struct Kubelet {
    pub(crate) config: KubeletConfig,
    pub(crate) clock: SharedClock,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) health: Arc<RuntimeHealth>,
    pub(crate) pleg: Arc<Pleg>,
    pub(crate) recorder: EventRecorder,
    pub(crate) metrics: Arc<Metrics>,
    /// The pods that are bound to this node, and those of its files.
    pub(crate) pods: Pods,
    /// Static pods whose images in the API are to be looked at.
    pub(crate) mirrors: WorkQueue<ObjectKey>,
    pub(crate) services: Informer<SlimService>,
    pub(crate) statuses: Arc<StatusManager>,
    pub(crate) config_maps: Arc<Objects<ConfigMap>>,
    pub(crate) secrets: Arc<Objects<Secret>>,
    pub(crate) files: Files,
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) refreshing: Arc<Refreshing>,
    pub(crate) directories: Directories,
    /// `None` where groups of pods cannot be made: then containers are in the runtime's own place.
    pub(crate) cgroups: Option<Arc<dyn Cgroups>>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) probes: Arc<Probes>,
    pub(crate) images: Images,
    /// Of containers that end again and again.
    pub(crate) restarts: KeyedBackoff,
    pub(crate) wakeups: Arc<Wakeups>,
    pub(crate) calls: Undisturbed,
    /// What the node is short of.
    pub(crate) pressure: watch::Sender<Pressure>,
    pub(crate) image_gc: ImageGc,
}

impl Kubelet {
    pub(crate) fn event(&self, object: &ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        self.recorder.event(object, kind, reason, message);
    }

    pub(crate) fn pod_warning(&self, pod: &Pod, reason: &str, message: impl Into<String>) {
        self.event(&pod.reference(), EventType::Warning, reason, message);
    }

    /// Has a pod's volumes brought up to date, and tells of what fails.
    pub(crate) fn refresh_volumes(&self, pod: &Arc<Pod>) {
        let recorder = self.recorder.clone();
        self.refreshing.wake(pod, move |pod, errors| {
            for error in errors {
                recorder.event(&pod.reference(), EventType::Warning, error.reason(), error.to_string());
            }
        });
    }

    /// What the runtime has of a pod now.
    ///
    /// # Errors
    /// The runtime's.
    pub(crate) async fn observe(&self, uid: &str) -> Result<PodRuntime, kedge_cri::Error> {
        observe(self.runtime.as_ref(), &self.health.name(), uid, &self.files).await
    }

    /// The node's addresses as text.
    pub(crate) fn host_ips(&self) -> Vec<String> {
        self.config.node_ips.iter().take(2).map(ToString::to_string).collect()
    }
}

/// Wakes the workers of pods; whoever notices a change only knows the pod's uid.
#[derive(Default)]
pub(crate) struct Wakeups {
    sleeping: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Wakeups {
    pub(crate) fn add(&self, uid: &str, wake: Arc<Notify>) {
        self.sleeping.lock().insert(uid.to_string(), wake);
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.sleeping.lock().remove(uid);
    }

    pub(crate) fn wake(&self, uid: &str) {
        if let Some(wake) = self.sleeping.lock().get(uid) {
            wake.notify_one();
        }
    }

    pub(crate) fn wake_all(&self) {
        self.sleeping.lock().values().for_each(|wake| wake.notify_one());
    }
}
