//! What other servers, other versions and crashes leave between services and the claims on their addresses and ports: found
//! and put right, by upstream's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kedge_meta::ObjectReference;
use kedge_storage::{Error as StorageError, Matcher, ResourceStore, With};
use serde_json::Value;
use tracing::warn;

use super::addresses::{ALLOCATOR, FAMILY, MANAGED_BY};
use super::node_ports::NodePorts;
use super::range_allocation::{KEY, RangeAllocation, Rewrite};
use super::{Addresses, Family, State, cluster_ip_texts, service_ports};
use crate::value::ValueExt;

/// How long an address may be there without its service: stock servers store it before the service.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// How long one may be there that was made after the service that does not have it, before it is held to be wrong.
const YOUNG: SignedDuration = SignedDuration::from_secs(5);
/// How often a port is seen without a service before it is given back.
const SIGHTINGS: u8 = 3;
/// How often the record of ports is rebuilt when others change it meanwhile.
const REBUILDS: usize = 4;

/// Ports of the record that no service has, and how often they are still to be seen so.
pub(super) type Leaks = BTreeMap<u32, u8>;

/// Something that the repair has found, to be told as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub object: ObjectReference,
    pub reason: &'static str,
    pub message: String,
}

/// What is to be done about the address of a service.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    /// There is no claim.
    Missing,
    /// The claim is another's who has no right to it, or is not marked as ours.
    Replace {
        tell: bool,
    },
    /// Another service has the same address, and the claim.
    Duplicate,
}

/// The services by namespace and name.
struct Services(BTreeMap<String, Value>);

impl Services {
    fn get(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.0.get(&format!("{namespace}/{name}"))
    }
}

impl State {
    /// Makes the stored claims those of the stored services; returns what is to be told of it.
    pub(crate) async fn repair(&self, services: &ResourceStore, now: Timestamp) -> Result<Vec<Finding>, StorageError> {
        let Some(claims) = &self.addresses.stored else { return Ok(Vec::new()) };
        let claimed = self.node_ports.stored.as_ref().map(|s| s.readable("", &Matcher::default()).objects);
        let addresses = claims.readable("", &Matcher::default()).objects;
        // No service whose claim was read may be missing.
        services.fresh().await?;
        let (services, complete) = read(services)?;
        let mut findings = Vec::new();
        for service in services.0.values() {
            self.repair_addresses(service, &services, now, &mut findings).await?;
            let ports = service_ports(service);
            self.claim_ports(ports.collect(), service, now).await?;
        }
        // What a service that cannot be read has is not known, so that nothing is given back while there is one.
        if !complete {
            return Ok(findings);
        }
        let used: BTreeSet<u32> = services.0.values().flat_map(service_ports).collect();
        // The claims were read before the services, and one that was taken anew since has another revision.
        for (name, object) in claimed.unwrap_or_default() {
            let unused = name.parse().is_ok_and(|port: u32| !used.contains(&port));
            if let (true, Some(stored)) = (unused, &self.node_ports.stored) {
                ignore_races(stored.delete(&name, object.revision, With::default()).await.map(drop))?;
            }
        }
        for (name, object) in addresses {
            let address = object.to_value()?;
            if let Some((reason, message)) = leaked(&name, &address, &services, now) {
                warn!(address = %name, reason, message, "the claim on a service address is given back");
                findings.push(finding(&address, "IPAddress", reason, message));
                ignore_races(claims.delete(&name, object.revision, With::default()).await.map(drop))?;
            }
        }
        Ok(findings)
    }

