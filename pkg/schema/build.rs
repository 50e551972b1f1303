//! Takes what types and fields mean, in words, from the doc comments of the `k8s-openapi` crate, so that the prose of
//! the API is neither kept here nor written twice. Writes one deflated file for `openapi/descriptions.rs`:
//!
//! ```text
//! "T" definition US text RS, then for each field: json-name US text RS
//! ```
//!
//! sorted by definition; US and RS are the control characters 0x1f and 0x1e.
//! Invariant: a missing source is a warning and an empty file, never a failed build.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const VERSION: &str = "src/v1_36";
const FACTS: [&str; 2] = ["src/generated/facts.txt", "src/table/optional.txt"];
/// Types that the crate does not know: lines of `T definition text`, and of `field text` below.
const WORDS: &str = "src/table/optional_words.txt";
const GENERATED_FROM: &str = "// Generated from definition ";

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    FACTS.iter().chain([&WORDS]).for_each(|file| println!("cargo::rerun-if-changed={file}"));
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptions.bin");
    let text = match collect() {
        Ok(text) => text,
        Err(error) => {
            println!("cargo::warning=no descriptions for kubectl explain: {error}");
            String::new()
        }
    };
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes())?;
    std::fs::write(out, encoder.finish()?)?;
    Ok(())
}

fn collect() -> Result<String> {
    let root = source()?.join(VERSION);
    let mut types = BTreeMap::new();
    visit(&root, &mut types)?;
    // The crate also knows versions that are not served.
    let facts = FACTS.map(std::fs::read_to_string).into_iter().collect::<std::result::Result<String, _>>()?;
    let served: HashSet<&str> = facts.lines().filter_map(|line| line.strip_prefix("T ")?.split(' ').next()).collect();
    types.retain(|name, _| served.contains(name.as_str()));
    own_words(&std::fs::read_to_string(WORDS)?, &mut types);
    if types.is_empty() {
        return Err(format!("{} holds no definitions", root.display()).into());
    }
    Ok(types.into_values().collect())
}

/// Adds the types that are described here.
fn own_words(text: &str, types: &mut BTreeMap<String, String>) {
    let mut current = None;
    for line in text.lines() {
        let (name, words) = match line.strip_prefix("T ").and_then(|rest| rest.split_once(' ')) {
            Some((definition, words)) => {
                current = Some(definition.to_string());
                (format!("T{definition}"), words)
            }
            None => match line.split_once(' ') {
                Some((field, words)) => (field.to_string(), words),
                None => continue,
            },
        };
        if let Some(definition) = &current {
            let entry = types.entry(definition.clone()).or_default();
            put(entry, &name, &mut vec![words.to_string()]);
        }
    }
}

/// Where cargo has put the source of the crate. It tells only when all crates of the workspace are there; where some have not been
/// downloaded, since they are not needed for what is built, it is looked for.
fn source() -> Result<PathBuf> {
    told().or_else(|told| found().map_err(|found| format!("{told}; {found}").into()))
}

/// In cargo's own folder.
fn found() -> Result<PathBuf> {
    let lock = std::fs::read_to_string("../../Cargo.lock")?;
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"k8s-openapi\"");
    let version = lines.find_map(|line| line.strip_prefix("version = ")).ok_or("k8s-openapi is not locked")?;
    let name = format!("k8s-openapi-{}", version.trim_matches('"'));
    let home = std::env::var("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|_| std::env::var("HOME").map(|home| Path::new(&home).join(".cargo")))?;
    let registries = std::fs::read_dir(home.join("registry/src"))?;
    let folders = registries.flatten().map(|registry| registry.path().join(&name));
    folders.into_iter().find(|folder| folder.is_dir()).ok_or_else(|| format!("no {name} in {}", home.display()).into())
}

fn told() -> Result<PathBuf> {
    let output = Command::new(std::env::var("CARGO")?)
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        // What other platforms need has not been downloaded.
        .args(["--filter-platform", &std::env::var("TARGET")?])
        .current_dir(std::env::var("CARGO_MANIFEST_DIR")?)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).lines().collect::<Vec<_>>().join(" ").into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let package =
        packages.iter().find(|package| package["name"] == "k8s-openapi").ok_or("k8s-openapi is no dependency")?;
    let manifest = package["manifest_path"].as_str().ok_or("k8s-openapi has no manifest")?;
    Ok(Path::new(manifest).parent().ok_or("the manifest has no directory")?.to_path_buf())
}

fn visit(directory: &Path, types: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            visit(&path, types)?;
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && let Some((name, entry)) = read(&std::fs::read_to_string(&path)?)
        {
            types.insert(name, entry);
        }
    }
    Ok(())
}

/// One file is one definition.
fn read(text: &str) -> Option<(String, String)> {
    let name = text.lines().next()?.strip_prefix(GENERATED_FROM)?.trim();
    let json_names = json_names(text);
    let mut entry = String::new();
    let mut comment: Vec<String> = Vec::new();
    let mut in_struct = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("///") {
            comment.push(plain(rest.strip_prefix(' ').unwrap_or(rest)));
        } else if line.starts_with("pub struct ") || line.starts_with("pub enum ") {
            put(&mut entry, &format!("T{name}"), &mut comment);
            in_struct = line.starts_with("pub struct ") && line.ends_with('{');
            if !in_struct {
                break;
            }
        } else if in_struct && line == "}" {
            break;
        } else if in_struct && let Some(field) = line.strip_prefix("pub ").and_then(|rest| rest.split(':').next()) {
            if let Some(json) = json_names.get(field.trim_start_matches("r#")) {
                put(&mut entry, json, &mut comment);
            }
            comment.clear();
        }
    }
    Some((name.to_string(), entry))
}

fn put(entry: &mut String, name: &str, comment: &mut Vec<String>) {
    entry.push_str(&format!("{name}\u{1f}{}\u{1e}", comment.join("\n").trim()));
    comment.clear();
}

/// Rust name to JSON name, as the deserializer tells: `"apiVersion" => Field::Key_api_version,`.
fn json_names(text: &str) -> HashMap<&str, &str> {
    let pair = |line: &'_ str| -> Option<(usize, usize)> {
        let at = line.find("\" => Field::Key_")?;
        Some((line.find('"')? + 1, at))
    };
    text.lines()
        .filter_map(|line| {
            let (from, to) = pair(line)?;
            let field = line.get(to + "\" => Field::Key_".len()..)?.trim_end_matches(',');
            Some((field, line.get(from..to)?))
        })
        .collect()
}

/// Undoes the escapes of rustdoc.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\\' && letters.peek().is_some_and(|next| "[]<>*_`#".contains(*next)) {
            continue;
        }
        out.push(letter);
    }
    out
}
