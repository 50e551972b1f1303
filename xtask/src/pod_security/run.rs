//! Trying the pods at two servers, and what they say differently.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use kedge_client::ClusterAccess;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::pods::{self, Numbers};
use crate::authorization::Asker;

const LEVELS: [&str; 2] = ["baseline", "restricted"];
/// All versions in which a check came or changed, and the ones before them.
const VERSIONS: [&str; 24] = [
    "v1.0", "v1.7", "v1.8", "v1.18", "v1.19", "v1.21", "v1.22", "v1.23", "v1.24", "v1.25", "v1.26", "v1.27", "v1.28",
    "v1.29", "v1.30", "v1.31", "v1.32", "v1.33", "v1.34", "v1.35", "v1.36", "v1.37", "v1.99", "latest",
];
const AT_ONCE: usize = 16;
const SEED: u64 = 1;
const PODS: usize = 200;
/// What comes before the reasons.
const WOULD: &str = "would violate PodSecurity \"";

/// What was said of each pod: by level, from which version on which text, none where it passes. Nothing of pods that are not valid.
type Verdicts = Vec<Option<Value>>;

/// The task: `--kubeconfig A --peer B [--seed N] [--record FILE]`.
///
/// # Errors
/// When a server cannot be reached, or verdicts differ.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut flags: BTreeMap<&str, &str> = BTreeMap::new();
    for pair in args.chunks(2) {
        let [name, value] = pair else { bail!("{} needs a value", pair.concat()) };
        ensure!(["--kubeconfig", "--peer", "--seed", "--record"].contains(&name.as_str()), "unknown flag {name}");
        flags.insert(name, value);
    }
    let file = |name: &str| flags.get(name).map(PathBuf::from).context(format!("{name} FILE"));
    let seed = flags.get("--seed").map_or(Ok(SEED), |text| text.parse())?;
    let mut numbers = Numbers(seed);
    // Some are not valid, and count for nothing.
    let made = (0..PODS * 2).map(|_| pods::pod(&mut numbers)).collect::<anyhow::Result<Vec<Value>>>()?;
    let made = Arc::new(made);
    let runtime = tokio::runtime::Runtime::new()?;
    let theirs = runtime.block_on(tried(&file("--peer")?, made.clone()))?;
    let ours = runtime.block_on(tried(&file("--kubeconfig")?, made.clone()))?;
    if let Some(record) = flags.get("--record") {
        write(Path::new(record), &made, &theirs)?;
    }
    let mut differences = 0;
    for (pod, (own, other)) in std::iter::zip(&*made, std::iter::zip(&ours, &theirs)).filter(|(_, (a, b))| a != b) {
        let text = |said: &Option<Value>| said.as_ref().map_or("not valid".to_owned(), Value::to_string);
        println!("{pod}\n  ours:   {}\n  theirs: {}", text(own), text(other));
        differences += 1;
    }
    println!("seed {seed}: {} pods, of which {} are valid", made.len(), theirs.iter().flatten().count());
    ensure!(differences == 0, "{differences} verdicts differ");
    Ok(())
}

/// The first so many pods that are valid, with what the peer said of them, a line each.
fn write(path: &Path, made: &[Value], said: &Verdicts) -> anyhow::Result<()> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
    let valid = std::iter::zip(made, said).filter_map(|(pod, said)| Some((pod, said.as_ref()?)));
    for (pod, said) in valid.take(PODS) {
        writeln!(out, "{}", json!({"pod": pod, "said": said}))?;
    }
    std::fs::write(path, out.finish()?).with_context(|| path.display().to_string())
}

async fn tried(kubeconfig: &Path, pods: Arc<Vec<Value>>) -> anyhow::Result<Verdicts> {
    let admin = Asker::new(&ClusterAccess::from_file(kubeconfig)?)?;
    for level in LEVELS {
        for version in VERSIONS {
            let name = namespace(level, version);
            let labels =
                json!({"pod-security.kubernetes.io/warn": level, "pod-security.kubernetes.io/warn-version": version});
            let path = "/api/v1/namespaces";
            admin.make("POST", path, &json!({"metadata": {"name": name, "labels": labels}})).await?;
            let accounts = format!("{path}/{name}/serviceaccounts");
            admin.make("POST", &accounts, &json!({"metadata": {"name": "default"}})).await?;
        }
    }
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for at in 0..pods.len() {
        let (admin, pods, slot) = (admin.clone(), pods.clone(), slots.clone().acquire_owned().await?);
        running.spawn(async move {
            let _slot = slot;
            anyhow::Ok((at, verdict(&admin, &pods[at]).await?))
        });
    }
    let mut verdicts = vec![None; pods.len()];
    while let Some(ended) = running.join_next().await {
        let (at, verdict) = ended??;
        verdicts[at] = verdict;
    }
    Ok(verdicts)
}

fn namespace(level: &str, version: &str) -> String {
    format!("standard-{level}-{}", version.replace('.', "-"))
}

async fn verdict(admin: &Asker, pod: &Value) -> anyhow::Result<Option<Value>> {
    let mut all = serde_json::Map::new();
    for level in LEVELS {
        let mut changes: Vec<Value> = Vec::new();
        let mut last = String::new();
        for version in VERSIONS {
            let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", namespace(level, version));
            let Some(warnings) = admin.warned(&path, pod).await? else { return Ok(None) };
            // The standard is named before its reasons.
            let named = format!("{WOULD}{level}:{version}\": ");
            let said = warnings.iter().find(|warning| warning.starts_with(WOULD));
            let text = match said {
                None => String::new(),
                Some(said) => said.strip_prefix(&named).with_context(|| format!("{named}: {said}"))?.to_owned(),
            };
            if changes.is_empty() || text != last {
                changes.push(json!([version, text]));
                last = text;
            }
        }
        all.insert(level.to_owned(), changes.into());
    }
    Ok(Some(all.into()))
}
