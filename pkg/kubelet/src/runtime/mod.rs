//! What the container runtime knows of one pod: the only truth about what runs, re-read before every decision.

mod counted;
mod health;
pub(crate) mod labels;
mod observe;
mod pleg;
mod problem;

use jiff::Timestamp;

pub(crate) use counted::Counted;
pub(crate) use health::{Health, RuntimeHealth};
pub(crate) use observe::{list_pod, observe};
pub(crate) use pleg::Pleg;
pub use problem::RuntimeProblem;

/// A container's state in the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

impl State {
    /// The word in messages.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running => "running",
            State::Exited => "exited",
            State::Unknown => "unknown",
        }
    }
}

/// One attempt of one container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerRun {
    pub(crate) id: String,
    pub(crate) sandbox_id: String,
    pub(crate) name: String,
    /// The runtime's word for itself, such as `containerd`: the scheme of container ids in the API.
    pub(crate) runtime: String,
    pub(crate) state: State,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) image: String,
    pub(crate) image_ref: String,
    /// Of the container spec this attempt was made from.
    pub(crate) hash: u64,
    pub(crate) restart_count: i32,
    pub(crate) stop_signal: Option<String>,
    /// uid, gid and groups of the first process, where the runtime tells them.
    pub(crate) user: Option<(i64, i64, Vec<i64>)>,
}

impl ContainerRun {
    /// `containerd://<id>`.
    pub(crate) fn api_id(&self) -> String {
        format!("{}://{}", self.runtime, self.id)
    }
}

/// One sandbox of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    pub(crate) created_at: i64,
    /// Whether it lives in the node's network namespace.
    pub(crate) host_network: bool,
    /// `None` when the runtime reports no network at all.
    pub(crate) ips: Option<Vec<String>>,
}

/// Everything the runtime has of one pod; sandboxes and containers are sorted newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodRuntime {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<ContainerRun>,
}

impl PodRuntime {
    /// The latest attempt of a container.
    pub(crate) fn latest(&self, name: &str) -> Option<&ContainerRun> {
        self.containers.iter().find(|c| c.name == name)
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &ContainerRun> {
        self.containers.iter().filter(|c| c.state == State::Running)
    }

    /// The addresses of the newest sandbox while it is ready.
    pub(crate) fn ips(&self) -> Vec<String> {
        match self.sandboxes.first() {
            Some(sandbox) if sandbox.ready => sandbox.ips.clone().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The containers of the newest sandbox while it is ready.
    pub(crate) fn active_containers(&self) -> impl Iterator<Item = &ContainerRun> {
        let active = self.sandboxes.first().filter(|s| s.ready).map(|s| s.id.as_str());
        self.containers.iter().filter(move |c| active == Some(c.sandbox_id.as_str()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
}
