//! Fuzzing: the targets of `tests/fuzz`, one after another, each for a while.
//!
//! They are built as cargo-fuzz builds them, which is not needed for it; the layout is its own, so that it can be used as well. What was found
//! worth keeping stays in `target/fuzz/corpus`, findings in `target/fuzz/artifacts`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::tools;

/// Seconds for each target, when nobody says.
const SECONDS: u64 = 300;
/// Seconds that one input may take, and MiB that all may.
const LIMITS: [&str; 2] = ["-timeout=5", "-rss_limit_mb=1024"];
/// The stack of the threads that serve requests, in KiB: what goes deeper would end the server.
const STACK: u64 = 2_048;
/// What cargo-fuzz tells the compiler, beside the sanitizer.
const INSTRUMENTED: [&str; 8] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

/// What was asked for.
struct Asked {
    targets: Vec<String>,
    seconds: u64,
    /// The product has no unsafe code in what is fuzzed: by default only what panics, hangs, grows or is wrong is looked for, which is
    /// several times as fast.
    addresses: bool,
}

impl Asked {
    fn read(args: &[String], known: &[String]) -> anyhow::Result<Self> {
        let mut asked = Self { targets: Vec::new(), seconds: SECONDS, addresses: false };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seconds" => {
                    let seconds = args.next().context("--seconds needs a number")?;
                    asked.seconds = seconds.parse().with_context(|| format!("--seconds {seconds}"))?;
                }
                "--addresses" => asked.addresses = true,
                name if known.iter().any(|known| known == name) => asked.targets.push(name.to_owned()),
                other => bail!("{other:?} is no target; there are: {}", known.join(", ")),
            }
        }
        if asked.targets.is_empty() {
            asked.targets = known.to_vec();
        }
        Ok(asked)
    }
}

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let asked = Asked::read(args, &targets()?)?;
    let host = host()?;
    build(&asked, &host)?;
    let mut findings = Vec::new();
    for target in &asked.targets {
        let program = dir().join(&host).join("release").join(target);
        if let Some(finding) = fuzz(&program, target, asked.seconds)? {
            println!("{target}: {finding}");
            findings.push(finding);
        }
    }
    ensure!(findings.is_empty(), "{} of {} targets have findings", findings.len(), asked.targets.len());
    Ok(())
}

fn dir() -> PathBuf {
    tools::root().join("target/fuzz")
}

/// The programs in `tests/fuzz/targets`.
fn targets() -> anyhow::Result<Vec<String>> {
    let dir = tools::root().join("tests/fuzz/targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// What the nightly compiler builds for. There has to be one, since others take no unstable options.
fn host() -> anyhow::Result<String> {
    let out = Command::new("rustup").args(["run", "nightly", "rustc", "-vV"]).output();
    let out = out.ok().filter(|out| out.status.success());
    let out = out.context("fuzzing needs a nightly compiler: rustup toolchain install nightly --profile minimal")?;
    let text = String::from_utf8(out.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
    Ok(host.to_owned())
}

fn build(asked: &Asked, host: &str) -> anyhow::Result<()> {
    let mut flags = INSTRUMENTED.join(" ");
    if asked.addresses {
        flags.push_str(" -Zsanitizer=address");
    }
    let mut command = Command::new("rustup");
    command.current_dir(tools::root()).env("RUSTFLAGS", flags);
    command.args(["run", "nightly", "cargo", "build", "--release", "--locked", "--target", host]);
    command.args(["--manifest-path", "tests/fuzz/Cargo.toml", "--target-dir"]).arg(dir());
    for target in &asked.targets {
        command.args(["--bin", target]);
    }
    ensure!(command.status()?.success(), "the targets do not build; libFuzzer needs a C++ compiler beside Rust");
    Ok(())
}

/// Runs a target; gives what it has found, in words.
fn fuzz(program: &Path, target: &str, seconds: u64) -> anyhow::Result<Option<String>> {
    let (corpus, artifacts) = (dir().join("corpus").join(target), dir().join("artifacts").join(target));
    std::fs::create_dir_all(&artifacts)?;
    let seeded = Command::new(program).env("KEDGE_FUZZ_SEEDS", &corpus).status()?;
    ensure!(seeded.success(), "{target} does not write its seeds");
    let log = artifacts.join("log");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -s {STACK} && exec \"$0\" \"$@\"")]).arg(program).args(LIMITS);
    command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus);
    let file = std::fs::File::create(&log)?;
    let status = command.stdout(file.try_clone()?).stderr(file).status()?;
    let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let stat = |name: &str| {
        let line = said.lines().rev().find_map(|line| line.strip_prefix(&format!("stat::{name}:")));
        line.map_or("?", str::trim).to_owned()
    };
    println!("{target}: {} inputs, {} MiB at most", stat("number_of_executed_units"), stat("peak_rss_mb"));
    if status.success() {
        return Ok(None);
    }
    let input = said.lines().rev().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
    let why = said.lines().find(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"));
    let again = input.map_or(String::new(), |input| {
        format!("\n  input: {input}\n  again: sh -c 'ulimit -s {STACK}; {} {input}'", program.display())
    });
    Ok(Some(format!("{}{again}\n  log: {}", why.unwrap_or("it has ended by itself"), log.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A target that is declared in one place and forgotten in another would never run, or begin with nothing.
    #[test]
    fn targets_are_declared_wherever_they_have_to_be() {
        let read = |path: &str| std::fs::read_to_string(tools::root().join("tests/fuzz").join(path)).unwrap();
        let (manifest, library) = (read("Cargo.toml"), read("src/lib.rs"));
        let names = targets().unwrap();
        assert!(names.len() > 20, "{names:?}");
        for name in &names {
            assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name} is no program");
            assert!(library.contains(&format!("name: \"{name}\"")), "{name} is not in the library's list");
            assert!(read(&format!("targets/{name}.rs")).contains(&format!("begin(\"{name}\")")), "{name} has no seeds");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), names.len());
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        let known = ["cel".to_owned(), "log".to_owned()];
        let read = |args: &[&str]| Asked::read(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), &known);
        let asked = read(&["log", "--seconds", "5"]).unwrap();
        assert_eq!((asked.targets, asked.seconds, asked.addresses), (vec!["log".to_owned()], 5, false));
        let all = read(&["--addresses"]).unwrap();
        assert_eq!((all.targets.len(), all.seconds, all.addresses), (2, SECONDS, true));
        for wrong in [&["what"][..], &["--seconds"], &["--seconds", "x"]] {
            assert!(read(wrong).is_err());
        }
    }
}
