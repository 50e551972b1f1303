//! Sending all scenarios, and telling what came of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::accepted::Accepted;
use super::compare::{Difference, compare};
use super::record::{self, Record};
use super::scenario::{Scenario, parse};
use super::side::Side;
use super::{glob, kinds};

/// Scenarios that run at the same time.
const AT_ONCE: usize = 6;
const ACCEPTED: &str = include_str!("data/accepted.txt");
/// Compared, but not recorded: documents of a megabyte, and what upstream's server itself answers differently each time.
const UNRECORDED: &str = "large-*|paths/openapi-v2-post|reviews/rules|watches/bookmarks|watches/initial-events*|\
    pods/ephemeral*|pods/delete-*|pods/bound";
/// What is alike for all kinds is recorded for some of them.
const ALIKE: &str = "*.names/*|*.patches/*";
const RECORDED_KINDS: &str =
    "configmaps.*|pods.*|deployments.*|nodes.*|services.*|customresourcedefinitions.*|roles.*|jobs.*|events.core.*";
/// They change what other scenarios meet, and come last.
const DISTURBING: &str = "servicecidrs.*|flowschemas.*|prioritylevelconfigurations.*";

/// All scenarios, those of the files first.
///
/// # Errors
/// When a file is wrong.
pub fn scenarios() -> anyhow::Result<Vec<Scenario>> {
    let files = [
        ("bodies", include_str!("data/scenarios/bodies.txt")),
        ("documents", include_str!("data/scenarios/documents.txt")),
        ("lists", include_str!("data/scenarios/lists.txt")),
        ("reviews", include_str!("data/scenarios/reviews.txt")),
        ("subresources", include_str!("data/scenarios/subresources.txt")),
        ("writes", include_str!("data/scenarios/writes.txt")),
    ];
    let mut all = Vec::new();
    for (name, text) in files {
        all.extend(parse(text).with_context(|| format!("{name}.txt"))?);
    }
    all.extend(kinds::scenarios()?);
    Ok(all)
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Outcome {
    pub requests: usize,
    pub accepted: usize,
    /// By the names of steps.
    pub differences: BTreeMap<String, Vec<Difference>>,
}

/// The task: `--kubeconfig A --peer B [--only PATTERN] [--record FILE] [--places FILE]`.
///
/// # Errors
/// When a server cannot be reached, or answers differ.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut flags: BTreeMap<&str, &str> = BTreeMap::new();
    for pair in args.chunks(2) {
        let [name, value] = pair else { bail!("{} needs a value", pair.concat()) };
        ensure!(
            ["--kubeconfig", "--peer", "--only", "--record", "--against", "--places"].contains(&name.as_str()),
            "unknown flag {name}"
        );
        flags.insert(name, value);
    }
    let path = |name: &str| flags.get(name).map(PathBuf::from);
    let only = flags.get("--only").copied().unwrap_or("*");
    let chosen: Vec<Scenario> = scenarios()?.into_iter().filter(|s| glob::matches(only, &s.name)).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    let chosen = Arc::new(chosen);
    let play = |kubeconfig: PathBuf| runtime.block_on(play(&kubeconfig, chosen.clone()));
    let theirs = match (path("--peer"), path("--against")) {
        (Some(peer), None) => play(peer)?,
        (None, Some(file)) => record::read(&std::fs::read(&file)?)?,
        _ => bail!("--peer KUBECONFIG or --against RECORD"),
    };
    if let Some(file) = path("--record") {
        let kept: Record =
            theirs.iter().filter(|(step, _)| is_recorded(step)).map(|(s, a)| (s.clone(), a.clone())).collect();
        record::write(&file, &kept)?;
        println!("{} answers in {}", kept.len(), file.display());
    }
    let Some(own) = path("--kubeconfig") else { return Ok(()) };
    let accepted = Accepted::parse(ACCEPTED)?;
    let outcome = outcome(&play(own)?, &theirs, &accepted);
    print(&outcome);
    if only == "*" {
        accepted.unused().for_each(|entry| println!("never met: {entry}"));
    }
    if let Some(file) = path("--places") {
        std::fs::write(file, places(&outcome))?;
    }
    ensure!(outcome.differences.is_empty(), "answers differ");
    Ok(())
}

fn is_recorded(step: &str) -> bool {
    !glob::matches(UNRECORDED, step) && (!glob::matches(ALIKE, step) || glob::matches(RECORDED_KINDS, step))
}

