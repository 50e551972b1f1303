//! Services: addresses and node ports are taken from the cluster's ranges.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::{GroupKind, Status, names};
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::allocators::{Addresses, NodePorts, cluster_ips, may_have_node_ports, service_ports};
use super::service_allocation::{TakenAddresses, TakenPorts};
use super::{service_address_rules, service_families, service_update, service_validation};
use crate::registry::Registry;
use crate::strategy::{Context, Look, Reservation, Strategy, masked};
use crate::value::ValueExt;

pub(crate) struct Service;

impl Strategy for Service {
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::is_dns1123_label(&masked(name, prefix))
    }

    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _ctx: &Context<'_>, service: &mut Value) {
        service.set("status", json!({ "loadBalancer": {} }));
        service_update::one_address_in_both_fields(service, None);
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        if ctx.subresource != "status" {
            service_update::keep(new, old);
            service_update::one_address_in_both_fields(new, Some(old));
            service_update::drop_what_the_type_had(new, old);
        }
    }

    fn validate(&self, _ctx: &Context<'_>, service: &Value) -> ErrorList {
        service_validation::validate(service)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = service_address_rules::validate_changes(new, old);
        errors.extend(service_validation::validate_changes(new, old));
        errors.extend(service_validation::validate(new));
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        service_validation::validate_load_balancer(new)
    }

    fn look<'a>(&self, ctx: &'a Context<'_>, new: &Value) -> Option<Look<'a>> {
        // Of node ports there is a record that other servers keep, too, which is in no cache.
        let needed = ctx.subresource != "status" && may_have_node_ports(new);
        let state = &ctx.registry.state;
        needed.then(|| -> Look<'a> {
            Box::pin(async move { state.node_ports.refresh().await.map_err(crate::verbs::store_failure) })
        })
    }

    fn reserve(&self, ctx: &Context<'_>, new: &mut Value, old: Option<&Value>) -> Result<Reservation, Status> {
        if ctx.subresource == "status" {
            return Ok(Reservation::none());
        }
        let state = &ctx.registry.state;
        let families = service_families::decide(new, old, &state.addresses.families());
        families.map_err(|errors| refusal(new, &errors))?;
        // What is taken goes back by itself when anything fails from here on.
        let mut addresses = TakenAddresses::new(state);
        let mut ports = TakenPorts::new(state);
        addresses.take(new, old)?;
        ports.take(new, old)?;
        let mut claims = Addresses::claims(addresses.numbers(), new, ctx.now).map_err(Status::internal)?;
        claims.extend(NodePorts::claims(ports.numbers(), new, ctx.now).map_err(Status::internal)?);
        // What the old service had and the new one does not is given back in the same transaction.
        let (ips, numbers): (Vec<_>, Vec<u32>) = (cluster_ips(new).collect(), service_ports(new).collect());
        let lost_ips = old.into_iter().flat_map(cluster_ips).filter(|ip| !ips.contains(ip));
        let mut lost: Vec<u32> = old.into_iter().flat_map(service_ports).filter(|p| !numbers.contains(p)).collect();
        lost.sort_unstable();
        lost.dedup();
        let releases = lost_ips.map(Addresses::key).chain(lost.iter().copied().map(NodePorts::key)).collect();
        let (unchanged, amend) = (addresses.sources(), state.node_ports.entry(ports.numbers().to_vec(), lost));
        // From the moment on that the claims are stored, they speak for themselves.
        let registry = ctx.registry.shared_state();
        let (held_ips, held_ports) = (addresses.keep(), ports.keep());
        let settle = move |_| {
            held_ips.iter().for_each(|ip| registry.addresses.release(*ip));
            held_ports.iter().for_each(|port| registry.node_ports.release(*port));
        };
        let mut reservation = Reservation::new(settle);
        (reservation.claims, reservation.releases) = (claims, releases);
        (reservation.unchanged, reservation.amend) = (unchanged, amend);
        Ok(reservation)
    }

    fn releases(&self, registry: &Registry, service: &Value) -> Reservation {
        let ports = service_ports(service).map(NodePorts::key);
        let mut reservation = Reservation::none();
        reservation.releases = cluster_ips(service).map(Addresses::key).chain(ports).collect();
        reservation.amend = registry.state.node_ports.returned_of(service);
        reservation
    }
}

/// What a client is told of fields that cannot be as they are.
pub(super) fn refusal(service: &Value, errors: &ErrorList) -> Status {
    Status::invalid(&GroupKind::new("", "Service"), service.name(), errors)
}

pub(super) fn refused(service: &Value, error: Error) -> Status {
    refusal(service, &vec![error])
}

/// All do but those that are only another name: what has a type that there is not is refused for that alone.
pub(super) fn needs_address(service: &Value) -> bool {
    service.text(&["spec", "type"]) != "ExternalName"
}

pub(super) fn needs_ports(service: &Value) -> bool {
    match service.text(&["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => service.flag(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false),
        _ => false,
    }
}

/// Whether load balancers ask each node if it has endpoints.
pub(super) fn needs_health_port(service: &Value) -> bool {
    service.text(&["spec", "type"]) == "LoadBalancer" && service.text(&["spec", "externalTrafficPolicy"]) == "Local"
}
