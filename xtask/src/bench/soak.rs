//! A mixed load for a while, and whether anything grows meanwhile or stays afterwards.

mod bursts;
mod control;
mod gauges;
mod node;
mod trend;
mod workers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use self::gauges::{COLUMNS, Figures, Gauges};
use self::trend::{Series, verdict};
use self::workers::{Tools, Turn, Workers};
use super::flags::Flags;
use super::image;
use super::interrupt::Interruptible;
use super::server::{Scratch, Server};
use crate::tools;

/// How often everything is looked at; rows are printed once a minute.
const EVERY: Duration = Duration::from_secs(15);
const ROW: u32 = 4;
/// How long things may take to come to rest before they are compared.
const REST: Duration = Duration::from_secs(45);
/// What comes first is warming up: so much, or a third of all if that is less.
const WARM: Duration = Duration::from_secs(600);

struct Options {
    binary: PathBuf,
    node: bool,
    time: Duration,
    bursts: bool,
}

impl Options {
    fn parse(args: &[String]) -> anyhow::Result<Self> {
        let mut flags = Flags::new(args);
        let minutes: f64 = flags.value("--minutes")?.context("--minutes N: for how long?")?;
        ensure!((0.1..1e5).contains(&minutes), "--minutes {minutes}");
        let (node, bursts) = (flags.node(), flags.switch("--bursts"));
        let options = Self { node, bursts, time: Duration::from_secs_f64(minutes * 60.0), binary: flags.binary()? };
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
    let dir = Scratch::new("soak")?;
    let mut server = if options.node {
        let server = Server::start_node(&options.binary, dir.path(), None)?;
        for (name, version) in node::IMAGES {
            image::import(&server.runtime_socket()?, dir.path(), name, version, &["/bin/sh", "-c"])?;
        }
        server
    } else {
        let mut server = Server::start(&options.binary, dir.path(), &["--disable-agent"])?;
        server.logged("API server ready")?;
        server
    };
    let soaked = main.run(soak(&options, &server));
    let ended = server.ended()?;
    if soaked.is_err() || ended.is_some() {
        let log = server.log()?;
        let last: Vec<&str> = log.lines().rev().take(20).collect();
        eprintln!("the server's last words:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    said_badly(&server.log()?);
    let taken_down = server.take_down();
    ensure!(ended.is_none(), "the server has ended: {ended:?}");
    soaked.and(taken_down)
}

/// What the server logged as errors, and how often it warned.
fn said_badly(log: &str) {
    let errors: Vec<&str> = log.lines().filter(|l| l.contains(" ERROR ") || l.contains("panicked")).collect();
    println!("\nlogged: {} lines, {} errors", log.lines().count(), errors.len());
    errors.iter().take(10).for_each(|line| println!("  {line}"));
}

async fn soak(options: &Options, server: &Server) -> anyhow::Result<()> {
    let tools = Tools::of(server)?;
    tools.api.create_namespace(control::NAMESPACE).await?;
    if options.node {
        node::prepare(&tools).await?;
    }
    let mut watch = Watch::new(server, tools.clone());
    println!("coming to rest for {REST:?}");
    tokio::time::sleep(REST).await;
    let before = watch.row("before").await;
    let mut turns: Vec<(&'static str, Turn)> = control::TURNS.to_vec();
    if options.node {
        turns.extend(node::TURNS);
    }
    let workers = Workers::start(&tools, &turns)?;
    watch.during(options.time).await;
    let tally = workers.tally.clone();
    println!("ending the load, and coming to rest for {REST:?}");
    workers.stop().await;
    let after = watch.rest("at rest").await?;
    println!("\n| load | done | failed |\n|---|---|---|");
    for (name, count) in tally.counts() {
        println!("| {name} | {} | {} |", count.done, count.failed);
    }
    watch.verdicts(options.time);
    compare("before and after the load", &before, &after);
    if options.bursts {
        bursts::run(&tools, options.node).await?;
        let burst = watch.rest("after bursts").await?;
        compare("before and after the bursts", &after, &burst);
    }
    Ok(())
}

/// Everything that was seen.
struct Watch {
    gauges: Gauges,
    tools: Tools,
    start: Instant,
    series: BTreeMap<String, Series>,
    rows: usize,
}

impl Watch {
    fn new(server: &Server, tools: Tools) -> Self {
        Self { gauges: Gauges::new(server), tools, start: Instant::now(), series: BTreeMap::new(), rows: 0 }
    }

    /// Looks at everything, and prints it.
    async fn row(&mut self, what: &str) -> Figures {
        let figures = self.gauges.look(&self.tools.api).await;
        if self.rows.is_multiple_of(20) {
            println!("\n| minute | {} |\n|---|{}", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
        }
        self.rows += 1;
        let cells = COLUMNS.iter().map(|column| match figures.get(*column) {
            Some(value) if column.ends_with("MiB") => format!("{value:.1}"),
            Some(value) => format!("{value:.0}"),
            None => "–".to_owned(),
        });
        println!("| {what} | {} |", cells.collect::<Vec<_>>().join(" | "));
        figures
    }

    /// Looks at everything while the load goes on.
    async fn during(&mut self, time: Duration) {
        self.start = Instant::now();
        for look in 1.. {
            tokio::time::sleep(EVERY.min(time.saturating_sub(self.start.elapsed()))).await;
            let figures = if look % ROW == 0 {
                self.row(&format!("{:.0}", self.start.elapsed().as_secs_f64() / 60.0)).await
            } else {
                self.gauges.look(&self.tools.api).await
            };
            let at = self.start.elapsed().as_secs_f64();
            for (name, value) in figures {
                self.series.entry(name).or_default().push((at, value));
            }
            if self.start.elapsed() >= time {
                return;
            }
        }
    }

    /// Removes what was left by turns that failed, waits, and looks.
    async fn rest(&mut self, what: &str) -> anyhow::Result<Figures> {
        let soak = format!("/api/v1/namespaces/{}", control::NAMESPACE);
        for namespace in [&soak, "/api/v1/namespaces/default"] {
            self.tools.api.delete(&format!("{namespace}/events")).await?;
        }
        tokio::time::sleep(REST).await;
        Ok(self.row(what).await)
    }

    /// What each figure did under load.
    fn verdicts(&self, time: Duration) {
        let from = WARM.min(time / 3).as_secs_f64();
        println!("\n| under load, from minute {:.0} on | first | last | |\n|---|---|---|---|", from / 60.0);
        for (name, series) in &self.series {
            let seen: Vec<f64> = series.iter().filter(|(at, _)| *at >= from).map(|(_, value)| *value).collect();
            let (Some(first), Some(last)) = (seen.first(), seen.last()) else { continue };
            println!("| {name} | {first:.1} | {last:.1} | {} |", verdict(series, from, least(name)));
        }
    }
}

/// What a figure must change by to count: 1 MiB, or one of what is counted.
fn least(name: &str) -> f64 {
    if name == "CPU %" { 20.0 } else { 1.0 }
}

/// What differs at rest.
fn compare(what: &str, before: &Figures, after: &Figures) {
    println!("\n| {what}, at rest | before | after | more |\n|---|---|---|---|");
    for (name, now) in after {
        let then = before.get(name).copied().unwrap_or_default();
        if (now - then).abs() >= least(name).min(0.5) {
            println!("| {name} | {then:.1} | {now:.1} | {:+.1} |", now - then);
        }
    }
}
