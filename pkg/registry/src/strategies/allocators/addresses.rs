//! Addresses of services: out of every ServiceCIDR that is ready, claimed by an `IPAddress` object each, as upstream has them.
//!
//! Invariant: an address is stored only while the ServiceCIDR that it was taken from is what it was when it was chosen. So none
//! is given out of one that has been marked for deletion, by whichever server, and who looks for addresses after it was marked
//! sees all of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use kedge_base::random;
use kedge_meta::Cidr;
use kedge_storage::{Error as StorageError, Matcher, Object, ResourceStore};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::warn;

use super::numbers::{Numbers, band};
use super::{Refused, parent};
use crate::value::ValueExt;

/// By which an address says that it belongs to a service.
pub(super) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub(super) const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
pub(super) const ALLOCATOR: &str = "ipallocator.k8s.io";
/// The ServiceCIDR that is made of the flags.
const DEFAULT: &str = "kubernetes";
/// The shortest prefix of an IPv6 range that addresses are given out of, as upstream.
const SHORTEST_V6: u8 = 64;

/// A family of addresses, as services name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    IPv4,
    IPv6,
}

impl Family {
    pub(crate) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv6() { Self::IPv6 } else { Self::IPv4 }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::IPv4, Self::IPv6].into_iter().find(|family| family.name() == name)
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::IPv4 => Self::IPv6,
            Self::IPv6 => Self::IPv4,
        }
    }
}

/// A range of a ServiceCIDR.
#[derive(Debug, Clone)]
pub(super) struct ServiceRange {
    pub(super) cidr: Cidr,
    /// Whether addresses are given out of it.
    ready: bool,
    source: Source,
}

/// The object that a range is of: its key, and the revision of its last change, 0 when it does not exist yet.
pub(crate) type Source = (String, u64);

/// The addresses of all ServiceCIDRs, each free or taken.
pub(crate) struct Addresses {
    /// The ranges of the flags: they count until there is any ServiceCIDR.
    flags: Vec<Cidr>,
    service_cidrs: Option<ResourceStore>,
    /// The claims that are stored.
    pub(super) stored: Option<ResourceStore>,
    /// Taken for services that are being written.
    pending: Mutex<BTreeSet<IpAddr>>,
    /// The ranges, as they were after the last change of a ServiceCIDR that is known of.
    known: Mutex<Option<(u64, Arc<[ServiceRange]>)>>,
}

impl Addresses {
    pub(super) fn new(flags: Vec<Cidr>, service_cidrs: Option<ResourceStore>, stored: Option<ResourceStore>) -> Self {
        Self { flags, service_cidrs, stored, pending: Mutex::default(), known: Mutex::default() }
    }

    /// The families of the cluster: those of the flags, the first being the one that services have when they do not say.
    pub(crate) fn families(&self) -> Vec<Family> {
        self.flags.iter().map(|cidr| Family::of(cidr.network())).collect()
    }

    /// The ranges of all ServiceCIDRs.
    pub(super) fn ranges(&self) -> Arc<[ServiceRange]> {
        let Some(service_cidrs) = &self.service_cidrs else { return self.of_flags(String::new()).into() };
        let newest = service_cidrs.newest();
        let mut known = self.known.lock();
        if let Some((of, ranges)) = &*known
            && *of == newest
        {
            return ranges.clone();
        }
        let objects = service_cidrs.readable("", &Matcher::default()).objects;
        let mut ranges = Vec::new();
        for (name, object) in &objects {
            match object.to_value() {
                Ok(value) => ranges.extend(of_object(&value, &(service_cidrs.full_key(name), object.revision))),
                Err(err) => warn!(service_cidr = %name, error = %err, "a ServiceCIDR cannot be read"),
            }
        }
        if objects.is_empty() {
            ranges = self.of_flags(service_cidrs.full_key(DEFAULT));
        }
        let ranges: Arc<[ServiceRange]> = ranges.into();
        *known = Some((newest, ranges.clone()));
        ranges
    }

    fn of_flags(&self, key: String) -> Vec<ServiceRange> {
        let range = |cidr: &Cidr| ServiceRange { cidr: *cidr, ready: true, source: (key.clone(), 0) };
        self.flags.iter().map(range).collect()
    }

    fn is_free(&self, ip: IpAddr) -> bool {
        // A claim that cannot be read is one, too.
        !self.stored.as_ref().is_some_and(|stored| !matches!(stored.get(&ip.to_string()), Ok(None)))
    }

    /// Takes a certain address; returns what it was taken from.
    pub(crate) fn take(&self, ip: IpAddr) -> Result<Source, Refused> {
        let ranges = self.ranges();
        let range = ranges.iter().find(|range| range.gives() && range.cidr.has_service_address(ip));
        let range = range.ok_or(Refused::OutOfRange)?;
        let mut pending = self.pending.lock();
        if pending.contains(&ip) || !self.is_free(ip) {
            return Err(Refused::Taken);
        }
        pending.insert(ip);
        Ok(range.source.clone())
    }

