//! The workers of a load: each does one thing after the other, rests as long as that took, and counts.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kedge_base::Shutdown;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::bench::api::Api;
use crate::bench::server::Server;

/// The shortest rest between two things.
const REST: Duration = Duration::from_millis(500);
/// How many failures of a worker are said.
const SAID: u64 = 3;
/// How long one thing may take.
const LONGEST: Duration = Duration::from_secs(180);

/// What workers need: the API, and kubectl.
#[derive(Clone)]
pub struct Tools {
    pub api: Api,
    kubectl: Arc<(std::path::PathBuf, std::path::PathBuf, std::path::PathBuf)>,
}

impl Tools {
    pub fn of(server: &Server) -> anyhow::Result<Self> {
        let home = server.kubeconfig().parent().context("the kubeconfig is nowhere")?.to_owned();
        let kubectl = Arc::new((crate::tools::kubectl()?, server.kubeconfig(), home));
        Ok(Self { api: Api::connect(&server.kubeconfig())?, kubectl })
    }

    /// Another client, with a connection of its own.
    pub fn connect(&self) -> anyhow::Result<Api> {
        Api::connect(&self.kubectl.1)
    }

    fn command(&self, args: &[&str]) -> Command {
        let (program, kubeconfig, home) = &*self.kubectl;
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(kubeconfig).args(args).env("HOME", home);
        // What is dropped with its worker must not go on.
        command.kill_on_drop(true).process_group(0).stdin(Stdio::null());
        command
    }

    /// Runs kubectl to its end, which must be a good one.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let out = self.command(args).output().await?;
        ensure!(out.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Starts kubectl with open ends.
    pub fn start(&self, args: &[&str]) -> anyhow::Result<Child> {
        let mut command = self.command(args);
        Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
    }

    /// Starts kubectl, and kills it without a word after a while.
    pub async fn cut_off(&self, args: &[&str], after: Duration) -> anyhow::Result<()> {
        let mut child = self.start(args)?;
        // Read, as a person does; a full pipe would stop it.
        let output = child.stdout.take();
        let read = async move {
            if let Some(mut output) = output {
                // It ends when the process does.
                let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = read => {}
            () = tokio::time::sleep(after) => {}
        }
        child.kill().await?;
        Ok(())
    }
}

/// How often something was done, and failed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Count {
    pub done: u64,
    pub failed: u64,
}

/// The counts of all workers.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<&'static str, Count>>>);

impl Tally {
    fn note(&self, name: &'static str, outcome: &anyhow::Result<()>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name).or_default();
        count.done += 1;
        if let Err(err) = outcome {
            count.failed += 1;
            if count.failed <= SAID {
                eprintln!("{name}: {err:#}");
            }
        }
    }

    pub fn counts(&self) -> BTreeMap<&'static str, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One turn of a worker: the tools, and which turn it is.
pub type Turn = fn(Tools, u64) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Workers that run until they are told to stop.
pub struct Workers {
    running: JoinSet<()>,
    stop: Shutdown,
    pub tally: Tally,
}

impl Workers {
    pub fn start(tools: &Tools, turns: &[(&'static str, Turn)]) -> anyhow::Result<Self> {
        let (mut running, stop, tally) = (JoinSet::new(), Shutdown::new(), Tally::default());
        for (name, turn) in turns {
            let tools = Tools { api: tools.connect()?, kubectl: tools.kubectl.clone() };
            running.spawn(work(name, *turn, tools, stop.clone(), tally.clone()));
        }
        Ok(Self { running, stop, tally })
    }

    /// Lets every worker end its turn.
    pub async fn stop(mut self) {
        self.stop.trigger();
        while self.running.join_next().await.is_some() {}
    }
}

async fn work(name: &'static str, turn: Turn, tools: Tools, stop: Shutdown, tally: Tally) {
    for i in 0.. {
        let start = Instant::now();
        let outcome = match tokio::time::timeout(LONGEST, turn(tools.clone(), i)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("turn {i} took longer than {LONGEST:?}")),
        };
        tally.note(name, &outcome);
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(start.elapsed().max(REST)) => {}
        }
    }
}
