//! Answering names of the cluster: the Kubernetes DNS specification 1.1.
//!
//! Invariant: pure. It reads records and returns what to say; every name under the zone is either
//! known with its records, known without records of that type, or does not exist.

use crate::answer::{Data, Record};
use crate::name::Name;
use crate::objects::{Port, Service};
use crate::query::code;
use crate::records::Records;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The version of the specification, which clients can ask for.
pub const SPECIFICATION: &str = "1.1.0";

/// The most records in an answer: more addresses than a client can use.
const MAX_RECORDS: usize = 1000;

/// The cluster's zone.
#[derive(Debug, Clone)]
pub struct Zone {
    labels: Vec<String>,
    name: Name,
    /// How long clients may remember an answer, in seconds.
    pub ttl: u32,
    /// The addresses of this server, for the zone's NS record.
    pub servers: Vec<IpAddr>,
}

/// What there is to say about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The name exists; of the asked type there are these records, perhaps none.
    Records {
        /// What was asked for.
        answers: Vec<Record>,
        /// What the client would ask next.
        additionals: Vec<Record>,
    },
    /// The name is another one's; the client, or we for it, must go on with that.
    Alias(Name),
    /// There is no such name.
    Missing,
    /// The name is not the cluster's.
    Foreign,
}

/// One place where a service can be reached.
struct Place<'a> {
    /// The name that leads to this place alone.
    name: Name,
    address: IpAddr,
    ports: Vec<&'a Port>,
}

impl Zone {
    /// A zone such as `cluster.local`; `None` when it is no domain name.
    pub fn new(domain: &str, ttl: u32, servers: Vec<IpAddr>) -> Option<Self> {
        let name = Name::parse(&domain.to_ascii_lowercase())?;
        Some(Self { labels: name.text_labels()?, name, ttl, servers })
    }

    /// The record that goes with negative answers.
    pub fn soa(&self) -> Record {
        let data = Data::Soa {
            server: self.below(&["ns", "dns"]).unwrap_or_else(Name::root),
            contact: self.below(&["hostmaster"]).unwrap_or_else(Name::root),
            negative_ttl: self.ttl,
        };
        Record { name: self.name.clone(), ttl: self.ttl, data }
    }

    /// Looks a name up.
    pub fn find(&self, records: &Records, name: &Name, qtype: u16) -> Found {
        let Some(labels) = name.text_labels() else {
            return if self.covers(name) { Found::Missing } else { Found::Foreign };
        };
        if let Some(address) = arpa_address(&labels) {
            return self.pointers(records, name, address, qtype);
        }
        let Some(rest) = labels.strip_suffix(self.labels.as_slice()) else { return Found::Foreign };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match rest.as_slice() {
            [] => self.apex(qtype),
            ["dns-version"] => self.only(name, qtype, vec![Data::Txt(SPECIFICATION)]),
            ["dns"] | ["svc"] | ["pod"] => nothing(),
            ["ns", "dns"] => {
                let servers = self.servers.iter().map(|ip| Data::Address(*ip)).collect();
                self.only(name, qtype, servers)
            }
            [namespace, "svc" | "pod"] if records.has_namespace(namespace) => nothing(),
            [address, namespace, "pod"] if records.has_namespace(namespace) => match dashed(address) {
                Some(address) => self.only(name, qtype, vec![Data::Address(address)]),
                None => Found::Missing,
            },
            [of_service @ .., service, namespace, "svc"] => {
                self.service(records, name, qtype, of_service, (service, namespace))
            }
            _ => Found::Missing,
        }
    }

    fn covers(&self, name: &Name) -> bool {
        let (own, other) = (self.name.wire(), name.wire());
        other.len() >= own.len() && other[other.len() - own.len()..].eq_ignore_ascii_case(own)
    }

    fn apex(&self, qtype: u16) -> Found {
        let answers = match qtype {
            code::SOA => vec![self.soa()],
            code::NS => {
                let server = self.below(&["ns", "dns"]).map(Data::Ns);
                server.into_iter().map(|data| self.record(&self.name, data)).collect()
            }
            _ => Vec::new(),
        };
        Found::Records { answers, additionals: Vec::new() }
    }

