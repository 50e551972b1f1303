//! Whom a proxied request goes to: the backend that `[scheme:]name[:port]` names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kedge_base::random;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, convert};
use serde_json::Value;

use crate::backends::{Backend, Transport};
use crate::kubelets::kubelet;
use crate::objects::stored;
use crate::server::ApiServer;

/// A node's name in the DNS is found within this time, or not at all.
const LOOKUP: Duration = Duration::from_secs(10);

/// The parts of `[scheme:]name[:port]`.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Target<'a> {
    /// # Errors
    /// 400 for anything else.
    fn parse(id: &'a str, what: &str) -> Result<Self, Status> {
        let parts: Vec<&str> = id.split(':').collect();
        let target = match parts.as_slice() {
            [name] => Self { scheme: "", name, port: "" },
            [name, port] => Self { scheme: "", name, port },
            [scheme, name, port] => Self { scheme, name, port },
            _ => Self { scheme: "", name: "", port: "" },
        };
        if target.name.is_empty() || !matches!(target.scheme, "" | "http" | "https") {
            return Err(Status::bad_request(format!("invalid {what} request {id:?}")));
        }
        Ok(target)
    }

    fn transport(&self) -> Transport {
        if self.scheme == "https" { Transport::Https } else { Transport::Http }
    }

    fn default_port(&self) -> u16 {
        if self.scheme == "https" { 443 } else { 80 }
    }

    fn backend(&self, host: IpAddr, port: u16) -> Backend {
        Backend { transport: self.transport(), address: SocketAddr::new(host, port).to_string() }
    }
}

/// The backend of a request on a pod: one of its ports, the first that it declares if none is asked for.
pub(super) fn pod(served: &Served, namespace: &str, id: &str) -> Result<Backend, Status> {
    let target = Target::parse(id, "pod")?;
    let pod = pod_object(served, namespace, target.name)?;
    let ip = pod_ips(&pod).next().unwrap_or_default().parse().ok().filter(is_allowed).ok_or_else(not_allowed)?;
    let containers = pod.list(&["spec", "containers"]).iter();
    let mut ports = containers.flat_map(|container| container.list(&["ports"]));
    let number = |port: &Value| port.int(&["containerPort"]).and_then(|port| u16::try_from(port).ok());
    let port = match target.port {
        "" => ports.next().and_then(number).unwrap_or(target.default_port()),
        text => match text.parse() {
            Ok(port) => port,
            Err(_) if text.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(unreachable(&format!("dial tcp: address {text}: invalid port")));
            }
            Err(_) => {
                let named = ports.find(|port| port.text(&["name"]) == text).and_then(number);
                named
                    .or(well_known(text))
                    .ok_or_else(|| unreachable(&format!("dial tcp: lookup tcp/{text}: unknown port")))?
            }
        },
    };
    Ok(target.backend(ip, port))
}

/// The backend of a request on a service: one of its pods that are ready, by chance.
pub(super) async fn service(server: &ApiServer, served: &Served, namespace: &str, id: &str) -> Result<Backend, Status> {
    let target = Target::parse(id, "service")?;
    let mut port_name = target.port.to_owned();
    if let Ok(number) = target.port.parse::<i64>() {
        let object = stored(served, &served.key(namespace, target.name), target.name)?;
        let service = convert::read(served, &object)?;
        let port = service.list(&["spec", "ports"]).iter().find(|port| port.int(&["port"]) == Some(number));
        let port = port.ok_or_else(|| {
            Status::unavailable(format!("no service port {number} found for service {:?}", target.name))
        })?;
        port_name = port.text(&["name"]).to_owned();
    }
    let endpoints = server.registry.builtin("", "v1", "endpoints").ok_or_else(Status::unknown_path)?;
    endpoints.store.fresh().await.map_err(kedge_registry::verbs::store_failure)?;
    let object = stored(endpoints, &endpoints.key(namespace, target.name), target.name)?;
    let object = convert::read(endpoints, &object)?;
    let subsets = object.list(&["subsets"]);
    let none = |of: &str| Status::unavailable(format!("no endpoints available for service {of:?}"));
    if subsets.is_empty() {
        return Err(none(target.name));
    }
    for subset in from_any(subsets) {
        let ports = subset.list(&["ports"]).iter().filter(|port| port.text(&["name"]) == port_name);
        for port in ports.filter_map(|port| port.int(&["port"]).and_then(|port| u16::try_from(port).ok())) {
            let mut addresses = from_any(subset.list(&["addresses"]));
            if let Some(ip) = addresses.find_map(|address| address_of_pod(server, namespace, address)) {
                return Ok(target.backend(ip, port));
            }
        }
    }
    Err(none(id))
}

