//! The flags of a benchmark: `--switch` and `--name VALUE`.

use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::tools;

/// Flags that nobody has asked for yet.
pub struct Flags(Vec<String>);

impl Flags {
    pub fn new(args: &[String]) -> Self {
        Self(args.to_vec())
    }

    /// Whether a switch was given.
    pub fn switch(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|arg| arg != name);
        self.0.len() < before
    }

    /// The value of a flag; its last one when it was given more than once.
    pub fn value<T: FromStr>(&mut self, name: &str) -> anyhow::Result<Option<T>>
    where
        T::Err: std::fmt::Display,
    {
        let mut found = None;
        while let Some(at) = self.0.iter().position(|arg| arg == name) {
            let mut taken = self.0.drain(at..(at + 2).min(self.0.len()));
            let text = taken.nth(1).with_context(|| format!("{name} needs a value"))?;
            found = Some(text.parse().map_err(|err| anyhow!("{name} {text}: {err}"))?);
        }
        Ok(found)
    }

    /// The binary to measure: the one that `--binary` names, or this workspace's, built now unless `--no-build` is given. All other
    /// flags have been asked for: a wrong one is an error before anything is built.
    pub fn binary(mut self) -> anyhow::Result<PathBuf> {
        let (no_build, given) = (self.switch("--no-build"), self.value::<PathBuf>("--binary")?);
        self.done()?;
        if let Some(path) = given {
            ensure!(path.is_file(), "{} is no file", path.display());
            return Ok(std::fs::canonicalize(path)?);
        }
        let binary = tools::root().join("target/release/kedge");
        if no_build {
            ensure!(binary.is_file(), "{} has not been built", binary.display());
            return Ok(binary);
        }
        let build =
            Command::new("cargo").current_dir(tools::root()).args(["build", "--release", "-p", "kedge"]).status()?;
        ensure!(build.success(), "the build failed");
        Ok(binary)
    }

    /// Whether there can be a node, and `--no-node` was not given.
    pub fn node(&mut self) -> bool {
        !self.switch("--no-node") && tools::is_root()
    }

    /// All flags have been asked for.
    pub fn done(self) -> anyhow::Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(other) => bail!("unknown flag {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn flags(line: &str) -> Flags {
        Flags(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn switches_and_values_in_any_order_and_nothing_else() {
        let mut all = flags("--events 5 --no-node --only a --only b");
        assert!(all.switch("--no-node") && !all.switch("--no-build"));
        assert_eq!(all.value::<usize>("--events").unwrap(), Some(5));
        assert_eq!(all.value::<String>("--only").unwrap().as_deref(), Some("b"));
        assert_eq!(all.value::<u64>("--settle").unwrap(), None);
        all.done().unwrap();
        assert!(flags("--events").value::<usize>("--events").is_err());
        assert!(flags("--events many").value::<usize>("--events").is_err());
        assert!(flags("--unknown").done().is_err());
    }
}
