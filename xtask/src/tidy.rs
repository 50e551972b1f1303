//! Style as a check: layers of crates and of modules, walls, crates of others, file headers, file sizes, bans.

mod dependencies;
mod modules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::tools;

/// Lines a file may have; generated ones and tables are exempt.
const MAX_LINES: usize = 800;
/// Crates that reach the API only through the client.
const BEHIND_CLIENT: [&str; 6] =
    ["kedge-controllers", "kedge-scheduler", "kedge-kubelet", "kedge-proxy", "kedge-cni", "kedge-dns"];
const SERVER_SIDE: [&str; 6] =
    ["kedge-kv", "kedge-storage", "kedge-registry", "kedge-admission", "kedge-auth", "kedge-apiserver"];
/// Crates that carry dynamic objects.
const DYNAMIC: [&str; 6] =
    ["kedge-kv", "kedge-storage", "kedge-patch", "kedge-fields", "kedge-registry", "kedge-apiserver"];
const TYPED: [&str; 2] = ["k8s-openapi", "kedge-types"];
/// What does not stay in the code, and why. Split, so that this file does not find itself.
const BANS: &[(&str, &str, &str)] = &[
    ("todo", "!(", "finish it, or answer with an error that names what is missing"),
    ("unimplemented", "!(", "answer with an error that names what is missing"),
    ("dbg", "!(", "log with tracing"),
    ("FIX", "ME", "fix it, or open an issue"),
    ("#[ign", "ore", "a test that does not run proves nothing"),
];

pub fn run() -> anyhow::Result<()> {
    let mut problems = Vec::new();
    layers(&mut problems)?;
    dependencies::check(&mut problems)?;
    let mut files = Vec::new();
    for file in rust_files()? {
        let text = std::fs::read_to_string(tools::root().join(&file)).with_context(|| file.display().to_string())?;
        check_file(&file, &text, &mut problems);
        files.push((file, text));
    }
    modules::check(&files, &mut problems);
    top_level(&mut problems)?;
    if problems.is_empty() {
        println!("tidy");
        return Ok(());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    bail!("{} problems", problems.len())
}

fn rust_files() -> anyhow::Result<Vec<PathBuf>> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"];
    let out = Command::new("git").current_dir(tools::root()).args(list).output()?;
    let files = String::from_utf8(out.stdout)?;
    Ok(files.lines().map(PathBuf::from).filter(|f| tools::root().join(f).exists()).collect())
}

fn check_file(file: &Path, text: &str, problems: &mut Vec<String>) {
    let generated = file.components().any(|c| c.as_os_str() == "generated");
    if !text.starts_with("//!") {
        problems.push(format!("{}: does not open with a //! line that says what it is", file.display()));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES && !generated {
        problems.push(format!("{}: {lines} lines; split it by what its parts are for", file.display()));
    }
    for (number, line) in text.lines().enumerate() {
        for (head, tail, why) in BANS {
            if line.contains(&format!("{head}{tail}")) {
                problems.push(format!("{}:{}: {head}{tail}: {why}", file.display(), number + 1));
            }
        }
    }
}

/// Checks that dependencies only point down, and the walls.
fn layers(problems: &mut Vec<String>) -> anyhow::Result<()> {
    let out = Command::new("cargo")
        .current_dir(tools::root())
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()?;
    let metadata: Value = serde_json::from_slice(&out.stdout).context("cargo metadata")?;
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    let mut layer: BTreeMap<&str, i64> = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        match package["metadata"]["kedge"]["layer"].as_i64() {
            Some(n) => {
                layer.insert(name, n);
            }
            None => problems.push(format!("{name}: no layer in [package.metadata.kedge]")),
        }
    }
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let dependencies = package["dependencies"].as_array().unwrap_or(&empty);
        let built = dependencies.iter().filter(|d| d["kind"].is_null());
        for dependency in built.filter_map(|d| d["name"].as_str()) {
            check_dependency(name, dependency, &layer, problems);
        }
    }
    Ok(())
}

fn check_dependency(name: &str, dependency: &str, layer: &BTreeMap<&str, i64>, problems: &mut Vec<String>) {
    if let (Some(own), Some(other)) = (layer.get(name), layer.get(dependency))
        && other > own
    {
        problems.push(format!("{name} (layer {own}) depends upward on {dependency} (layer {other})"));
    }
    if BEHIND_CLIENT.contains(&name) && SERVER_SIDE.contains(&dependency) {
        problems.push(format!("{name} reaches the API only through kedge-client, not through {dependency}"));
    }
    if DYNAMIC.contains(&name) && TYPED.contains(&dependency) {
        problems.push(format!("{name} carries dynamic objects and may not know {dependency}"));
    }
    if matches!(dependency, "kedge-server" | "kedge-agent") && name != "kedge" {
        problems.push(format!("only the binary sees {dependency}, not {name}"));
    }
}

/// Checks that the top of the repository is what the map says.
fn top_level(problems: &mut Vec<String>) -> anyhow::Result<()> {
    const KNOWN: [&str; 14] = [
        "Cargo.toml",
        "Cargo.lock",
        "cmd",
        "pkg",
        "manifests",
        "certs",
        "tests",
        "conformance",
        "README.md",
        "docs",
        "xtask",
        "LICENSE",
        "CHANGELOG.md",
        "target",
    ];
    for entry in std::fs::read_dir(tools::root())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !KNOWN.contains(&name.as_str()) {
            problems.push(format!("{name}: not a known entry of the top level"));
        }
    }
    Ok(())
}
