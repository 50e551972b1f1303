//! What of the cluster's addresses and node ports a service takes, by upstream's rules. It goes back by itself unless it is kept.

use std::net::IpAddr;

use kedge_meta::Status;
use kedge_meta::field::{Error, Path};
use serde_json::{Value, json};

use super::super::allocators::{Family, Refused, Source, State, cluster_ips, may_have_node_ports, service_ports};
use super::service::{needs_address, needs_health_port, needs_ports, refused};
use super::service_families::{families, keeps_what_it_prefers};
use crate::value::ValueExt;

/// Addresses taken for a service that is being written.
pub(super) struct TakenAddresses<'a> {
    state: &'a State,
    ips: Vec<IpAddr>,
    /// The ServiceCIDRs that they were taken from.
    sources: Vec<Source>,
}

impl<'a> TakenAddresses<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state, ips: Vec::new(), sources: Vec::new() }
    }

    pub(super) fn numbers(&self) -> &[IpAddr] {
        &self.ips
    }

    /// The ServiceCIDRs that must be what they were when the addresses are stored.
    pub(super) fn sources(&self) -> Vec<Source> {
        let mut sources: Vec<Source> = self.sources.iter().filter(|(key, _)| !key.is_empty()).cloned().collect();
        sources.sort();
        sources.dedup();
        sources
    }

    /// From now on somebody else gives them back.
    pub(super) fn keep(mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.ips)
    }

    /// Takes the addresses that the service needs, and writes them into it. Its families have been decided.
    pub(super) fn take(&mut self, new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        if !needs_address(new) || new.text(&["spec", "clusterIP"]) == "None" {
            return Ok(());
        }
        let families = families(new);
        // A service that had addresses takes none but a second one.
        let had = old.filter(|old| needs_address(old));
        let wanted = match had {
            None => 0..families.len(),
            Some(old) => {
                let headless = old.text(&["spec", "clusterIP"]) == "None";
                let grows = old.list(&["spec", "ipFamilies"]).len() < 2 && families.len() == 2;
                if headless || !grows || keeps_what_it_prefers(new, old) { 0..0 } else { 1..2 }
            }
        };
        let held: Vec<IpAddr> = old.map(|old| cluster_ips(old).collect()).unwrap_or_default();
        // As upstream's messages show those that are still to come.
        wanted.clone().for_each(|place| put(new, place, None));
        for place in wanted {
            let text =
                new.list(&["spec", "clusterIPs"]).get(place).and_then(Value::as_str).unwrap_or_default().to_owned();
            let ip = if text.is_empty() { self.any(families[place], new)? } else { self.named(&text, &held, new)? };
            put(new, place, Some(&ip));
        }
        let first = new.list(&["spec", "clusterIPs"]).first().cloned();
        if let (Some(first), None) = (first, had) {
            new.entry("spec").insert("clusterIP".into(), first);
        }
        Ok(())
    }

    fn any(&mut self, family: Family, service: &Value) -> Result<String, Status> {
        let full = |_| {
            let name = service.name();
            Status::internal(format!("failed to allocate a serviceIP for Service {name:?}: range is full"))
        };
        let (ip, source) = self.state.addresses.take_any(family).map_err(full)?;
        self.ips.push(ip);
        self.sources.push(source);
        Ok(ip.to_string())
    }

    /// Takes one that is asked for; it stays as it is written.
    fn named(&mut self, text: &str, held: &[IpAddr], service: &Value) -> Result<String, Status> {
        let ip: IpAddr = text.parse().map_err(|_| Status::internal(format!("failed to parse service IP {text:?}")))?;
        if held.contains(&ip) {
            return Ok(text.to_owned());
        }
        match self.state.addresses.take(ip) {
            Ok(source) => {
                self.ips.push(ip);
                self.sources.push(source);
                Ok(text.to_owned())
            }
            Err(why) => {
                let why = match why {
                    Refused::OutOfRange => "the provided network does not match the current range",
                    Refused::Taken | Refused::Full => "provided IP is already allocated",
                };
                let path = Path::new("spec").child("clusterIPs");
                let listed = service.list(&["spec", "clusterIPs"]);
                Err(refused(service, Error::invalid(&path, listed, format!("failed to allocate IP {text}: {why}"))))
            }
        }
    }
}

impl Drop for TakenAddresses<'_> {
    fn drop(&mut self) {
        self.ips.iter().for_each(|ip| self.state.addresses.release(*ip));
    }
}

/// Writes an address at its place in the list, or makes room for it.
fn put(service: &mut Value, place: usize, ip: Option<&str>) {
    let mut listed = service.list(&["spec", "clusterIPs"]).to_vec();
    while listed.len() <= place {
        listed.push(json!(""));
    }
    if let Some(ip) = ip {
        listed[place] = json!(ip);
    }
    service.entry("spec").insert("clusterIPs".into(), listed.into());
}

