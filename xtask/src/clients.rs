//! Stock clients against a control plane: programs that do what people do with the libraries and tools that they have.
//!
//! Each folder of `tests/clients` has a program `run`, which says in its first lines what it needs, and is given `KUBECONFIG`, `KUBECTL` and
//! `WORK`, a directory that lasts. They are no part of the tests: what they install comes from elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::bench::flags::Flags;
use crate::bench::server::{Scratch, Server};
use crate::tools;

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut flags = Flags::new(args);
    let given: Option<PathBuf> = flags.value("--kubeconfig")?;
    let chosen: Vec<String> =
        flags.value::<String>("--only")?.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
    // A server of one's own is started where no other is given.
    let binary = match given {
        None => Some(flags.binary()?),
        Some(_) => flags.done().map(|()| None)?,
    };
    let known = all()?;
    if let Some(unknown) = chosen.iter().find(|name| !known.contains(name)) {
        bail!("there is no client {unknown:?}: {}", known.join(", "));
    }
    let dir = Scratch::new("clients")?;
    let mut server = match &binary {
        Some(binary) => {
            let mut server = Server::start(binary, dir.path(), &["--disable-agent"])?;
            server.logged("API server ready")?;
            Some(server)
        }
        None => None,
    };
    let kubeconfig = given.or_else(|| server.as_ref().map(Server::kubeconfig)).context("no server")?;
    let mut failed = Vec::new();
    for name in known.iter().filter(|name| chosen.is_empty() || chosen.contains(name)) {
        if let Err(err) = one(name, &kubeconfig) {
            println!("{name}: {err:#}");
            failed.push(name.as_str());
        }
    }
    if let Some(server) = &mut server {
        server.take_down()?;
    }
    ensure!(failed.is_empty(), "these failed: {}", failed.join(", "));
    Ok(())
}

fn place() -> PathBuf {
    tools::root().join("tests/clients")
}

/// The names of all clients.
fn all() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(place())? {
        let entry = entry?;
        if entry.path().join("run").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn one(name: &str, kubeconfig: &Path) -> anyhow::Result<()> {
    let work = tools::root().join("target/clients").join(name);
    std::fs::create_dir_all(&work)?;
    let mut command = Command::new(place().join(name).join("run"));
    let status = command.env("KUBECONFIG", kubeconfig).env("KUBECTL", tools::kubectl()?).env("WORK", work).status()?;
    ensure!(status.success(), "{status}; what it needs is said at the top of tests/clients/{name}/run");
    Ok(())
}