    async fn repair_addresses(
        &self,
        service: &Value,
        services: &Services,
        now: Timestamp,
        findings: &mut Vec<Finding>,
    ) -> Result<(), StorageError> {
        let Some(claims) = &self.addresses.stored else { return Ok(()) };
        if matches!(service.text(&["spec", "clusterIP"]), "" | "None") {
            return Ok(());
        }
        let ranges = self.addresses.ranges();
        let own = format!("{}/{}", service.text(&["metadata", "namespace"]), service.name());
        for text in cluster_ip_texts(service) {
            let mut tell = |reason, message| findings.push(finding(service, "Service", reason, message));
            let Ok(ip) = text.parse::<IpAddr>() else {
                tell("ClusterIPNotValid", format!("Cluster IP {text} is not a valid IP; please recreate Service"));
                continue;
            };
            let family = Family::of(ip).name();
            if !ranges.iter().any(|range| range.cidr.has_service_address(ip)) {
                let what = "is not within any configured Service CIDR; please recreate service";
                tell("ClusterIPOutOfRange", format!("Cluster IP [{family}]: {ip} {what}"));
                continue;
            }
            let name = ip.to_string();
            // A claim that cannot be read is one, too.
            let Ok(found) = claims.get(&name) else { continue };
            let claim = found.as_ref().map(|object| object.to_value()).transpose()?;
            match judge(ip, claim.as_ref(), service, services) {
                Verdict::Right => {}
                Verdict::Missing => {
                    let message = format!("Cluster IP [{family}]: {ip} is not allocated; repairing");
                    tell("ClusterIPNotAllocated", message);
                    let claim = Addresses::claim(ip, service, now);
                    ignore_races(claims.create(&name, &claim, With::default()).await.map(drop))?;
                }
                Verdict::Duplicate => {
                    let what = "was assigned to multiple services; please recreate service";
                    tell("ClusterIPAlreadyAllocated", format!("Cluster IP [{family}]:{ip} {what}"));
                }
                Verdict::Replace { tell: told } => {
                    if told {
                        let what = "has a wrong reference; repairing";
                        let message = format!("the ClusterIP [{family}]: {ip} for Service {own} {what}");
                        tell("ClusterIPNotAllocated", message);
                    }
                    let revision = found.map(|object| object.revision).unwrap_or_default();
                    // In one step: between a deletion and a creation it would be free.
                    let claim = Addresses::claim(ip, service, now);
                    ignore_races(claims.update(&name, &claim, revision, With::default()).await.map(drop))?;
                }
            }
        }
        Ok(())
    }

    async fn claim_ports(&self, ports: Vec<u32>, service: &Value, now: Timestamp) -> Result<(), StorageError> {
        let Some(stored) = &self.node_ports.stored else { return Ok(()) };
        for port in ports {
            if matches!(stored.get(&port.to_string()), Ok(None)) {
                let claim = NodePorts::claim(port, service, now);
                ignore_races(stored.create(&port.to_string(), &claim, With::default()).await.map(drop))?;
            }
        }
        Ok(())
    }

    /// Makes upstream's record of node ports that of the stored services, where others keep it.
    pub(crate) async fn repair_record(&self, services: &ResourceStore) -> Result<Vec<Finding>, StorageError> {
        let ports = &self.node_ports;
        for _ in 0..REBUILDS {
            let was = services.value_of(KEY).await?.map(|(value, _)| value);
            if was.is_none() && !ports.shared {
                return Ok(Vec::new());
            }
            // No service that is entered in what was read may be missing in what is read now.
            services.fresh().await?;
            let (all, complete) = read(services)?;
            if !complete {
                return Ok(Vec::new());
            }
            let stored = was.as_deref().map(RangeAllocation::decode).and_then(|read| match read {
                Ok(record) => Some(record),
                Err(err) => {
                    warn!(key = KEY, error = %err, "the record of node ports cannot be read; it is made anew");
                    None
                }
            });
            let mut leaks = self.leaks.lock().clone();
            let (record, findings) = rebuild(ports.range, stored.as_ref(), &all, &mut leaks);
            if stored.as_ref() != Some(&record) {
                match services.amend(Arc::new(Rewrite { was, record })).await {
                    Err(StorageError::Claimed(_)) => continue,
                    written => written?,
                }
            }
            *self.leaks.lock() = leaks;
            ports.refresh().await?;
            return Ok(findings);
        }
        // Others are busy with it, and no more may be wrong with it than was before.
        Ok(Vec::new())
    }
}

/// All services that can be read, and whether that is all of them.
fn read(services: &ResourceStore) -> Result<(Services, bool), StorageError> {
    let (listing, complete) = match services.list("", &Matcher::default(), 0) {
        Ok(listing) => (listing, true),
        Err(StorageError::Unreadable { .. }) => (services.readable("", &Matcher::default()), false),
        Err(err) => return Err(err),
    };
    let read = listing.objects.into_iter().map(|(key, object)| Ok((key.to_string(), object.to_value()?)));
    Ok((Services(read.collect::<Result<_, StorageError>>()?), complete))
}

/// What is to be thought of the claim on an address that a service has.
fn judge(ip: IpAddr, claim: Option<&Value>, service: &Value, services: &Services) -> Verdict {
    let Some(claim) = claim else { return Verdict::Missing };
    let parent = |field: &str| claim.text(&["spec", "parentRef", field]);
    if !is_of_a_service(claim) {
        return Verdict::Replace { tell: true };
    }
    let (namespace, name) = (parent("namespace"), parent("name"));
    if (namespace, name) != (service.text(&["metadata", "namespace"]), service.name()) {
        match services.get(namespace, name) {
            None => return Verdict::Replace { tell: true },
            Some(other) if cluster_ip_texts(other).any(|text| text.parse() == Ok(ip)) => return Verdict::Duplicate,
            // Whose claim it is does not have the address. In one step: it is never free in between.
            Some(_) => return Verdict::Replace { tell: true },
        }
    }
    let label = |name: &str| claim.text(&["metadata", "labels", name]);
    if label(FAMILY) == Family::of(ip).name() && label(MANAGED_BY) == ALLOCATOR {
        Verdict::Right
    } else {
        Verdict::Replace { tell: false }
    }
}

