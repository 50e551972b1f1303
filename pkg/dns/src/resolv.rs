//! Which servers are upstream: the file `resolv.conf`.
//!
//! Invariant: neither this server nor an address of the loopback network is ever upstream: what
//! listens there may well be a stub that sends queries back to us.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The most servers that are used; resolvers do not look further than three, either.
const MAX_SERVERS: usize = 3;
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// How often the file is looked at, at most.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Where systemd keeps the real servers when `resolv.conf` names only its stub.
const SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";

/// The upstream servers, read again when the file changes.
#[derive(Debug)]
pub struct Upstreams {
    path: Option<PathBuf>,
    own: Vec<IpAddr>,
    looked: Option<Duration>,
    seen: Option<(PathBuf, Option<SystemTime>)>,
    servers: Vec<SocketAddr>,
}

impl Upstreams {
    /// The servers in the file at `path`, without the addresses `own`. Without a path there are none.
    pub fn new(path: Option<PathBuf>, own: Vec<IpAddr>) -> Self {
        Self { path, own, looked: None, seen: None, servers: Vec::new() }
    }

    /// These servers, wherever they are.
    #[cfg(test)]
    pub fn fixed(servers: Vec<SocketAddr>) -> Self {
        Self { servers, ..Self::new(None, Vec::new()) }
    }

    /// The servers, in the order of the file. `now` is of the monotonic clock.
    pub fn servers(&mut self, now: Duration) -> Vec<SocketAddr> {
        let due = self.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK_AGAIN);
        if due {
            self.looked = Some(now);
            self.look();
        }
        self.servers.clone()
    }

    fn look(&mut self) {
        let Some(path) = self.path.clone() else { return };
        let modified = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        let seen = Some((path.clone(), modified));
        if modified.is_some() && self.seen == seen {
            return;
        }
        self.seen = seen;
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the upstream DNS servers; keeping those known");
                return;
            }
        };
        let mut servers = parse(&text, &self.own);
        if servers.is_empty() && text.contains("127.0.0.53") {
            servers = read(Path::new(SYSTEMD)).map(|text| parse(&text, &self.own)).unwrap_or_default();
        }
        if servers != self.servers {
            tracing::info!(path = %path.display(), ?servers, "upstream DNS servers");
        }
        self.servers = servers;
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    let usable = servers.filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !own.contains(ip));
    usable.take(MAX_SERVERS).map(|ip| SocketAddr::new(ip, 53)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loops_are_left_out() {
        let text = "# x\nsearch a b\nnameserver 127.0.0.53\nnameserver 10.42.0.1\nnameserver ::1\n\
                    nameserver 192.0.2.1\n nameserver 192.0.2.2 \nnameserver x\nnameserver 0.0.0.0\n";
        let got = parse(text, &["10.42.0.1".parse().unwrap()]);
        assert_eq!(got, ["192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap()]);
        let many = "nameserver 192.0.2.1\n".repeat(10);
        assert_eq!(parse(&many, &[]).len(), MAX_SERVERS);
    }

    #[test]
    fn a_changed_file_is_read_again_but_not_at_every_query() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nameserver 192.0.2.1\n").unwrap();
        let mut upstreams = Upstreams::new(Some(file.path().to_owned()), Vec::new());
        assert_eq!(upstreams.servers(Duration::ZERO), ["192.0.2.1:53".parse().unwrap()]);
        std::fs::write(file.path(), "nameserver 192.0.2.9\n").unwrap();
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        std::fs::File::options().write(true).open(file.path()).unwrap().set_modified(later).unwrap();
        assert_eq!(upstreams.servers(Duration::from_secs(1)), ["192.0.2.1:53".parse().unwrap()]);
        assert_eq!(upstreams.servers(LOOK_AGAIN), ["192.0.2.9:53".parse().unwrap()]);
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(upstreams.servers(LOOK_AGAIN * 2), ["192.0.2.9:53".parse().unwrap()], "kept");
    }

    #[test]
    fn without_a_file_there_is_no_upstream() {
        assert!(Upstreams::new(None, Vec::new()).servers(Duration::ZERO).is_empty());
    }
}
