//! Ctrl-C and a termination end the load, not this process: what was started is taken down first.

use std::future::Future;

use anyhow::{Context as _, bail};
use kedge_base::Shutdown;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// The runtime of the load; from its making on, signals are only noted.
pub struct Interruptible {
    runtime: Runtime,
    interrupted: Shutdown,
}

impl Interruptible {
    pub fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let interrupted = Shutdown::new();
        let _inside = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut signals, flag) = (signal(kind)?, interrupted.clone());
            runtime.spawn(async move {
                signals.recv().await;
                eprintln!("ending; what was started is taken down");
                flag.trigger();
            });
        }
        drop(_inside);
        Ok(Self { runtime, interrupted })
    }

    /// Whether a signal came.
    pub fn interrupted(&self) -> bool {
        self.interrupted.is_requested()
    }

    /// Runs to the end, or until a signal comes.
    pub fn run<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = self.interrupted.requested() => bail!("interrupted"),
            }
        })
    }
}
