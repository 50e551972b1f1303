//! What a load leaves in memory: before, the peak, directly after, and after it has been left alone.
//!
//! Each scenario has a server of its own, so that none inherits what another left.

mod overload;
mod scenarios;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use self::scenarios::{Load, SCENARIOS, Scenario};
use super::account::Account;
use super::api::{self, Api};
use super::cgroup::Cgroup;
use super::flags::Flags;
use super::image;
use super::interrupt::Interruptible;
use super::process::{Sampler, Usage, mib};
use super::server::{Scratch, Server};
use crate::tools;

const CLIENTS: usize = 16;
/// How long a server that has just started is left alone before it is looked at.
const WARM: Duration = Duration::from_secs(5);
/// How often it is looked at while it is left alone.
const EVERY: Duration = Duration::from_secs(30);

struct Options {
    binary: PathBuf,
    node: bool,
    settle: Duration,
    /// MiB of the group that the server and its containerd are in.
    cgroup: Option<u64>,
    only: Vec<String>,
    load: Load,
}

impl Options {
    fn parse(args: &[String]) -> anyhow::Result<Self> {
        let mut flags = Flags::new(args);
        let only = flags.value::<String>("--only")?.unwrap_or_default();
        let only: Vec<String> = only.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let names: Vec<&str> = SCENARIOS.iter().map(|s| s.name).collect();
        if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("--only {unknown}: there are {}", names.join(", "));
        }
        let node = flags.node();
        let options = Self {
            node,
            only,
            settle: Duration::from_secs(flags.value("--settle")?.unwrap_or(300)),
            cgroup: flags.value("--cgroup")?,
            load: Load {
                kubeconfig: PathBuf::new(),
                events: flags.value("--events")?.unwrap_or(50_000),
                pods: flags.value("--pods")?.unwrap_or(15_000),
                node,
            },
            binary: flags.binary()?,
        };
        Ok(options)
    }
}

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let options = Options::parse(args)?;
    if options.node {
        tools::install_tests()?;
    } else {
        println!("not root, or --no-node: the control plane alone");
    }
    let main = Interruptible::new()?;
    let mut failed = Vec::new();
    for scenario in SCENARIOS {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == scenario.name) {
            continue;
        }
        if let Err(err) = measure(&options, &main, scenario) {
            eprintln!("{}: {err:#}", scenario.name);
            failed.push(scenario.name);
        }
        ensure!(!main.interrupted(), "interrupted");
    }
    ensure!(failed.is_empty(), "did not end well: {}", failed.join(", "));
    Ok(())
}

/// One scenario on a server of its own.
fn measure(options: &Options, main: &Interruptible, scenario: &Scenario) -> anyhow::Result<()> {
    // What comes first goes last.
    let dir = Scratch::new(&format!("memory-{}", scenario.name))?;
    let group = options.cgroup.map(Cgroup::create).transpose()?;
    let mut server = if options.node {
        let server = Server::start_node(&options.binary, dir.path(), group.as_ref())?;
        image::import(&server.runtime_socket()?, dir.path(), scenarios::IMAGE, "1", &["/bin/sh", "-c"])?;
        server
    } else {
        let flags = ["--disable-agent"];
        let mut server = Server::start_within(&options.binary, dir.path(), &flags, group.as_ref())?;
        server.logged("API server ready")?;
        server
    };
    let measured = main.run(phases(options, &server, scenario));
    let survived = survived(&mut server, group.as_ref());
    if measured.is_err() || survived.is_err() {
        let log = server.log()?;
        let last: Vec<&str> = log.lines().rev().take(20).collect();
        eprintln!("the server's last words:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    let taken_down = server.take_down();
    survived.and(measured).and(taken_down)
}

/// Before, the load, and the rest after it.
async fn phases(options: &Options, server: &Server, scenario: &Scenario) -> anyhow::Result<()> {
    tokio::time::sleep(WARM).await;
    let mut table = Table::start(server, scenario.what);
    table.row("before", server.usage()?);
    let clients = api::connect(&server.kubeconfig(), CLIENTS)?;
    // Each step is told when it ends, so that the peak of each can be seen.
    let load = Load { kubeconfig: server.kubeconfig(), ..options.load.clone() };
    (scenario.run)(&clients, &load, &mut table).await?;
    table.row("directly after", server.usage()?);
    account(&clients[0], "directly after").await?;
    // Connections that are kept would keep their buffers.
    drop(clients);
    table.header(scenario.what);
    let end = Instant::now() + options.settle;
    while Instant::now() < end {
        tokio::time::sleep(EVERY.min(end - Instant::now())).await;
        table.row("left alone", server.usage()?);
    }
    let last = table.total;
    println!("| peak of all, each figure by itself | | {} |", figures(last));
    account(&Api::connect(&server.kubeconfig())?, "at the end").await
}

async fn account(api: &Api, when: &str) -> anyhow::Result<()> {
    match Account::ask(api).await? {
        Some(account) => account.print(when),
        None => println!("\n/metrics is not served: no account of the server's own"),
    }
    Ok(())
}

/// Whether the server is still there, and what the kernel says of its group.
fn survived(server: &mut Server, group: Option<&Cgroup>) -> anyhow::Result<()> {
    let ended = server.ended()?;
    if let Some(group) = group {
        let kills = group.kills()?;
        let peak = group.peak().map(|kib| format!("; the group's peak, page cache included: {} MiB", mib(kib)));
        println!("out-of-memory kills in the group: {kills}{}", peak.unwrap_or_default());
        ensure!(kills == 0 && ended.is_none(), "did not survive: {kills} kills; the server: {ended:?}");
        println!("survived");
    }
    ensure!(ended.is_none(), "the server has ended: {ended:?}");
    Ok(())
}

/// Rows of one process, with the peak between them.
pub struct Table {
    pid: u32,
    start: Instant,
    sampler: Sampler,
    total: Usage,
}

impl Table {
    fn start(server: &Server, what: &str) -> Self {
        let table = Self {
            pid: server.pid(),
            start: Instant::now(),
            sampler: Sampler::start(server.pid()),
            total: Usage::default(),
        };
        table.header(what);
        table
    }

    fn header(&self, what: &str) {
        println!("\n| {what} | s | RSS MiB | anonymous MiB | threads | fds | peak RSS | peak anonymous |");
        println!("|---|---|---|---|---|---|---|---|");
    }

    /// What it uses now, and the peaks since the last row.
    fn row(&mut self, when: &str, now: Usage) {
        let peak = self.sampler.take_peak().peak(now);
        self.total = self.total.peak(peak);
        let seconds = self.start.elapsed().as_secs();
        println!("| {when} | {seconds} | {} | {} | {} |", figures(now), mib(peak.rss), mib(peak.anonymous));
    }

    /// A step of the load has ended.
    pub fn step(&mut self, what: &str) -> anyhow::Result<()> {
        let now = Usage::of(self.pid).ok_or_else(|| anyhow::anyhow!("the server has ended"))?;
        self.row(what, now);
        Ok(())
    }
}

fn figures(usage: Usage) -> String {
    format!("{} | {} | {} | {}", mib(usage.rss), mib(usage.anonymous), usage.threads, usage.fds)
}
