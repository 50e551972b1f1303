//! How an etcd is reached: endpoints, files of certificates, credentials, limits of time and size.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;

/// The port of an endpoint that names none.
const DEFAULT_PORT: u16 = 2379;

/// How an etcd is reached.
#[derive(Clone)]
pub struct EtcdOptions {
    /// `https://host:port`, `http://host:port`, `unix:///path`, or `host:port`, which means https when there are
    /// certificates and http otherwise. `user:password@` before the host is as [`EtcdOptions::user`] is.
    pub endpoints: Vec<String>,
    /// Authorities that sign the servers' certificates, PEM; the system's own when absent.
    pub ca: Option<PathBuf>,
    /// The client's certificate and key, PEM. Read again for each connection, so they may be replaced at any time.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub user: Option<String>,
    pub password: Option<String>,
    /// A connection that is not there after this has failed.
    pub dial_timeout: Duration,
    /// A request that is not answered after this goes to another endpoint, if it may be repeated.
    pub attempt_timeout: Duration,
    /// All attempts of a request end within this.
    pub total_timeout: Duration,
    /// Keys that are read at once; larger ranges are read in pages of one revision.
    pub page: usize,
    /// How often history is compacted, shared with all other servers of the same etcd; never when absent.
    pub compact_interval: Option<Duration>,
}

impl EtcdOptions {
    /// Upstream's defaults.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            ca: None,
            cert: None,
            key: None,
            user: None,
            password: None,
            dial_timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(20),
            page: 500,
            compact_interval: Some(Duration::from_secs(5 * 60)),
        }
    }

    fn has_tls_files(&self) -> bool {
        self.ca.is_some() || self.cert.is_some()
    }

    /// The endpoints, understood.
    pub(super) fn parsed(&self) -> Result<Vec<Endpoint>, Error> {
        if self.endpoints.is_empty() {
            return Err(Error::Settings("no endpoint is given".into()));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err(Error::Settings("a client certificate and its key are given together".into()));
        }
        let bare = self.endpoints.iter().map(|text| split_credentials(text.trim()).0);
        bare.map(|text| Endpoint::parse(&text, self.has_tls_files())).collect()
    }

    /// The user and the password: the members of a cluster have the same.
    pub(super) fn credentials(&self) -> Result<Option<(String, String)>, Error> {
        let given = self.user.clone().map(|user| (user, self.password.clone().unwrap_or_default()));
        let named = self.endpoints.iter().filter_map(|text| split_credentials(text.trim()).1);
        let mut all = given.map(Ok).into_iter().chain(named).collect::<Result<Vec<_>, _>>()?;
        all.dedup();
        match all.len() {
            0 | 1 => Ok(all.pop()),
            _ => Err(Error::Settings("the endpoints name different users or passwords".into())),
        }
    }
}

type Credentials = Result<(String, String), Error>;

/// An endpoint without its credentials, which no message may show.
fn split_credentials(text: &str) -> (String, Option<Credentials>) {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (&text[..scheme.len() + 3], rest));
    let Some((credentials, host)) = rest.rsplit_once('@').filter(|_| !scheme.starts_with("unix")) else {
        return (text.to_owned(), None);
    };
    let decode = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
        decoded.map(|text| text.into_owned()).map_err(|_| Error::Settings("the credentials are not UTF-8".into()))
    };
    let decoded = match credentials.split_once(':') {
        Some((user, password)) if !user.is_empty() => {
            decode(user).and_then(|user| decode(password).map(|password| (user, password)))
        }
        _ => Err(Error::Settings("credentials in an endpoint are user:password@".into())),
    };
    (format!("{scheme}{host}"), Some(decoded))
}

/// One member's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// As it was given, for messages.
    pub name: String,
    pub address: Address,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl Endpoint {
    fn parse(text: &str, tls_by_default: bool) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Settings(format!("endpoint {text:?}: {why}"));
        let name = text.to_owned();
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            if !path.starts_with('/') {
                return Err(refuse("a socket is named by its absolute path"));
            }
            return Ok(Self { name, address: Address::Unix(path.into()) });
        }
        let (tls, authority) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(refuse("it must begin with https://, http:// or unix://")),
            None => (tls_by_default, text),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '@', '?', '#']) {
            return Err(refuse("it is a host and a port, nothing more"));
        }
        let uri: http::uri::Authority = authority.parse().map_err(|_| refuse("it is no host and port"))?;
        // The crate takes a port that is no port for none at all.
        let port = match authority.strip_prefix(uri.host()).and_then(|rest| rest.strip_prefix(':')) {
            Some(text) => text.parse().map_err(|_| refuse("it is no host and port"))?,
            None => DEFAULT_PORT,
        };
        if uri.host().is_empty() {
            return Err(refuse("it is no host and port"));
        }
        let host = uri.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { name, address: Address::Tcp { host, port, tls } })
    }

    /// What requests name as their target.
    pub(super) fn origin(&self) -> String {
        match &self.address {
            Address::Tcp { host, port, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                format!("{scheme}://{host}:{port}")
            }
            Address::Unix(_) => "http://localhost".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> Address {
        Address::Tcp { host: host.into(), port, tls }
    }

    #[test]
    fn endpoints_are_hosts_or_sockets() {
        let address = |text: &str, tls| Endpoint::parse(text, tls).unwrap().address;
        assert_eq!(address("https://etcd-1.example:12379", false), tcp("etcd-1.example", 12379, true));
        assert_eq!(address("http://127.0.0.1:2379/", true), tcp("127.0.0.1", 2379, false));
        assert_eq!(address("db:1", false), tcp("db", 1, false));
        assert_eq!(address("db", true), tcp("db", 2379, true));
        assert_eq!(address("https://[::1]:2379", false), tcp("::1", 2379, true));
        assert_eq!(address("unix:///run/etcd.sock", false), Address::Unix("/run/etcd.sock".into()));
        for bad in ["", "ftp://x", "unix://relative", "https://", "https://host/path", "h:99999999"] {
            assert!(Endpoint::parse(bad, false).is_err(), "{bad}");
        }
        assert_eq!(Endpoint::parse("https://[::1]", false).unwrap().origin(), "https://[::1]:2379");
    }

    #[test]
    fn credentials_are_taken_from_endpoints_and_not_shown() {
        let of = |endpoints: &[&str]| EtcdOptions::new(endpoints.iter().copied());
        let found = of(&["https://root:p%40ss@a:1", "https://root:p%40ss@b:1", "https://c:1"]);
        assert_eq!(found.credentials().unwrap(), Some(("root".to_owned(), "p@ss".to_owned())));
        let names: Vec<String> = found.parsed().unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["https://a:1", "https://b:1", "https://c:1"]);
        assert_eq!(of(&["https://a"]).credentials().unwrap(), None);
        for bad in
            [&["https://root:geheim@a", "https://root:other@b"][..], &["https://geheim@a"], &["https://:geheim@a"]]
        {
            let err = of(bad).credentials().unwrap_err().to_string();
            assert!(!err.contains("geheim"), "{err}");
        }
        let err = of(&["https://root:geheim@a/path"]).parsed().unwrap_err().to_string();
        assert!(err.contains("https://a/path") && !err.contains("geheim"), "{err}");
    }

    #[test]
    fn half_a_client_certificate_is_refused() {
        let mut options = EtcdOptions::new(["https://a"]);
        options.cert = Some("/c".into());
        assert!(options.parsed().is_err());
        assert!(EtcdOptions::new(Vec::<String>::new()).parsed().is_err());
    }
}