    /// A name of a service, of one of its ports (`_http._tcp`), or of one of its endpoints.
    fn service(
        &self,
        records: &Records,
        name: &Name,
        qtype: u16,
        below: &[&str],
        (service, namespace): (&str, &str),
    ) -> Found {
        let Some(object) = records.service(namespace, service) else { return Found::Missing };
        if object.spec.r#type == "ExternalName" {
            let target = below.is_empty().then(|| Name::parse(&object.spec.external_name)).flatten();
            return target.map_or(Found::Missing, Found::Alias);
        }
        let places = match below {
            [] => self.places(records, object, (service, namespace), None),
            [endpoint] => self.places(records, object, (service, namespace), Some(endpoint)),
            [port, protocol] => {
                let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
                    return Found::Missing;
                };
                let mut places = self.places(records, object, (service, namespace), None);
                places.retain_mut(|place| {
                    place.ports.retain(|own| own.is_called(port, protocol));
                    !place.ports.is_empty()
                });
                places
            }
            _ => return Found::Missing,
        };
        if places.is_empty() {
            return Found::Missing;
        }
        if qtype == code::SRV { self.srv(name, &places) } else { self.addresses(name, qtype, &places) }
    }

    fn places<'a>(
        &self,
        records: &'a Records,
        object: &'a Service,
        (service, namespace): (&str, &str),
        endpoint: Option<&str>,
    ) -> Vec<Place<'a>> {
        let mut places = Vec::new();
        if !object.is_headless() && endpoint.is_none() {
            let ports: Vec<&Port> = object.spec.ports.iter().collect();
            let name = self.below(&[service, namespace, "svc"]);
            let at = |address| Some(Place { name: name.clone()?, address, ports: ports.clone() });
            return object.addresses().filter_map(at).collect();
        }
        for slice in records.slices(namespace, service) {
            for (address, backend) in slice.ready() {
                let label = backend.label(address);
                if endpoint.is_some_and(|wanted| wanted != label) || places.len() >= MAX_RECORDS {
                    continue;
                }
                let name = self.below(&[&label, service, namespace, "svc"]);
                let ports = slice.ports.iter().collect();
                places.extend(name.map(|name| Place { name, address, ports }));
            }
        }
        places
    }

    fn addresses(&self, name: &Name, qtype: u16, places: &[Place<'_>]) -> Found {
        let mut addresses: Vec<IpAddr> = places.iter().map(|place| place.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let data = addresses.into_iter().map(Data::Address).collect();
        self.only(name, qtype, data)
    }

    /// One record for each port of each place; the addresses of the places beside them.
    fn srv(&self, name: &Name, places: &[Place<'_>]) -> Found {
        let ports = |place: &Place<'_>| place.ports.iter().filter_map(|port| port.port).collect::<Vec<_>>();
        let total: usize = places.iter().map(|place| ports(place).len()).sum();
        let weight = (100 / total.max(1)).max(1) as u16;
        let mut answers: Vec<Record> = Vec::new();
        let mut additionals: Vec<Record> = Vec::new();
        for place in places {
            for port in ports(place) {
                let data = Data::Srv { weight, port, target: place.name.clone() };
                let record = self.record(name, data);
                if answers.len() < MAX_RECORDS && !answers.contains(&record) {
                    answers.push(record);
                }
            }
            let address = self.record(&place.name, Data::Address(place.address));
            if additionals.len() < MAX_RECORDS && !additionals.contains(&address) {
                additionals.push(address);
            }
        }
        Found::Records { answers, additionals }
    }

    /// The names of an address: of the service it belongs to, or of the endpoints at it.
    fn pointers(&self, records: &Records, name: &Name, address: IpAddr, qtype: u16) -> Found {
        let mut names: Vec<Name> =
            records.services_at(address).filter_map(|key| self.below(&[&key.name, &key.namespace, "svc"])).collect();
        if names.is_empty() {
            for slice in records.slices_at(address) {
                let namespace = slice.metadata.namespace.as_str();
                for (_, backend) in slice.ready().filter(|(ip, _)| *ip == address) {
                    let service = slice.service().unwrap_or_default();
                    names.extend(self.below(&[&backend.label(address), service, namespace, "svc"]));
                }
            }
            names.dedup();
        }
        if names.is_empty() {
            return Found::Foreign;
        }
        self.only(name, qtype, names.into_iter().take(MAX_RECORDS).map(Data::Ptr).collect())
    }

    fn below(&self, labels: &[&str]) -> Option<Name> {
        Name::from_labels(labels.iter().copied().chain(self.labels.iter().map(String::as_str)))
    }

    fn record(&self, name: &Name, data: Data) -> Record {
        Record { name: name.clone(), ttl: self.ttl, data }
    }

    /// Those of the data that are of the asked type.
    fn only(&self, name: &Name, qtype: u16, data: Vec<Data>) -> Found {
        let answers = data.into_iter().filter(|data| is_of(data, qtype));
        let answers = answers.map(|data| self.record(name, data)).collect();
        Found::Records { answers, additionals: Vec::new() }
    }
}

fn nothing() -> Found {
    Found::Records { answers: Vec::new(), additionals: Vec::new() }
}

fn is_of(data: &Data, qtype: u16) -> bool {
    let own = match data {
        Data::Address(IpAddr::V4(_)) => code::A,
        Data::Address(IpAddr::V6(_)) => code::AAAA,
        Data::Ptr(_) => code::PTR,
        Data::Txt(_) => code::TXT,
        Data::Cname(_) => code::CNAME,
        Data::Ns(_) => code::NS,
        Data::Srv { .. } => code::SRV,
        Data::Soa { .. } => code::SOA,
    };
    qtype == own || qtype == code::ANY
}

/// The address in the name of a pod: `10-42-0-5`, or `fd00--5` for IPv6.
fn dashed(label: &str) -> Option<IpAddr> {
    if label.matches('-').count() == 3 && !label.contains("--") {
        return label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// The address in a name of the reverse tree.
fn arpa_address(labels: &[String]) -> Option<IpAddr> {
    match labels {
        [digits @ .., tree, arpa] if arpa == "arpa" => match tree.as_str() {
            "in-addr" if digits.len() == 4 => {
                let text: Vec<&str> = digits.iter().rev().map(String::as_str).collect();
                text.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
            }
            "ip6" if digits.len() == 32 => {
                let nibble = |digit: &String| (digit.len() == 1).then(|| u128::from_str_radix(digit, 16).ok())?;
                let bits = digits.iter().rev().try_fold(0_u128, |bits, digit| Some(bits << 4 | nibble(digit)?))?;
                Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
