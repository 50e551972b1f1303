//! Other people's crates: whence they come, under which licences, and none twice in the program without a reason.
//!
//! What is known against a crate is not looked up here, since that needs the network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::tools;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
const LOCKS: [&str; 3] = ["Cargo.lock", "tests/operator/Cargo.lock", "tests/fuzz/Cargo.lock"];
/// Licences under which the program may be given away with its own.
const LICENCES: [&str; 8] =
    ["Apache-2.0", "MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Unicode-3.0", "Zlib", "BSL-1.0"];
/// Crates of which the program has two versions, and why.
const TWICE: [(&str, &str); 3] = [
    ("base64", "tonic and k8s-openapi are a version behind"),
    ("getrandom", "ring is behind"),
    ("syn", "some derives are a version behind; it is not in the program itself"),
];

pub fn check(problems: &mut Vec<String>) -> anyhow::Result<()> {
    for lock in LOCKS {
        let text = std::fs::read_to_string(tools::root().join(lock)).context(lock)?;
        for source in strange_sources(&text) {
            problems.push(format!("{lock}: {source} is not the registry"));
        }
    }
    let all = tree(&["--workspace", "--edges", "normal,build,dev", "--format", "{p}|{l}"])?;
    let all: BTreeSet<&str> =
        all.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end_matches(" (*)")).collect();
    for line in all {
        let (name, licence) = line.rsplit_once('|').unwrap_or((line, ""));
        if !is_given_away(licence) {
            problems.push(format!("{name}: its licence {licence:?} is none of those that are taken"));
        }
    }
    let program = tree(&["--package", "kedge", "--edges", "normal", "--format", "{p}"])?;
    for (name, versions) in twice(&program) {
        if !TWICE.iter().any(|(known, _)| *known == name) {
            let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
            problems.push(format!("{name}: the program has {versions}; agree on one, or say why not"));
        }
    }
    Ok(())
}

fn tree(args: &[&str]) -> anyhow::Result<String> {
    let args = [&["tree", "--locked", "--prefix", "none"], args].concat();
    let out = Command::new("cargo").current_dir(tools::root()).args(&args).output()?;
    if !out.status.success() {
        bail!("cargo {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// Sources in a lock file that are not the registry.
fn strange_sources(lock: &str) -> BTreeSet<&str> {
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = \"")?.strip_suffix('"'));
    sources.filter(|source| *source != REGISTRY).collect()
}

/// Whether an expression can be met by licences that are taken.
fn is_given_away(expression: &str) -> bool {
    let one = |name: &str| {
        let name = name.trim_matches(|c| " ()".contains(c));
        // An exception only allows more.
        LICENCES.contains(&name.split(" WITH ").next().unwrap_or_default())
    };
    // In the older way `/` means OR.
    let expression = expression.replace('/', " OR ");
    expression.split(" AND ").all(|part| part.split(" OR ").any(one))
}

/// Crates with several versions.
fn twice(tree: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_those_that_may_be_given_away() {
        for taken in [
            "MIT",
            "MIT OR Apache-2.0",
            "GPL-3.0 OR MIT",
            "Apache-2.0 / MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        ] {
            assert!(is_given_away(taken), "{taken}");
        }
        for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "MPL-2.0", "(MIT OR Apache-2.0) AND OpenSSL"] {
            assert!(!is_given_away(refused), "{refused}");
        }
    }

    #[test]
    fn crates_come_from_the_registry_and_once() {
        let lock = format!("source = \"{REGISTRY}\"\nsource = \"git+https://example.com/x#1\"\n");
        assert_eq!(strange_sources(&lock), BTreeSet::from(["git+https://example.com/x#1"]));
        let found = twice("a v1.0.0\nb v1.0.0\na v2.0.0 (proc-macro)\nb v1.0.0 (*)\n");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("a", BTreeSet::from(["v1.0.0", "v2.0.0"]))]);
    }
}