/// Node ports taken for a service that is being written.
pub(super) struct TakenPorts<'a> {
    state: &'a State,
    ports: Vec<u32>,
}

impl<'a> TakenPorts<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state, ports: Vec::new() }
    }

    pub(super) fn numbers(&self) -> &[u32] {
        &self.ports
    }

    /// From now on somebody else gives them back.
    pub(super) fn keep(mut self) -> Vec<u32> {
        std::mem::take(&mut self.ports)
    }

    /// Takes the ports that the service needs, and writes them into it.
    pub(super) fn take(&mut self, new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        self.take_named(new, old)?;
        if needs_ports(new) {
            self.take_any(new, old.is_none())?;
        }
        self.take_health_port(new, old)
    }

    /// What is asked for by number is taken first, so that nothing else gets it. A load balancer that wants no node ports still
    /// gets those.
    fn take_named(&mut self, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        let held: Vec<u32> = old.map(|o| service_ports(o).collect()).unwrap_or_default();
        let (low, high) = self.state.node_ports.range();
        for (i, port) in new.list(&["spec", "ports"]).iter().enumerate() {
            let number = port.int(&["nodePort"]).filter(|p| *p > 0).and_then(|p| u32::try_from(p).ok());
            let Some(number) = number else { continue };
            // One number may serve two protocols of the same service.
            if !may_have_node_ports(new) || held.contains(&number) || self.ports.contains(&number) {
                continue;
            }
            let why = match self.state.node_ports.take(number) {
                Ok(()) => {
                    self.ports.push(number);
                    continue;
                }
                Err(Refused::OutOfRange) => {
                    format!("provided port is not in the valid range. The range of valid ports is {low}-{high}")
                }
                Err(_) => "provided port is already allocated".to_owned(),
            };
            let path = Path::new("spec").child("ports").index(i).child("nodePort");
            return Err(refused(new, Error::invalid(&path, number, why)));
        }
        Ok(())
    }

    /// Ports without a number get one; in a new service those of one port and several protocols the same.
    fn take_any(&mut self, new: &mut Value, is_new: bool) -> Result<(), Status> {
        let Some(Value::Array(ports)) = new.entry("spec").get_mut("ports") else { return Ok(()) };
        let number_of = |port: &Value| port.int(&["nodePort"]).filter(|p| *p > 0);
        for i in 0..ports.len() {
            if number_of(&ports[i]).is_some() {
                continue;
            }
            let (port, protocol) = (ports[i].int(&["port"]), ports[i].text(&["protocol"]));
            let same = |other: &&Value| other.int(&["port"]) == port && number_of(other).is_some();
            let twin = ports.iter().find(same).filter(|twin| is_new && twin.text(&["protocol"]) != protocol);
            let number = match twin.and_then(number_of) {
                Some(number) => number,
                None => i64::from(self.any("failed to allocate a nodePort: range is full")?),
            };
            ports[i].set("nodePort", number);
        }
        Ok(())
    }

    fn any(&mut self, full: &str) -> Result<u32, Status> {
        let number = self.state.node_ports.take_any().map_err(|_| Status::internal(full))?;
        self.ports.push(number);
        Ok(number)
    }

    fn take_health_port(&mut self, new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let field = ["spec", "healthCheckNodePort"];
        // One that has a port keeps it: that it may not change is found later.
        if !needs_health_port(new) || old.is_some_and(|old| needs_health_port(old) && new.int(&field) > Some(0)) {
            return Ok(());
        }
        let number = match new.int(&field).filter(|port| *port > 0).and_then(|port| u32::try_from(port).ok()) {
            Some(number) => {
                let (low, high) = self.state.node_ports.range();
                let refused = |why| {
                    let why = match why {
                        Refused::OutOfRange => {
                            format!("provided port is not in the valid range. The range of valid ports is {low}-{high}")
                        }
                        Refused::Taken | Refused::Full => "provided port is already allocated".to_owned(),
                    };
                    Status::internal(format!("failed to allocate requested HealthCheck NodePort {number}: {why}"))
                };
                self.state.node_ports.take(number).map_err(refused)?;
                self.ports.push(number);
                number
            }
            None => self.any("failed to allocate a HealthCheck NodePort 0: range is full")?,
        };
        new.entry("spec").insert(field[1].into(), number.into());
        Ok(())
    }
}

impl Drop for TakenPorts<'_> {
    fn drop(&mut self) {
        self.ports.iter().for_each(|port| self.state.node_ports.release(*port));
    }
}
