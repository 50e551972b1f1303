//! Which tracked UDP flows must be forgotten when endpoints change.
//!
//! Invariant: a UDP flow has no end of its own, so as long as a client keeps sending it would keep
//! the old destination. Flows of TCP and SCTP are left alone: their ends notice.

use crate::item::{Container, Item, Key, Value, Vip};
use crate::objects::Protocol;
use crate::state::Change;
use std::net::{Ipv4Addr, SocketAddrV4};
use tokio::process::Command;

/// The most deletions after one sync; beyond it all UDP flows are cheaper to look at once.
const MAX_DELETIONS: usize = 256;

/// Flows to forget.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stale {
    /// Flows that a client sent to `0` and that go to the endpoint `1`, which is gone.
    Translated(Vip, Ipv4Addr),
    /// Flows to a place that had no endpoint: they were never translated.
    Untranslated(Vip),
    /// All flows to an endpoint that is gone, wherever the client sent them.
    Endpoint(SocketAddrV4),
}

impl Stale {
    fn arguments(&self) -> Vec<String> {
        let mut args: Vec<String> = ["-D", "-p", "udp"].map(String::from).into();
        let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
        match self {
            Self::Translated(vip, endpoint) => {
                vip.address.iter().for_each(|address| option("--orig-dst", address.to_string()));
                option("--orig-port-dst", vip.port.to_string());
                option("--reply-src", endpoint.to_string());
            }
            Self::Untranslated(vip) => {
                if let Some(address) = vip.address {
                    option("--orig-dst", address.to_string());
                    // The answer is expected from the address the client sent to.
                    option("--reply-src", address.to_string());
                }
                option("--orig-port-dst", vip.port.to_string());
            }
            Self::Endpoint(endpoint) => {
                option("--reply-src", endpoint.ip().to_string());
                option("--reply-port-src", endpoint.port().to_string());
            }
        }
        args
    }
}

/// The flows that `changes` make stale.
pub fn stale_flows(changes: &[Change]) -> Vec<Stale> {
    let mut out: Vec<Stale> = changes.iter().filter_map(stale_flow).collect();
    // An endpoint that only moved to another slot is still there.
    let kept: Vec<Stale> = changes.iter().filter_map(|change| target(&change.item, change.after.as_ref())).collect();
    out.retain(|stale| !kept.contains(stale));
    out.sort_unstable();
    out.dedup();
    out
}

fn stale_flow(change: &Change) -> Option<Stale> {
    if let Some(stale) = target(&change.item, change.before.as_ref()) {
        return Some(stale);
    }
    match (&change.item, &change.before, &change.after) {
        // The service has its first endpoint: flows that ran into nothing may now be served.
        (Item::Element(Container::ServiceIps | Container::NodePorts, Key::Vip(vip)), None, Some(_))
            if vip.protocol == Protocol::Udp =>
        {
            Some(Stale::Untranslated(*vip))
        }
        _ => None,
    }
}

fn target(item: &Item, value: Option<&Value>) -> Option<Stale> {
    match (item, value) {
        (Item::Element(Container::Endpoints(_), Key::Vip(vip) | Key::Slot(vip, _)), Some(Value::Target(target)))
            if vip.protocol == Protocol::Udp =>
        {
            Some(Stale::Translated(*vip, *target.ip()))
        }
        (Item::Chain(_), Some(Value::Endpoint { protocol: Protocol::Udp, target, .. })) => {
            Some(Stale::Endpoint(*target))
        }
        _ => None,
    }
}

/// Deletes flows with the `conntrack` program; `false` when there is no such program.
pub async fn forget(flows: &[Stale], prefix: &[String]) -> bool {
    if flows.len() > MAX_DELETIONS {
        tracing::info!(flows = flows.len(), "many UDP endpoints went at once: forgetting all translated UDP flows");
        let args = ["-D", "-p", "udp", "--dst-nat"].map(String::from);
        return run(&args, prefix).await;
    }
    for flow in flows {
        if !run(&flow.arguments(), prefix).await {
            return false;
        }
    }
    true
}

async fn run(args: &[String], prefix: &[String]) -> bool {
    let mut argv = prefix.iter().cloned().chain(std::iter::once("conntrack".to_owned()));
    let mut command = Command::new(argv.next().unwrap_or_default());
    command.args(argv).args(args).kill_on_drop(true).stdin(std::process::Stdio::null());
    let limit = std::time::Duration::from_secs(10);
    match kedge_base::time::timeout(limit, command.output()).await {
        Err(_) => tracing::warn!(?args, "conntrack did not finish within 10 s"),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return false,
        Ok(Err(error)) => tracing::warn!(?args, %error, "cannot run conntrack"),
        Ok(Ok(output)) => {
            let message = String::from_utf8_lossy(&output.stderr);
            // Finding nothing to delete is reported as a failure.
            if !output.status.success() && !message.contains("0 flow entries") {
                tracing::warn!(?args, message = message.trim(), "conntrack refused");
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Family, Slots, Verdict};

    fn slots(count: u16) -> Container {
        Container::Endpoints(Slots { family: Family { node_port: false, local: false }, count })
    }

    fn vip(protocol: Protocol) -> Vip {
        Vip { address: Some(Ipv4Addr::new(10, 43, 0, 10)), protocol, port: 53 }
    }

    fn backend(last: u8) -> Option<Value> {
        Some(Value::Target(SocketAddrV4::new(Ipv4Addr::new(10, 42, 0, last), 53)))
    }

    #[test]
    fn an_endpoint_that_went_is_forgotten_and_one_that_moved_is_not() {
        let vip = vip(Protocol::Udp);
        let changes = [
            Change { item: Item::Element(slots(2), Key::Slot(vip, 0)), before: backend(1), after: None },
            Change { item: Item::Element(slots(2), Key::Slot(vip, 1)), before: backend(2), after: None },
            Change { item: Item::Element(slots(1), Key::Vip(vip)), before: None, after: backend(2) },
        ];
        let flows = stale_flows(&changes);
        assert_eq!(flows, [Stale::Translated(vip, Ipv4Addr::new(10, 42, 0, 1))]);
        let text = flows[0].arguments().join(" ");
        assert_eq!(text, "-D -p udp --orig-dst 10.43.0.10 --orig-port-dst 53 --reply-src 10.42.0.1");
    }

    #[test]
    fn tcp_is_left_alone() {
        let item = Item::Element(slots(1), Key::Vip(vip(Protocol::Tcp)));
        assert!(stale_flows(&[Change { item, before: backend(1), after: None }]).is_empty());
    }

    #[test]
    fn the_first_endpoint_frees_flows_that_were_never_translated() {
        let vip = vip(Protocol::Udp);
        let item = Item::Element(Container::ServiceIps, Key::Vip(vip));
        let changes = [Change { item, before: None, after: Some(Value::Verdict(Verdict::Drop)) }];
        assert_eq!(stale_flows(&changes), [Stale::Untranslated(vip)]);
    }
}