/// The backend of a request on a node: its kubelet, or whoever listens on another port of it.
pub(super) async fn node(server: &ApiServer, id: &str) -> Result<Backend, Status> {
    let target = Target::parse(id, "node")?;
    let kubelet = kubelet(server, target.name)?;
    let (host, kubelet_port) = kubelet.address.rsplit_once(':').unwrap_or((&kubelet.address, ""));
    let (host, kubelet_port) = (host.trim_matches(['[', ']']).to_owned(), kubelet_port.to_owned());
    let ip = resolve(&host).await?;
    if target.port.is_empty() || target.port == kubelet_port {
        return Ok(kubelet);
    }
    let port = target.port.parse().ok().or(well_known(target.port));
    let port = port.ok_or_else(|| unreachable(&format!("dial tcp: address {}: invalid port", target.port)))?;
    Ok(target.backend(ip, port))
}

/// 503 in upstream's words.
pub(super) fn unreachable(why: &str) -> Status {
    Status::unavailable(format!("error trying to reach service: {why}"))
}

/// What a node's preferred address stands for; none of it may be this host's own or a neighbour's only.
async fn resolve(host: &str) -> Result<IpAddr, Status> {
    let found: Vec<IpAddr> = match host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => {
            let lookup = kedge_base::time::timeout(LOOKUP, tokio::net::lookup_host((host, 0))).await;
            let failed = |why: &dyn std::fmt::Display| Status::bad_request(format!("lookup {host}: {why}"));
            let found = lookup.map_err(|_| failed(&"i/o timeout"))?.map_err(|err| failed(&err))?;
            found.map(|address| address.ip()).collect()
        }
    };
    if !found.iter().all(is_allowed) {
        return Err(not_allowed());
    }
    found.first().copied().ok_or_else(|| Status::bad_request("no addresses for hostname"))
}

fn not_allowed() -> Status {
    Status::bad_request("address not allowed")
}

/// Go's `IsGlobalUnicast`: neither unspecified, loopback, link-local, multicast nor broadcast.
fn is_allowed(ip: &IpAddr) -> bool {
    let link_local = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let ip = ip.to_canonical();
    !(link_local || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
}

/// Names of ports that everybody knows.
fn well_known(name: &str) -> Option<u16> {
    match name {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// All elements once, from any of them on.
fn from_any(list: &[Value]) -> impl Iterator<Item = &Value> {
    let first = usize::try_from(random::u64() % list.len().max(1) as u64).unwrap_or_default();
    list.iter().cycle().skip(first).take(list.len())
}

/// The address of an endpoint, if it is that of a pod of the namespace: nobody reaches other hosts through endpoints that
/// they have written themselves.
fn address_of_pod(server: &ApiServer, namespace: &str, address: &Value) -> Option<IpAddr> {
    let reference = address.at(&["targetRef"])?;
    if reference.text(&["namespace"]) != namespace {
        return None;
    }
    let pods = server.registry.builtin("", "v1", "pods")?;
    let pod = pod_object(pods, namespace, reference.text(&["name"])).ok()?;
    let ip = address.text(&["ip"]);
    pod_ips(&pod).any(|of_pod| of_pod == ip).then(|| ip.parse().ok().filter(is_allowed)).flatten()
}

fn pod_object(served: &Served, namespace: &str, name: &str) -> Result<Value, Status> {
    let object = stored(served, &served.key(namespace, name), name)?;
    convert::read(served, &object)
}

/// The addresses of a pod, the first of them first.
fn pod_ips(pod: &Value) -> impl Iterator<Item = &str> {
    let all = pod.list(&["status", "podIPs"]).iter().map(|ip| ip.text(&["ip"]));
    let first = Some(pod.text(&["status", "podIP"])).filter(|ip| !ip.is_empty());
    all.chain(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_have_up_to_three_parts() {
        let parsed = |id| Target::parse(id, "pod").map(|t| (t.scheme.to_owned(), t.name.to_owned(), t.port.to_owned()));
        let parts = |scheme: &str, name: &str, port: &str| Ok((scheme.to_owned(), name.to_owned(), port.to_owned()));
        assert_eq!(parsed("a"), parts("", "a", ""));
        assert_eq!(parsed("a:80"), parts("", "a", "80"));
        assert_eq!(parsed("https:a:web"), parts("https", "a", "web"));
        assert_eq!(parsed(":a:"), parts("", "a", ""));
        for wrong in ["", ":80", "ftp:a:80", "http::80", "a:b:c:d"] {
            let refused = parsed(wrong).unwrap_err();
            assert_eq!((refused.code, refused.message), (400, format!("invalid pod request {wrong:?}")));
        }
    }

    #[test]
    fn neither_this_host_nor_its_neighbours_are_reached() {
        let allowed = |text: &str| is_allowed(&text.parse().unwrap());
        for ip in ["10.42.0.7", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert!(allowed(ip), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "127.8.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert!(!allowed(ip), "{ip}");
        }
    }

    #[test]
    fn every_endpoint_has_its_turn() {
        let list: Vec<Value> = (0..5).map(Value::from).collect();
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let mut seen: Vec<i64> = from_any(&list).filter_map(Value::as_i64).collect();
            firsts.insert(seen[0]);
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4]);
        }
        assert_eq!(firsts.len(), 5);
        assert_eq!(from_any(&[]).count(), 0);
    }
}