fn is_of_a_service(claim: &Value) -> bool {
    let parent = |field: &str| claim.text(&["spec", "parentRef", field]);
    parent("group").is_empty() && parent("resource") == "services"
}

/// Why the claim on an address is to be given back, if it is. Addresses are objects that others may own, too.
fn leaked(name: &str, claim: &Value, services: &Services, now: Timestamp) -> Option<(&'static str, String)> {
    if claim.text(&["metadata", "labels", MANAGED_BY]) != ALLOCATOR {
        return None;
    }
    let parent = |field: &str| claim.text(&["spec", "parentRef", field]);
    if !is_of_a_service(claim) {
        let what = "appears to have been modified, not referencing a Service";
        let of = format!("{}/{}", parent("resource"), parent("name"));
        return Some(("IPAddressNotAllocated", format!("IPAddress {name} {what} {of}: cleaning up")));
    }
    let time = |object: &Value| object.text(&["metadata", "creationTimestamp"]).parse::<Timestamp>().ok();
    // Of one that does not say when it was made nothing can be said.
    let created = time(claim)?;
    let age = now.duration_since(created);
    let (namespace, owner) = (parent("namespace"), parent("name"));
    let Some(service) = services.get(namespace, owner) else {
        let message = format!("IPAddress: {name} for Service {namespace}/{owner} appears to have leaked: cleaning up");
        return (age > GRACE).then_some(("IPAddressNotAllocated", message));
    };
    let has_it = cluster_ip_texts(service).any(|text| text == name);
    // A service that is being given a type with addresses, or was written by somebody who then failed.
    let changing = service.text(&["spec", "type"]) == "ExternalName" && age < GRACE;
    let young = time(service).is_some_and(|service| created > service) && age < YOUNG;
    if has_it || changing || young {
        return None;
    }
    let message = format!("IPAddress: {name} for Service {namespace}/{owner} has a wrong reference; cleaning up");
    Some(("IPAddressWrongReference", message))
}

/// The record as the services say that it should be. A port that no service has may be one of a service that is being written:
/// it is taken until it has been seen so a few times.
fn rebuild(
    range: (u16, u16),
    stored: Option<&RangeAllocation>,
    services: &Services,
    leaks: &mut Leaks,
) -> (RangeAllocation, Vec<Finding>) {
    let (mut used, mut findings) = (BTreeSet::new(), Vec::new());
    for service in services.0.values() {
        let mut tell = |reason, message| findings.push(finding(service, "Service", reason, message));
        // A number may serve two protocols of one service.
        for port in service_ports(service).collect::<BTreeSet<_>>() {
            if !(u32::from(range.0)..=u32::from(range.1)).contains(&port) {
                let (first, last) = range;
                let what = format!("is not within the port range {first}-{last}; please recreate service");
                tell("PortOutOfRange", format!("Port {port} {what}"));
            } else if !used.insert(port) {
                let what = "was assigned to multiple services; please recreate service";
                tell("PortAlreadyAllocated", format!("Port {port} {what}"));
            } else if stored.is_some_and(|stored| !stored.has(port)) {
                tell("PortNotAllocated", format!("Port {port} is not allocated; repairing"));
            }
        }
    }
    let unused: Vec<u32> = stored.iter().flat_map(|stored| stored.ports()).filter(|p| !used.contains(p)).collect();
    leaks.retain(|port, _| unused.contains(port));
    for port in unused {
        let left = leaks.entry(port).or_insert(SIGHTINGS);
        if *left == 0 {
            warn!(port, "a node port that no service has is given back");
            leaks.remove(&port);
        } else {
            *left -= 1;
            used.insert(port);
        }
    }
    (RangeAllocation::new(range, used), findings)
}

fn finding(object: &Value, kind: &str, reason: &'static str, message: String) -> Finding {
    let text = |field: &str| object.text(&["metadata", field]).to_owned();
    let api_version = if kind == "Service" { "v1" } else { "networking.k8s.io/v1" };
    let object = ObjectReference {
        kind: kind.to_owned(),
        api_version: api_version.to_owned(),
        namespace: text("namespace"),
        name: text("name"),
        uid: text("uid"),
        ..ObjectReference::default()
    };
    Finding { object, reason, message }
}

/// Another server may have done the same.
fn ignore_races(result: Result<(), StorageError>) -> Result<(), StorageError> {
    match result {
        Err(StorageError::Exists | StorageError::Conflict(_) | StorageError::NotFound) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
