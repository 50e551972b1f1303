//! Asking everything, and comparing what two servers say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use kedge_client::ClusterAccess;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::ask::{Asker, Told};
use super::fixture;
use super::named::{self, Right};
use super::routes::{self, Route};
use super::table::{Cells, Key, Table};
use super::users::{PEOPLE, Who, all};
use crate::diff::glob;

/// How rows may differ from those of a stock server: patterns, and why.
const ACCEPTED: &str = include_str!("data/accepted.txt");
/// Requests of one user at the same time, and of all.
const OF_ONE: usize = 4;
const OF_ALL: usize = 24;

/// What came of asking everything.
#[derive(Debug, Default)]
pub struct Asked {
    pub requests: usize,
    pub table: Table,
    /// The codes of the answers to a cluster administrator, who may do everything, where they do not show that something was done or
    /// that only its object is not there.
    pub unclear: BTreeMap<Key, u16>,
    /// Service accounts that roles named `system:controller:` are bound to, and that nobody asked as.
    pub unknown: Vec<String>,
}

/// The task: `--kubeconfig A [--peer B] [--write FILE] [--expect FILE]`.
///
/// # Errors
/// When a server cannot be reached, or answers differ.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut flags: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for pair in args.chunks(2) {
        let [name, value] = pair else { bail!("{} needs a value", pair.concat()) };
        ensure!(["--kubeconfig", "--peer", "--write", "--expect"].contains(&name.as_str()), "unknown flag {name}");
        flags.insert(name, value.into());
    }
    let own = ask(flags.get("--kubeconfig").context("--kubeconfig FILE")?)?;
    println!("{} requests; {} rows", own.requests, own.table.0.len());
    for (key, code) in &own.unclear {
        println!("{code} to a cluster administrator: {} {}", key.place, key.verb);
    }
    if let Some(file) = flags.get("--write") {
        std::fs::write(file, own.table.text())?;
    }
    let differences = match (flags.get("--peer"), flags.get("--expect")) {
        (Some(peer), None) => beside(&own.table, ask(peer)?.table),
        (None, Some(file)) => own.table.differences(&Table::parse(&std::fs::read_to_string(file)?)?),
        (None, None) => return Ok(()),
        _ => bail!("--peer or --expect, not both"),
    };
    differences.iter().for_each(|line| println!("{line}"));
    ensure!(differences.is_empty(), "{} rows differ", differences.len());
    Ok(())
}

/// What a stock server says differently, but for what is meant to be different.
fn beside(own: &Table, mut peer: Table) -> Vec<String> {
    for (key, cells) in &mut peer.0 {
        // Who shows nothing is somebody there, and has no rights but to see that the server is well.
        let ours = own.0.get(key).and_then(|cells| cells.0.first());
        if let (Some(b'U'), Some(letter)) = (ours, cells.0.first_mut().filter(|letter| **letter == b'F')) {
            *letter = b'U';
        }
    }
    let meant: Vec<&str> = ACCEPTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut differences = own.differences(&peer);
    differences.retain(|line| !meant.iter().any(|pattern| glob::matches(pattern, line)));
    differences
}

/// Makes what is needed, and asks everything of the server of a kubeconfig.
///
/// # Errors
/// When the server cannot be reached, or does not let users be made.
pub fn ask(kubeconfig: &Path) -> anyhow::Result<Asked> {
    tokio::runtime::Runtime::new()?.block_on(ask_all(kubeconfig))
}

