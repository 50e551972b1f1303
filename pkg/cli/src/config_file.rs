//! The configuration file: each key is a flag, and becomes one in front of the command line's own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use serde_yaml::Value;

use crate::flags::Kedge;

/// The file when none is named; it need not exist.
const DEFAULT: &str = "/etc/kedge/config.yaml";
/// Larger files are no configuration.
const MAX_SIZE: u64 = 1 << 20;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    #[error("cannot read configuration file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {path} is larger than {MAX_SIZE} bytes")]
    TooLarge { path: PathBuf },
    #[error("configuration file {path} is no YAML map: {what}")]
    Parse { path: PathBuf, what: String },
    #[error(
        "configuration file {path}: unknown key {key:?}; keys are the flags of `kedge {command} --help` without their dashes{hint}"
    )]
    UnknownKey { path: PathBuf, key: String, command: String, hint: String },
    #[error("configuration file {path}: {key} must be {expected}")]
    Value { path: PathBuf, key: String, expected: &'static str },
}

/// The commands beside the server that work on its data, so that they find it where the server has it. They heed the keys
/// that are flags of theirs, too.
const FOLLOWERS: [&str; 5] = ["certificate", "etcd-snapshot", "secrets-encrypt", "store", "token"];
/// Whose flags the keys are.
const SERVER: &str = "server";

/// The command line with the keys of the configuration files put in: `config.yaml`, then `config.yaml.d/*.yaml` in
/// order. A later file replaces what an earlier one said, or adds to it with a key that ends in `+`.
///
/// # Errors
/// When a file cannot be read or says something that no flag says.
pub fn expand(args: Vec<OsString>) -> Result<Vec<OsString>, ConfigFileError> {
    let heeds = |command: &&str| *command == SERVER || FOLLOWERS.contains(command);
    let Some(command) = args.get(1).and_then(|a| a.to_str()).filter(heeds).map(str::to_owned) else {
        return Ok(args);
    };
    let (path, named) = config_path(&args);
    let mut settings: Vec<(String, Vec<String>)> = Vec::new();
    for file in files(&path, named)? {
        for (key, values) in read(&file, SERVER)? {
            let (name, adds) = key.strip_suffix('+').map_or((key.as_str(), false), |name| (name, true));
            match settings.iter_mut().find(|(k, _)| k == name) {
                Some((_, old)) if adds => old.extend(values),
                Some((_, old)) => *old = values,
                None => settings.push((name.to_owned(), values)),
            }
        }
    }
    let known = known_flags(&command);
    let given: Vec<String> = args.iter().filter_map(|a| a.to_str()).filter_map(long_name).collect();
    let mut out: Vec<OsString> = args[..2].to_vec();
    for (key, values) in &settings {
        let Some(flag) = known.iter().find(|flag| flag[0] == *key) else { continue };
        if !flag.iter().any(|name| given.contains(name)) {
            out.extend(values.iter().map(|value| OsString::from(format!("--{key}={value}"))));
        }
    }
    out.extend_from_slice(&args[2..]);
    Ok(out)
}

/// The name of a long flag, or of a short one.
fn long_name(arg: &str) -> Option<String> {
    if let Some(name) = arg.strip_prefix("--") {
        return Some(name.split('=').next().unwrap_or(name).to_owned());
    }
    match arg.get(..2) {
        Some("-d") => Some("data-dir".into()),
        Some("-o") => Some("write-kubeconfig".into()),
        _ => None,
    }
}

fn config_path(args: &[OsString]) -> (PathBuf, bool) {
    let mut args = args.iter().skip(2);
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "--config" || text == "-c" {
            if let Some(path) = args.next() {
                return (PathBuf::from(path), true);
            }
        } else if let Some(path) = text.strip_prefix("--config=") {
            return (PathBuf::from(path), true);
        }
    }
    match std::env::var_os("KEDGE_CONFIG_FILE") {
        Some(path) => (PathBuf::from(path), true),
        None => (PathBuf::from(DEFAULT), false),
    }
}

fn files(path: &Path, named: bool) -> Result<Vec<PathBuf>, ConfigFileError> {
    let mut files = Vec::new();
    if named || path.exists() {
        files.push(path.to_owned());
    }
    let mut dir = path.as_os_str().to_owned();
    dir.push(".d");
    let dir = PathBuf::from(dir);
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(source) => return Err(ConfigFileError::Read { path: dir, source }),
    };
    let mut parts: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    parts.retain(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml"));
    parts.sort();
    files.extend(parts);
    Ok(files)
}

