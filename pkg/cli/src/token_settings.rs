//! Settings of the API server about tokens of service accounts, `--kube-apiserver-arg service-account-…`, with upstream's names and
//! defaults.

use std::path::PathBuf;
use std::time::Duration;

use kedge_base::time::go_duration;

use crate::flags::ServerFlags;

/// What is said of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenArgs {
    /// `service-account-issuer`; the first one is that of tokens that are issued.
    pub issuers: Vec<String>,
    /// `service-account-key-file`.
    pub key_files: Vec<PathBuf>,
    /// `service-account-signing-key-file`.
    pub signing_key_file: Option<PathBuf>,
    /// `api-audiences`.
    pub audiences: Vec<String>,
    /// `service-account-extend-token-expiration`.
    pub extended: bool,
    /// `service-account-max-token-expiration`, in seconds.
    pub longest: Option<i64>,
}

const ISSUER: &str = "service-account-issuer";
const KEY_FILE: &str = "service-account-key-file";
const SIGNING_KEY_FILE: &str = "service-account-signing-key-file";
const AUDIENCES: &str = "api-audiences";
const EXTEND: &str = "service-account-extend-token-expiration";
const LONGEST: &str = "service-account-max-token-expiration";
const LOOKUP: &str = "service-account-lookup";

impl ServerFlags {
    /// What is said of tokens of service accounts.
    ///
    /// # Errors
    /// What is wrong, naming the setting.
    pub fn token_args(&self) -> Result<TokenArgs, String> {
        let settings = || self.kube_apiserver_arg.iter().filter_map(|setting| setting.split_once('='));
        let all = |key: &'static str| settings().filter(move |(name, _)| *name == key).map(|(_, value)| value);
        let issuers: Vec<String> = all(ISSUER).map(str::to_owned).collect();
        if let Some(twice) = issuers.iter().enumerate().find(|(at, issuer)| issuers[..*at].contains(issuer)) {
            return Err(format!("--kube-apiserver-arg: {ISSUER} {:?} is already specified", twice.1));
        }
        let switch = |key: &'static str| match all(key).next_back() {
            None => Ok(true),
            Some(value) => {
                value.parse::<bool>().map_err(|_| format!("--kube-apiserver-arg {key}={value}: expected true or false"))
            }
        };
        if !switch(LOOKUP)? {
            return Err(format!(
                "--kube-apiserver-arg {LOOKUP}=false: tokens of accounts that are gone are never taken"
            ));
        }
        let names = all(AUDIENCES).flat_map(|names| names.split(',')).map(str::trim);
        Ok(TokenArgs {
            issuers,
            key_files: all(KEY_FILE).map(PathBuf::from).collect(),
            signing_key_file: all(SIGNING_KEY_FILE).next_back().map(PathBuf::from),
            audiences: names.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            extended: switch(EXTEND)?,
            longest: all(LONGEST).next_back().map(longest).transpose()?.flatten(),
        })
    }
}

fn longest(text: &str) -> Result<Option<i64>, String> {
    let duration = go_duration(text)
        .ok_or_else(|| format!("--kube-apiserver-arg {LONGEST}={text}: expected a duration such as 24h"))?;
    if duration.is_zero() {
        return Ok(None);
    }
    let between = Duration::from_secs(3600)..=Duration::from_secs(1 << 32);
    let seconds = i64::try_from(duration.as_secs()).ok().filter(|_| between.contains(&duration));
    let bad = || format!("--kube-apiserver-arg {LONGEST}={text}: it must be between 1 hour and 2^32 seconds");
    seconds.map(Some).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::*;
    use crate::flags::{Command, Kedge};

    fn said(settings: &[&str]) -> Result<TokenArgs, String> {
        let args = settings.iter().flat_map(|setting| ["--kube-apiserver-arg", *setting]);
        let parsed = Kedge::try_parse_from(["kedge", "server"].into_iter().chain(args)).unwrap();
        let Command::Server(flags) = parsed.command else { return Err("not a server".into()) };
        flags.check()?;
        flags.token_args()
    }

    #[test]
    fn settings_are_read_as_upstream_reads_them() {
        let defaults = said(&[]).unwrap();
        assert!(defaults.extended && defaults.issuers.is_empty() && defaults.longest.is_none());
        let all = said(&[
            "service-account-issuer=https://new",
            "service-account-issuer=https://old",
            "service-account-key-file=/a",
            "service-account-key-file=/b",
            "service-account-signing-key-file=/a",
            "api-audiences=x, y",
            "service-account-extend-token-expiration=false",
            "service-account-max-token-expiration=24h",
        ]);
        let all = all.unwrap();
        assert_eq!(all.issuers, ["https://new", "https://old"]);
        assert_eq!((all.key_files.len(), all.signing_key_file), (2, Some("/a".into())));
        assert_eq!((all.audiences, all.extended, all.longest), (vec!["x".to_owned(), "y".into()], false, Some(86_400)));
    }

    #[test]
    fn mistakes_are_named() {
        for (setting, named) in [
            (vec!["service-account-issuer=a", "service-account-issuer=a"], "already specified"),
            (vec!["service-account-extend-token-expiration=yes"], "true or false"),
            (vec!["service-account-max-token-expiration=10m"], "between 1 hour"),
            (vec!["service-account-max-token-expiration=long"], "such as 24h"),
            (vec!["service-account-lookup=false"], "never taken"),
            (vec!["service-account-issuer="], "it has no value"),
        ] {
            let err = said(&setting).unwrap_err();
            assert!(err.contains(named), "{setting:?}: {err}");
        }
    }
}
