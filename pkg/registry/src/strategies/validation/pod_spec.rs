//! The spec of a pod, of its own or in a template.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;

use super::container::{self, Pod};
use super::{At, Report, dns, operating_system, resources, scalar, scheduling, security, selector, volume};

/// What surrounds the spec.
#[derive(Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// A pod of this name.
    Pod(&'a str),
    Template,
}

/// Everything that can be wrong with a pod spec.
pub(crate) fn pod_spec(at: &At<'_>, owner: Owner<'_>, errors: &mut ErrorList) {
    let grace = at.child("terminationGracePeriodSeconds");
    if !grace.is_set() {
        errors.push(grace.required(""));
    }
    let name = if let Owner::Pod(name) = owner { name } else { "" };
    let volumes = volume::volumes(&at.child("volumes"), name, errors);
    let claims = resource_claims(&at.child("resourceClaims"), errors);
    let pod = Pod {
        volumes,
        claims,
        grace: grace.int(),
        restart_policy: at.child("restartPolicy").text(),
        host_users: at.child("hostUsers").flag() != Some(false),
    };
    let containers = at.child("containers");
    container::containers(&containers, &pod, errors);
    container::init_containers(&at.child("initContainers"), &containers, &pod, errors);
    container::ephemeral_containers(&at.child("ephemeralContainers"), at, &pod, errors);
    let own = at.child("resources");
    if own.is_set() {
        resources::requirements(&own, &pod.claims, errors);
    }
    host_network_ports(at, owner, errors);
    errors.need_one_of(&at.child("restartPolicy"), &["Always", "OnFailure", "Never"]);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.need_one_of(&at.child("dnsPolicy"), &policies);
    selector::labels(&at.child("nodeSelector"), errors);
    security::pod(at, errors);
    scheduling::affinity(&at.child("affinity"), errors);
    dns::policy(at, errors);
    for gate in at.child("readinessGates").items() {
        let kind = gate.child("conditionType");
        errors.complaints(&kind, names::is_qualified_name(kind.text()));
    }
    scheduling_gates(&at.child("schedulingGates"), errors);
    scheduling::spread_constraints(&at.child("topologySpreadConstraints"), errors);
    operating_system::host_process(at, errors);
    host_users(at, errors);
    names_and_numbers(at, errors);
    scheduling::tolerations(&at.child("tolerations"), errors);
    for alias in at.child("hostAliases").items() {
        let ip = alias.child("ip");
        errors.complaints(&ip, scalar::unambiguous_ip(ip.text()).map(str::to_owned).into_iter().collect());
        for host in alias.child("hostnames").items() {
            errors.complaints(&host, names::is_dns1123_subdomain(host.text()));
        }
    }
    operating_system::operating_system(at, errors);
}

fn names_and_numbers(at: &At<'_>, errors: &mut ErrorList) {
    hostname_override(at, errors);
    for field in ["serviceAccountName", "nodeName"] {
        errors.name(&at.child(field), names::is_dns1123_subdomain);
    }
    errors.range(&at.child("activeDeadlineSeconds"), 1, i64::from(i32::MAX));
    for field in ["hostname", "subdomain"] {
        errors.name(&at.child(field), names::is_dns1123_label);
    }
    for field in ["priorityClassName", "runtimeClassName"] {
        errors.name(&at.child(field), names::is_dns1123_subdomain);
    }
    errors.one_of(&at.child("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
    for (name, amount) in at.child("overhead").entries() {
        resources::value(name, &amount, errors);
    }
}

fn hostname_override(at: &At<'_>, errors: &mut ErrorList) {
    let own = at.child("hostnameOverride");
    if !own.is_set() {
        return;
    }
    if at.child("setHostnameAsFQDN").is_true() {
        errors.push(own.forbidden("may not be specified when setHostnameAsFQDN is true"));
    }
    if at.child("hostNetwork").is_true() {
        errors.push(own.forbidden("may not be specified when hostNetwork is true"));
    }
    if own.text().len() > 64 {
        errors.push(Error::too_long(&own.path, 64));
    }
    errors.complaints(&own, names::is_dns1123_subdomain(own.text()));
}

/// Resource claims; returns their names.
fn resource_claims<'a>(at: &At<'a>, errors: &mut ErrorList) -> Vec<&'a str> {
    let mut known: Vec<&str> = Vec::new();
    for claim in at.items() {
        let name = claim.child("name");
        errors.need_name(&name, names::is_dns1123_label);
        if known.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        known.push(name.text());
        let (direct, template) = (claim.child("resourceClaimName"), claim.child("resourceClaimTemplateName"));
        if direct.is_set() == template.is_set() {
            let rule = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            let both = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
            errors.push(claim.invalid(if direct.is_set() { both } else { rule }));
        }
        for reference in [direct, template] {
            errors.name(&reference, names::is_dns1123_subdomain);
        }
    }
    known
}

fn host_network_ports(at: &At<'_>, owner: Owner<'_>, errors: &mut ErrorList) {
    if !at.child("hostNetwork").is_true() {
        return;
    }
    for port in at.child("containers").items().flat_map(|container| container.child("ports").items()) {
        let host = port.child("hostPort");
        let (wanted, inside) = (host.int().unwrap_or_default(), port.child("containerPort").int().unwrap_or_default());
        if (matches!(owner, Owner::Pod(_)) || wanted != 0) && wanted != inside {
            let rule = "must match `containerPort` when `hostNetwork` is true";
            errors.push(Error::invalid(&host.path, wanted, rule));
        }
    }
}

fn host_users(at: &At<'_>, errors: &mut ErrorList) {
    if at.child("hostUsers").flag() != Some(false) {
        return;
    }
    for (field, title) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if at.child(field).is_true() {
            errors.push(Error::forbidden(&at.path.child(title), "when `hostUsers` is false"));
        }
    }
}

fn scheduling_gates(at: &At<'_>, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for gate in at.items() {
        let name = gate.child("name").text();
        for complaint in names::is_qualified_name(name) {
            errors.push(Error::invalid(&gate.path, name, complaint));
        }
        if seen.contains(&name) {
            errors.push(Error::duplicate(&gate.path, name));
        }
        seen.push(name);
    }
}
