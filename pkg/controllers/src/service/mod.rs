//! Where the traffic of services goes: EndpointSlices, and the older Endpoints objects.

mod endpoints;
mod endpointslice;
mod hints;
mod mirroring;
mod slices;
mod subsets;
mod trigger;

use std::net::IpAddr;
use std::sync::Arc;

use kedge_client::{Change, WorkQueue};
use kedge_meta::{ObjectKey, ObjectReference, resources};

use crate::context::Context;
use crate::objects::{IntOrString, Pod, Service, ServicePort};

/// Starts the three controllers.
pub fn start(ctx: &Context) {
    if ctx.runs("endpointslice-controller") {
        endpointslice::start(ctx);
    }
    let [makes, mirrors] = ["endpoints-controller", "endpointslice-mirroring-controller"].map(|name| ctx.runs(name));
    if makes || mirrors {
        let informer = ctx.informer(&resources::ENDPOINTS);
        if makes {
            endpoints::start(ctx, &informer);
        }
        if mirrors {
            mirroring::start(ctx, &informer);
        }
    }
}

const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

impl Service {
    /// Whether it has an address of its own.
    fn has_ip(&self) -> bool {
        !self.spec.cluster_ip.is_empty() && self.spec.cluster_ip != "None"
    }

    /// Whether its endpoints are for the controllers to find.
    fn is_selecting(&self) -> bool {
        !self.spec.selector.is_empty() && self.spec.kind != "ExternalName"
    }

    fn selects(&self, pod: &Pod) -> bool {
        self.is_selecting()
            && self.metadata.namespace == pod.metadata.namespace
            && pod.metadata.labels.contains_all(&self.spec.selector)
    }
}

/// Whether the pod can take traffic at all.
fn is_endpoint(pod: &Pod, include_terminating: bool) -> bool {
    let has_ip = !pod.status.pod_ip.is_empty() || !pod.status.pod_ips.is_empty();
    has_ip && !pod.is_terminal() && (include_terminating || !pod.metadata.is_deleting())
}

/// The addresses of a pod in one family.
fn addresses(pod: &Pod, v6: bool) -> Vec<String> {
    let all = pod.status.pod_ips.iter().map(|ip| &ip.ip);
    let single = Some(&pod.status.pod_ip).filter(|_| pod.status.pod_ips.is_empty());
    let parsed = all.chain(single).filter_map(|ip| ip.parse::<IpAddr>().ok());
    parsed.filter(|ip| ip.is_ipv6() == v6).map(|ip| ip.to_string()).collect()
}

/// The name under which a headless service shows the pod.
fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let shown = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name;
    shown.then(|| pod.spec.hostname.clone())
}

/// The port of the pod that a port of the service leads to.
fn find_port(pod: &Pod, port: &ServicePort) -> Option<i64> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(n)) => Some(*n),
        Some(IntOrString::String(name)) => {
            let sidecars = pod.spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
            let ports = pod.spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports);
            let same = |p: &&crate::objects::ContainerPort| {
                let protocol = if p.protocol.is_empty() { "TCP" } else { &p.protocol };
                p.name == *name && protocol == port.protocol
            };
            ports.into_iter().find(same).map(|p| p.container_port)
        }
    }
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference { api_version: String::new(), ..pod.reference() }
}

/// What of a pod its services care about.
fn projection(pod: &Pod) -> impl PartialEq {
    let owned = |s: &String| s.clone();
    (
        (owned(&pod.status.pod_ip), pod.status.pod_ips.clone(), owned(&pod.spec.node_name), pod.is_ready()),
        (pod.is_terminal(), pod.metadata.is_deleting(), pod.metadata.labels.clone()),
        (owned(&pod.spec.hostname), owned(&pod.spec.subdomain), owned(&pod.metadata.uid)),
    )
}

/// Queues the services that select a pod whenever something about it changes that they care about.
fn follow_pods(ctx: &Context, queue: &WorkQueue<ObjectKey>) {
    let (services, queue) = (ctx.services.clone(), queue.clone());
    ctx.pods.on_change(move |change: &Change<Pod>| {
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && projection(old) == projection(new)
        {
            return;
        }
        let pods: Vec<&Arc<Pod>> = change.old.iter().chain(&change.new).collect();
        for service in services.list_namespace(&change.key().namespace) {
            if pods.iter().any(|p| service.selects(p)) {
                queue.add(service.metadata.key());
            }
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}],
            "initContainers": [{"ports": [{"name": "init", "containerPort": 1, "protocol": "TCP"}]}],
        }}))
        .unwrap();
        let port = |target: serde_json::Value, protocol: &str| -> ServicePort {
            serde_json::from_value(json!({"port": 80, "targetPort": target, "protocol": protocol})).unwrap()
        };
        assert_eq!(find_port(&pod, &port(json!(99), "TCP")), Some(99));
        assert_eq!(find_port(&pod, &port(json!("http"), "TCP")), Some(8080));
        assert_eq!(find_port(&pod, &port(json!("http"), "UDP")), None);
        assert_eq!(find_port(&pod, &port(json!("init"), "TCP")), None, "it ends before the pod serves");
    }

    #[test]
    fn services_without_selector_select_nothing() {
        let mut service = Service::default();
        let pod = Pod::default();
        assert!(!service.selects(&pod));
        service.spec.selector.insert("a", "b");
        assert!(!service.selects(&pod));
    }
}