fn read(path: &Path, command: &str) -> Result<Vec<(String, Vec<String>)>, ConfigFileError> {
    let fail = |source| ConfigFileError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(fail)?.len() > MAX_SIZE {
        return Err(ConfigFileError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    let parse = |what: String| ConfigFileError::Parse { path: path.to_owned(), what };
    let map = match serde_yaml::from_str(&text).map_err(|e| parse(e.to_string()))? {
        Value::Null => return Ok(Vec::new()),
        Value::Mapping(map) => map,
        _ => return Err(parse("it holds something else".into())),
    };
    let known = known_flags(command);
    let mut settings = Vec::new();
    for (key, value) in map {
        let key = key.as_str().ok_or_else(|| parse("a key is no text".into()))?.to_owned();
        let name = key.trim_end_matches('+');
        if !known.iter().any(|flag| flag[0] == name) {
            let close = known.iter().find(|flag| flag[0].starts_with(name) || name.starts_with(&flag[0]));
            let hint = close.map(|flag| format!("; did you mean {:?}?", flag[0])).unwrap_or_default();
            return Err(ConfigFileError::UnknownKey { path: path.to_owned(), key, command: command.to_owned(), hint });
        }
        let bad = || ConfigFileError::Value {
            path: path.to_owned(),
            key: key.clone(),
            expected: "a value or a list of values",
        };
        let values = match value {
            Value::Sequence(list) => list.iter().map(scalar).collect::<Option<Vec<_>>>(),
            single => scalar(&single).map(|s| vec![s]),
        };
        let values = values.ok_or_else(bad)?;
        settings.push((key, values));
    }
    Ok(settings)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// The flags of a command, each with its other names behind its own.
fn known_flags(command: &str) -> Vec<Vec<String>> {
    let root = Kedge::command();
    let Some(command) = root.find_subcommand(command) else { return Vec::new() };
    let names = |arg: &clap::Arg| {
        let own = arg.get_long().filter(|name| *name != "help" && *name != "config")?;
        let others = arg.get_all_aliases().unwrap_or_default();
        Some(std::iter::once(own).chain(others).map(str::to_owned).collect())
    };
    command.get_arguments().filter_map(names).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::*;
    use crate::flags::Command;

    fn run(content: &str, extra: &[(&str, &str)], args: &[&str]) -> Result<Vec<String>, ConfigFileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, content).unwrap();
        std::fs::create_dir(dir.path().join("config.yaml.d")).unwrap();
        for (name, content) in extra {
            std::fs::write(dir.path().join("config.yaml.d").join(name), content).unwrap();
        }
        let mut all: Vec<OsString> = ["kedge", "server", "--config"].iter().map(OsString::from).collect();
        all.push(path.into_os_string());
        all.extend(args.iter().map(OsString::from));
        let out = expand(all)?;
        Ok(out
            .into_iter()
            .map(|a| a.into_string().unwrap())
            .filter(|a| a.starts_with("--") && a != "--config")
            .collect())
    }

    #[test]
    fn the_command_line_wins_and_lists_add_up_when_asked() {
        let content = "https-listen-port: 7443\ntls-san: [a, b]\n";
        let extra = [("1.yaml", "tls-san+: [c]\n"), ("2.yml", "debug: true\n")];
        let args = run(content, &extra, &[]).unwrap();
        assert_eq!(args, ["--https-listen-port=7443", "--tls-san=a", "--tls-san=b", "--tls-san=c", "--debug=true"]);
        let args = run(content, &[], &["--tls-san=z"]).unwrap();
        assert_eq!(args, ["--https-listen-port=7443", "--tls-san=z"]);
    }

    #[test]
    fn commands_on_the_data_of_a_server_find_it_where_the_server_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, "data-dir: /d\netcd-snapshot-dir: /s\nnode-name: n1\nhttps-listen-port: 7443\n").unwrap();
        let run = |args: &[&str]| {
            let config = ["--config", path.to_str().unwrap()];
            let all = ["kedge"].iter().chain(args).chain(&config).map(OsString::from).collect();
            Kedge::try_parse_from(expand(all).unwrap()).unwrap().command
        };
        let snapshot = |args: &[&str]| {
            let Command::EtcdSnapshot(flags) = run(args) else { panic!("another command") };
            (flags.data_dir.path(), flags.etcd_snapshot_dir.unwrap(), flags.node_name.unwrap())
        };
        let places = |data: &str, dir: &str| (PathBuf::from(data), PathBuf::from(dir), "n1".to_owned());
        assert_eq!(snapshot(&["etcd-snapshot", "save"]), places("/d", "/s"));
        assert_eq!(snapshot(&["etcd-snapshot", "ls", "-d", "/other", "--dir=/mine"]), places("/other", "/mine"));
        let Command::SecretsEncrypt(flags) = run(&["secrets-encrypt", "status"]) else { panic!("another command") };
        assert_eq!(flags.data_dir.path(), PathBuf::from("/d"));
        let Command::Store(flags) = run(&["store", "inspect"]) else { panic!("another command") };
        assert_eq!(flags.data_dir.path(), PathBuf::from("/d"));
        let Command::Token(flags) = run(&["token", "list"]) else { panic!("another command") };
        assert_eq!(flags.data_dir.path(), PathBuf::from("/d"));
        std::fs::write(&path, "data-dr: /d\n").unwrap();
        let all = ["kedge", "etcd-snapshot", "ls", "--config", path.to_str().unwrap()];
        assert!(matches!(expand(all.iter().map(OsString::from).collect()), Err(ConfigFileError::UnknownKey { .. })));
    }

    #[test]
    fn mistakes_are_named() {
        let err = run("https-listen: 1\n", &[], &[]).unwrap_err().to_string();
        assert!(err.contains("\"https-listen\"") && err.contains("did you mean \"https-listen-port\""), "{err}");
        assert!(run("tls-san: {a: b}\n", &[], &[]).unwrap_err().to_string().contains("tls-san"));
        assert!(run("[1]\n", &[], &[]).is_err());
    }
}
