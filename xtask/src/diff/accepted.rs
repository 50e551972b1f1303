//! Differences that are meant, each with its reason.

use anyhow::{Context as _, ensure};

use super::compare::Difference;
use super::glob;

/// A list of patterns of steps and places.
#[derive(Debug)]
pub struct Accepted(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    step: String,
    path: String,
    used: std::sync::atomic::AtomicBool,
}

impl Accepted {
    /// Reads lines of `STEP PATH WHY`; the first two are patterns with `*` and `|`.
    ///
    /// # Errors
    /// When a line has no reason.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let entries = lines.map(|line| {
            let (step, rest) = line.split_once(' ').with_context(|| format!("no place: {line}"))?;
            let (path, why) = rest.trim_start().split_once(' ').with_context(|| format!("no reason: {line}"))?;
            ensure!(!why.trim().is_empty(), "no reason: {line}");
            Ok(Entry { step: step.to_owned(), path: path.to_owned(), used: false.into() })
        });
        Ok(Self(entries.collect::<anyhow::Result<_>>()?))
    }

    /// Whether it is meant.
    pub fn covers(&self, step: &str, difference: &Difference) -> bool {
        let entry = self.0.iter().find(|e| glob::matches(&e.path, &difference.path) && glob::matches(&e.step, step));
        if let Some(entry) = entry {
            entry.used.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        entry.is_some()
    }

    /// What was never met.
    pub fn unused(&self) -> impl Iterator<Item = String> {
        let unused = |e: &&Entry| !e.used.load(std::sync::atomic::Ordering::Relaxed);
        self.0.iter().filter(unused).map(|e| format!("{} {}", e.step, e.path))
    }
}