/// Plays the scenarios that a record knows, and compares the answers.
///
/// # Errors
/// When the server cannot be reached, or the record knows other steps than there are.
pub fn replay(kubeconfig: &Path, recorded: &[u8]) -> anyhow::Result<Outcome> {
    let theirs = record::read(recorded)?;
    let known = |s: &Scenario| s.steps.iter().any(|step| theirs.contains_key(&format!("{}/{}", s.name, step.name)));
    let chosen: Vec<Scenario> = scenarios()?.into_iter().filter(known).collect();
    let ours = tokio::runtime::Runtime::new()?.block_on(play(kubeconfig, Arc::new(chosen)))?;
    let gone: Vec<&String> = theirs.keys().filter(|step| !ours.contains_key(*step)).collect();
    ensure!(gone.is_empty(), "steps that are recorded but no more: {gone:?}");
    Ok(outcome(&ours, &theirs, &Accepted::parse(ACCEPTED)?))
}

async fn play(kubeconfig: &Path, scenarios: Arc<Vec<Scenario>>) -> anyhow::Result<Record> {
    let side = Arc::new(Side::connect(kubeconfig, &tag()?)?);
    let disturbs = |at: &usize| scenarios.get(*at).is_some_and(|s| glob::matches(DISTURBING, &s.name));
    let (last, first): (Vec<usize>, Vec<usize>) = (0..scenarios.len()).partition(disturbs);
    let mut record = play_some(&side, &scenarios, first).await?;
    record.extend(play_some(&side, &scenarios, last).await?);
    Ok(record)
}

async fn play_some(side: &Arc<Side>, scenarios: &Arc<Vec<Scenario>>, which: Vec<usize>) -> anyhow::Result<Record> {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for at in which {
        let (side, slots, scenarios) = (side.clone(), slots.clone(), scenarios.clone());
        running.spawn(async move {
            let _slot = slots.acquire().await?;
            match scenarios.get(at) {
                Some(scenario) => side.play(scenario).await,
                None => Ok(Vec::new()),
            }
        });
    }
    let mut record = Record::new();
    while let Some(ended) = running.join_next().await {
        record.extend(ended??);
    }
    Ok(record)
}

/// Five letters that change every second.
fn tag() -> anyhow::Result<String> {
    let mut seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let letter = |seconds: &mut u64| {
        let letter = b'a' + u8::try_from(*seconds % 26).unwrap_or_default();
        *seconds /= 26;
        char::from(letter)
    };
    Ok((0..5).map(|_| letter(&mut seconds)).collect())
}

fn outcome(ours: &Record, theirs: &Record, accepted: &Accepted) -> Outcome {
    let mut outcome = Outcome::default();
    for (step, answer) in ours {
        let Some(other) = theirs.get(step) else { continue };
        outcome.requests += 1;
        let (meant, found): (Vec<_>, Vec<_>) =
            compare(answer, other).into_iter().partition(|difference| accepted.covers(step, difference));
        outcome.accepted += meant.len();
        if !found.is_empty() {
            outcome.differences.insert(step.clone(), found);
        }
    }
    outcome
}

/// Longer values are cut.
const SHOWN: usize = 400;
/// More places of a step are only counted.
const PLACES: usize = 12;

fn print(outcome: &Outcome) {
    let cut = |text: &str| text.chars().take(SHOWN).collect::<String>();
    for (step, differences) in &outcome.differences {
        println!("{step}");
        for difference in differences.iter().take(PLACES) {
            println!(
                "  {}\n    ours:   {}\n    theirs: {}",
                difference.path,
                cut(&difference.ours),
                cut(&difference.theirs)
            );
        }
        if differences.len() > PLACES {
            println!("  and {} more", differences.len() - PLACES);
        }
    }
    let found: usize = outcome.differences.values().map(Vec::len).sum();
    println!(
        "{} requests: {} answers differ, in {found} places; {} differences are accepted",
        outcome.requests,
        outcome.differences.len(),
        outcome.accepted
    );
}

/// Where answers differ, a line each.
pub fn places(outcome: &Outcome) -> String {
    let lines =
        outcome.differences.iter().flat_map(|(step, all)| all.iter().map(move |d| format!("{step} {}\n", d.path)));
    lines.collect()
}