    /// Takes any free address of a family.
    pub(crate) fn take_any(&self, family: Family) -> Result<(IpAddr, Source), Refused> {
        let ranges = self.ranges();
        let usable: Vec<&ServiceRange> =
            ranges.iter().filter(|range| range.gives() && range.cidr.is_ipv6() == (family == Family::IPv6)).collect();
        let mut pending = self.pending.lock();
        let draw = random::u64();
        let start = usize::try_from(draw >> 32).unwrap_or_default() % usable.len().max(1);
        for range in usable.iter().cycle().skip(start).take(usable.len()) {
            let Some(numbers) = numbers(&range.cidr) else { continue };
            let is_free = |number: u128| {
                let ip = range.cidr.address(number);
                !pending.contains(&ip) && self.is_free(ip)
            };
            if let Some(number) = numbers.pick(draw, is_free) {
                let ip = range.cidr.address(number);
                pending.insert(ip);
                return Ok((ip, range.source.clone()));
            }
        }
        Err(Refused::Full)
    }

    /// The write for which an address was taken is over; if it succeeded, the claim is stored.
    pub(crate) fn release(&self, ip: IpAddr) {
        self.pending.lock().remove(&ip);
    }

    pub(crate) fn key(ip: IpAddr) -> String {
        format!("/registry/ipaddresses/{ip}")
    }

    /// The object that claims an address for a service.
    pub(super) fn claim(ip: IpAddr, service: &Value, now: Timestamp) -> Value {
        let created = kedge_base::time::rfc3339(now);
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": ip.to_string(), "uid": random::uuid(), "generation": 1, "creationTimestamp": created,
                "labels": {FAMILY: Family::of(ip).name(), MANAGED_BY: ALLOCATOR}},
            "spec": {"parentRef": parent(service)}})
    }

    /// Key and value of the claim on each address for a service.
    pub(crate) fn claims(
        ips: &[IpAddr],
        service: &Value,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, StorageError> {
        let ty = kedge_schema::kind("networking.k8s.io", "v1", "IPAddress");
        let claim = |ip: &IpAddr| Ok((Self::key(*ip), Object::encode(ty, &Self::claim(*ip, service, now))?));
        ips.iter().map(claim).collect()
    }
}

impl ServiceRange {
    /// Whether addresses are given out of it.
    fn gives(&self) -> bool {
        self.ready && !(self.cidr.is_ipv6() && self.cidr.bits() < SHORTEST_V6)
    }
}

fn of_object(object: &Value, source: &Source) -> Vec<ServiceRange> {
    let conditions = object.list(&["status", "conditions"]);
    let condition = conditions.iter().find(|condition| condition.text(&["type"]) == "Ready");
    // One of which nobody has said anything is ready, so that services get addresses when no controller runs.
    let ready = condition.is_none_or(|condition| condition.text(&["status"]) == "True")
        && object.text(&["metadata", "deletionTimestamp"]).is_empty();
    let cidrs = object.list(&["spec", "cidrs"]).iter().filter_map(|text| text.as_str()?.parse().ok());
    cidrs.map(|cidr| ServiceRange { cidr, ready, source: source.clone() }).collect()
}

fn numbers(cidr: &Cidr) -> Option<Numbers> {
    let (first, last) = cidr.numbers();
    let size = (last - first).saturating_add(1);
    let (first, last) = cidr.usable()?;
    Some(Numbers::new(first, last, band(size, 16, 256)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_those_of_ready_objects() {
        let of = |status: Value, deleted: bool| {
            let mut object =
                json!({"metadata": {}, "spec": {"cidrs": ["10.0.0.0/24", "fd00::/48", "?"]}, "status": status});
            if deleted {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            of_object(&object, &("k".into(), 7)).iter().map(ServiceRange::gives).collect::<Vec<_>>()
        };
        assert_eq!(of(json!({}), false), [true, false], "of a range that is too large nothing is given out");
        assert_eq!(of(json!({}), true), [false, false]);
        assert_eq!(of(json!({"conditions": [{"type": "Ready", "status": "True"}]}), false), [true, false]);
        assert_eq!(of(json!({"conditions": [{"type": "Ready", "status": "False"}]}), false), [false, false]);
    }

    #[test]
    fn both_families_are_given_out_until_they_are_full() {
        let cidrs = ["10.0.0.0/30", "fd00::/126"].map(|text| text.parse().unwrap());
        let addresses = Addresses::new(cidrs.to_vec(), None, None);
        assert_eq!(addresses.families(), [Family::IPv4, Family::IPv6]);
        let any = |family| {
            let mut all: Vec<IpAddr> =
                std::iter::from_fn(|| addresses.take_any(family).ok()).map(|(ip, _)| ip).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(any(Family::IPv4), ["10.0.0.1", "10.0.0.2"].map(ip));
        assert_eq!(any(Family::IPv6), ["fd00::1", "fd00::2", "fd00::3"].map(ip));
        assert_eq!(addresses.take(ip("10.0.0.1")), Err(Refused::Taken));
        assert_eq!(addresses.take(ip("10.0.0.3")), Err(Refused::OutOfRange));
        addresses.release(ip("10.0.0.2"));
        assert!(addresses.take(ip("10.0.0.2")).is_ok());
    }

    #[test]
    fn claims_are_written_in_one_way() {
        let service = json!({"metadata": {"namespace": "a", "name": "b"}});
        let claim = Addresses::claim(ip("FD00:0::A"), &service, Timestamp::UNIX_EPOCH);
        assert_eq!(claim["metadata"]["name"], "fd00::a");
        assert_eq!(claim["metadata"]["labels"], json!({FAMILY: "IPv6", MANAGED_BY: ALLOCATOR}));
        assert_eq!(claim["spec"]["parentRef"], json!({"resource": "services", "namespace": "a", "name": "b"}));
    }
}
