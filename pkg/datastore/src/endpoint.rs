//! `--datastore-endpoint`.

use std::path::PathBuf;
use std::str::FromStr;

/// Which store is used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Endpoint {
    /// The one in the data directory.
    #[default]
    Embedded,
    /// The same, without files: gone with the process.
    Memory,
    /// An etcd cluster; its members' client addresses.
    Etcd(Vec<String>),
}

/// Credentials towards an etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// An endpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "datastore endpoint {endpoint:?}: {what}; give https://host:2379[,https://host:2379…] for an etcd, memory:// for none on disk, or nothing for the embedded store"
)]
pub struct EndpointError {
    endpoint: String,
    what: String,
}

/// More members than any etcd cluster has.
const MAX_MEMBERS: usize = 16;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let fail = |what: String| Err(EndpointError { endpoint: without_password(text), what });
        match text.trim() {
            "" | "embedded" | "embedded://" => return Ok(Self::Embedded),
            "memory://" | "memory" => return Ok(Self::Memory),
            _ => {}
        }
        let mut members = Vec::new();
        for member in text.split(',').map(str::trim) {
            let Some((scheme, address)) = member.split_once("://") else {
                return fail(format!("{:?} names no scheme", without_password(member)));
            };
            match scheme {
                "http" | "https" if address.is_empty() || address.contains('/') && !address.ends_with('/') => {
                    return fail(format!("{:?} is not {scheme}://host:port", without_password(member)));
                }
                "http" | "https" => members.push(member.trim_end_matches('/').to_owned()),
                "unix" => members.push(member.to_owned()),
                "sqlite" | "mysql" | "postgres" | "nats" => {
                    return fail(format!("databases of the kind {scheme} are not supported"));
                }
                other => return fail(format!("the scheme {other:?} is unknown")),
            }
        }
        if members.len() > MAX_MEMBERS {
            return fail(format!("more than {MAX_MEMBERS} members"));
        }
        Ok(Self::Etcd(members))
    }
}

/// An endpoint as it may be shown.
fn without_password(text: &str) -> String {
    let hide = |member: &str| match (member.find("://"), member.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://…{}", &member[..scheme], &member[at..]),
        (None, Some(at)) => format!("…{}", &member[at..]),
        _ => member.to_owned(),
    };
    text.split(',').map(hide).collect::<Vec<_>>().join(",")
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded => f.write_str("the embedded store"),
            Self::Memory => f.write_str("memory"),
            Self::Etcd(members) => write!(f, "the etcd at {}", without_password(&members.join(","))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endpoints_are_told_apart() {
        let parse = |text: &str| text.parse::<Endpoint>().unwrap();
        assert_eq!(parse(""), Endpoint::Embedded);
        assert_eq!(parse("memory://"), Endpoint::Memory);
        let two = vec!["https://a:2379".to_owned(), "http://b:2379".to_owned()];
        assert_eq!(parse("https://a:2379/, http://b:2379"), Endpoint::Etcd(two));
        assert_eq!(parse("unix:///run/etcd.sock"), Endpoint::Etcd(vec!["unix:///run/etcd.sock".into()]));
    }

    #[test]
    fn mistakes_are_named_without_passwords() {
        for (text, named) in [
            ("mysql://root:geheim@tcp(host)/db", "mysql are not supported"),
            ("host:2379", "names no scheme"),
            ("ftp://host", "\"ftp\" is unknown"),
            ("https://host/path", "is not https://host:port"),
            ("https://root:geheim@host/path", "is not https://host:port"),
            ("root:geheim@host:2379", "names no scheme"),
        ] {
            let err = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(err.contains(named) && !err.contains("geheim"), "{err}");
        }
    }
}
