//! Benchmarks: figures of one node, of the store, of memory under load, of extensions, and of what grows over time.
//!
//! Figures are printed, not asserted: machines are noisy. Everything is measured on the release binary through its real
//! interfaces: processes, sockets, kubectl's kubeconfig.

mod account;
mod api;
mod cgroup;
mod cleanup;
mod disk;
mod extension;
mod fan_out;
mod figures;
pub(crate) mod flags;
mod image;
mod interrupt;
mod memory;
mod process;
mod requests;
pub(crate) mod server;
mod soak;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::tools;

/// How long a state may take to come about before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let (what, rest) = args.split_first().map_or(("", args), |(first, rest)| (first.as_str(), rest));
    match what {
        "store" => store(rest),
        "memory" => memory::run(rest),
        "soak" => soak::run(rest),
        "extension" => extension::run(rest),
        "api" => requests::run(rest),
        _ => figures::run(args),
    }
}

/// The embedded store beside a real etcd, on the disk of a directory.
fn store(args: &[String]) -> anyhow::Result<()> {
    let dir = args.first().map_or_else(|| tools::root().join("target"), PathBuf::from);
    let mut command = Command::new("cargo");
    command.current_dir(tools::root()).args(["bench", "-q", "-p", "kedge-kv", "--bench", "store", "--"]).arg(dir);
    ensure!(command.env("KEDGE_TEST_ETCD_DIR", tools::etcd()?).status()?.success(), "the benchmark failed");
    Ok(())
}

fn row(what: &str, figure: impl std::fmt::Display) {
    println!("| {what} | {figure} |");
}

/// The output of a program that must succeed.
fn output(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let out = Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A directory of this process; whoever makes it removes it.
fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("kedge-bench-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// What containerd's own client says about the pods of a node.
fn ctr(socket: &Path, args: &[&str]) -> anyhow::Result<String> {
    let out = Command::new("ctr").arg("-a").arg(socket).args(["-n", "k8s.io"]).args(args).output()?;
    ensure!(out.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
