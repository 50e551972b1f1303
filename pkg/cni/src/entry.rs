//! The plug-in as a program: environment and standard input in, standard output and exit code out.
//!
//! Invariant: whatever happens, standard output holds exactly one JSON value or nothing, and a
//! failure is both a CNI error object and a non-zero exit code.

use crate::command;
use crate::conf::{Invocation, NetConf, VERSIONS};
use crate::error::CniError;
use kedge_nft::NftCommand;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};

/// The longest configuration that is read, in bytes.
const MAX_INPUT_BYTES: u64 = 1 << 20;

/// Runs the command that the environment asks for; returns the exit code of the process.
pub fn main_from_env() -> i32 {
    let mut input = Vec::new();
    let read = std::io::stdin().take(MAX_INPUT_BYTES).read_to_end(&mut input);
    let version = version_of(&input);
    let done = read
        .map_err(CniError::io("read the network configuration"))
        .and_then(|_| dispatch(&|name| std::env::var(name).ok(), &input));
    let (answer, code) = match done {
        Ok(answer) => (answer, 0),
        Err(error) => (Some(error.to_json(&version)), 1),
    };
    let Some(answer) = answer else { return code };
    match writeln!(std::io::stdout(), "{answer}") {
        Ok(()) => code,
        Err(_) => 1,
    }
}

/// Errors are answered in the version that was asked for, even when the rest cannot be read.
fn version_of(input: &[u8]) -> String {
    let conf: Option<Value> = serde_json::from_slice(input).ok();
    let version = conf.as_ref().and_then(|conf| conf["cniVersion"].as_str());
    version.filter(|version| VERSIONS.contains(version)).unwrap_or("1.0.0").to_owned()
}

fn dispatch(get: &dyn Fn(&str) -> Option<String>, input: &[u8]) -> Result<Option<Value>, CniError> {
    let name = "CNI_COMMAND";
    let command = get(name).unwrap_or_default();
    if command == "VERSION" {
        let answer = json!({"cniVersion": version_of(input), "supportedVersions": VERSIONS});
        return Ok(Some(answer));
    }
    let conf = NetConf::parse(input)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CniError::io("start a runtime"))?;
    let nft = NftCommand::new();
    runtime.block_on(async {
        match command.as_str() {
            "ADD" => command::add(&conf, &Invocation::read(get)?, &nft).await.map(Some),
            "DEL" => command::del(&conf, &Invocation::read(get)?, &nft).await.map(|()| None),
            "CHECK" => command::check(&conf, &Invocation::read(get)?).await.map(|()| None),
            "GC" => command::gc(&conf, &nft).await.map(|()| None),
            "STATUS" => command::status(&conf).map(|()| None),
            other => Err(CniError::Environment { name, problem: format!("is {other:?}") }),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn version_is_answered_without_a_configuration() {
        let get = |name: &str| (name == "CNI_COMMAND").then(|| "VERSION".to_owned());
        let answer = dispatch(&get, br#"{"cniVersion":"0.4.0"}"#).unwrap().unwrap();
        assert_eq!(answer["cniVersion"], "0.4.0");
        assert_eq!(answer["supportedVersions"][4], "1.1.0");
    }

    #[test]
    fn an_unknown_command_is_an_environment_error() {
        let error = dispatch(&|_| None, br#"{"cniVersion":"1.0.0"}"#).unwrap_err();
        let json = error.to_json("1.0.0");
        assert_eq!(json["code"], 4);
        assert_eq!(json["cniVersion"], "1.0.0");
    }
}
