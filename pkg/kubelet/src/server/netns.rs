//! Connecting from inside a pod's network.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kedge_base::{Ledger, Weight};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tokio::sync::oneshot;

const CONNECT: Duration = Duration::from_secs(10);

/// Connects to a port on the loop-back address of the network `path` names; `None` is the node's own.
///
/// # Errors
/// Of entering the network, or of the connection by IPv4.
pub(super) async fn dial(path: Option<PathBuf>, port: u16) -> io::Result<tokio::net::TcpStream> {
    let (sender, receiver) = oneshot::channel();
    // A thread that has entered a network never leaves it, so that it serves for this one connection only.
    std::thread::Builder::new().name("netns-dial".into()).spawn(move || {
        let dial = || connect(path.as_deref(), port);
        let dialed = Ledger::process().catch_now("kubelet", "netns-dial", Weight::Single, dial);
        // The receiver is gone when the client gave up meanwhile.
        let _ = sender.send(dialed.unwrap_or_else(|panicked| Err(io::Error::other(panicked))));
    })?;
    let stream = receiver.await.map_err(|_| io::Error::other("the dialing thread ended"))??;
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}

fn connect(path: Option<&Path>, port: u16) -> io::Result<TcpStream> {
    if let Some(path) = path {
        let namespace = File::open(path)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    let to = |ip: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(ip, port), CONNECT);
    to(Ipv4Addr::LOCALHOST.into()).or_else(|error| to(Ipv6Addr::LOCALHOST.into()).map_err(|_| error))
}

/// The path of a sandbox's network, out of the runtime's verbose status; `None` when it uses the node's.
///
/// # Errors
/// When the runtime does not tell.
pub(super) fn network_path(info: &str) -> Result<Option<PathBuf>, String> {
    let info: Value = serde_json::from_str(info).map_err(|e| format!("the runtime's sandbox information: {e}"))?;
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces").and_then(Value::as_array);
    let namespaces = namespaces.ok_or("the runtime does not tell the sandbox's namespaces")?;
    let network = namespaces.iter().find(|n| n.get("type").and_then(Value::as_str) == Some("network"));
    let Some(network) = network else { return Ok(None) };
    if let Some(path) = network.get("path").and_then(Value::as_str).filter(|p| !p.is_empty()) {
        return Ok(Some(PathBuf::from(path)));
    }
    match info.get("pid").and_then(Value::as_u64) {
        Some(pid) if pid > 0 => Ok(Some(PathBuf::from(format!("/proc/{pid}/ns/net")))),
        _ => Err("the sandbox does not run".to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_network_is_found_in_the_runtimes_information() {
        let of = |namespaces: &str| {
            network_path(&format!("{{\"pid\": 7, \"runtimeSpec\": {{\"linux\": {{\"namespaces\": {namespaces}}}}}}}"))
        };
        let path = of("[{\"type\": \"network\", \"path\": \"/var/run/netns/a\"}]").unwrap();
        assert_eq!(path, Some(PathBuf::from("/var/run/netns/a")));
        assert_eq!(of("[{\"type\": \"network\"}]").unwrap(), Some(PathBuf::from("/proc/7/ns/net")));
        assert_eq!(of("[{\"type\": \"pid\"}]").unwrap(), None);
        assert!(network_path("{}").is_err());
    }

    #[tokio::test]
    async fn the_nodes_own_network_needs_no_entering() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        dial(None, port).await.unwrap();
        drop(listener);
        assert!(dial(None, port).await.is_err());
    }
}