async fn ask_all(kubeconfig: &Path) -> anyhow::Result<Asked> {
    let access = ClusterAccess::from_file(kubeconfig)?;
    let admin = Asker::new(&access)?;
    fixture::prepare(&admin).await?;
    let mut askers = Vec::new();
    for who in all() {
        let asker = fixture::asker(&admin, &access, &who).await.with_context(|| who.column)?;
        askers.push((who, asker));
    }
    fixture::settle(&askers).await?;
    let mut routes = routes::all(&admin).await?;
    routes.extend(named::requests()?);
    let (routes, rights) = (Arc::new(routes), Arc::new(named::rights()?));
    let all_slots = Arc::new(Semaphore::new(OF_ALL));
    let mut running = JoinSet::new();
    for (at, (who, asker)) in askers.into_iter().enumerate() {
        let (admin, slots) = (admin.clone(), all_slots.clone());
        let (routes, rights) = (routes.clone(), rights.clone());
        running.spawn(async move {
            let told = ask_as(at, who, (asker, admin), (routes, rights), slots).await.with_context(|| who.column)?;
            anyhow::Ok((at, told))
        });
    }
    let mut columns: BTreeMap<usize, BTreeMap<Key, Told>> = BTreeMap::new();
    while let Some(ended) = running.join_next().await {
        let (at, told) = ended??;
        columns.insert(at, told);
    }
    let mut asked = gather(&columns);
    asked.unknown = unknown(&admin).await?;
    Ok(asked)
}

/// Everything, asked by one user.
async fn ask_as(
    at: usize,
    who: Who,
    (asker, admin): (Asker, Asker),
    (routes, rights): (Arc<Vec<Route>>, Arc<Vec<Right>>),
    slots: Arc<Semaphore>,
) -> anyhow::Result<BTreeMap<Key, Told>> {
    let mut told = BTreeMap::new();
    let mut running: JoinSet<anyhow::Result<(Key, Told)>> = JoinSet::new();
    let person = at < PEOPLE.len();
    for route in routes.iter().filter(|route| person || route.controllers) {
        while running.len() >= OF_ONE {
            if let Some(ended) = running.join_next().await {
                told.extend([ended??]);
            }
        }
        let slot = slots.clone().acquire_owned().await?;
        let (asker, key, request) = (asker.clone(), route.key.clone(), route.request()?);
        running.spawn(async move {
            let _slot = slot;
            Ok((key, asker.ask(request).await?))
        });
    }
    while let Some(ended) = running.join_next().await {
        told.extend([ended??]);
    }
    for right in rights.iter() {
        told.insert(right.key.clone(), right.of(&admin, &who).await?);
    }
    Ok(told)
}

/// Answers by what was asked for.
fn gather(columns: &BTreeMap<usize, BTreeMap<Key, Told>>) -> Asked {
    let mut asked = Asked::default();
    let names = all();
    let keys: Vec<&Key> = columns.values().next().into_iter().flat_map(BTreeMap::keys).collect();
    for key in keys {
        let told: Vec<Told> = columns.values().filter_map(|column| column.get(key).copied()).collect();
        asked.requests += told.len();
        let column = names.iter().position(|who| who.column == "cluster-admin");
        let administrator = column.and_then(|at| told.get(at));
        let clear = |code: u16| matches!(code, 200..=299 | 404 | 405 | 409 | 422);
        if let Some(unclear) = administrator.filter(|told| !clear(told.code)) {
            asked.unclear.insert(key.clone(), unclear.code);
        }
        asked.table.0.insert(key.clone(), Cells(told.iter().map(|told| told.letter).collect()));
    }
    asked
}

/// Accounts of the control plane that are no user of the table.
async fn unknown(admin: &Asker) -> anyhow::Result<Vec<String>> {
    let mut unknown = Vec::new();
    for kind in ["clusterrolebindings", "rolebindings"] {
        let list = admin.json(&format!("/apis/rbac.authorization.k8s.io/v1/{kind}")).await?;
        for binding in list["items"].as_array().into_iter().flatten() {
            let role = binding["roleRef"]["name"].as_str().unwrap_or_default();
            for subject in binding["subjects"].as_array().into_iter().flatten() {
                let (kind, name) = (subject["kind"].as_str(), subject["name"].as_str().unwrap_or_default());
                let account = kind == Some("ServiceAccount") && role.starts_with("system:controller:");
                if account && !all().iter().any(|who| who.user == name) {
                    unknown.push(name.to_owned());
                }
            }
        }
    }
    Ok(unknown)
}
