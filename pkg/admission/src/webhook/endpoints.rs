//! Where services are, from the caches: one of their endpoints that are ready, as upstream's servers that route to endpoints themselves.

use std::sync::Arc;

use kedge_base::random;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Registry, endpoint_slices};
use kedge_webhook::{Services, Unresolved};
use serde_json::Value;

/// Finds services through their EndpointSlices.
pub struct ServiceEndpoints(pub Arc<Registry>);

impl Services for ServiceEndpoints {
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<String, Unresolved> {
        let failed = |err: &dyn std::fmt::Display| Unresolved(err.to_string());
        let service = crate::read(&self.0, ("", "services"), namespace, name).map_err(|err| failed(&err))?;
        let service = service.ok_or_else(|| Unresolved(format!("service {name:?} not found")))?;
        match service.text(&["spec", "type"]) {
            "" | "ClusterIP" | "NodePort" | "LoadBalancer" => {}
            "ExternalName" => return Ok(host_port(service.text(&["spec", "externalName"]), u64::from(port))),
            other => return Err(Unresolved(format!("unsupported service type {other:?}"))),
        }
        let ports = service.list(&["spec", "ports"]).iter();
        let wanted = ports.into_iter().find(|one| one.int(&["port"]) == Some(i64::from(port)));
        let wanted = wanted.ok_or_else(|| Unresolved(format!("no service port {port} found for service {name:?}")))?;
        let slices = endpoint_slices::of_service(&self.0, namespace, name).map_err(|err| failed(&err))?;
        let family = service.list(&["spec", "ipFamilies"]).first().and_then(Value::as_str).unwrap_or_default();
        // The addresses of the service's first family, before all others.
        let (own, others): (Vec<_>, Vec<_>) =
            slices.iter().partition(|slice| family.is_empty() || slice.text(&["addressType"]) == family);
        let ordered = from_any(&own).chain(from_any(&others));
        ordered
            .filter_map(|slice| endpoint(slice, wanted.text(&["name"])))
            .next()
            .ok_or_else(|| Unresolved(format!("no endpoints available for service {name:?}")))
    }
}

/// One that is ready, of those that have the port.
fn endpoint(slice: &Value, port: &str) -> Option<String> {
    let port = slice.list(&["ports"]).iter().find(|one| one.text(&["name"]) == port)?.int(&["port"])?;
    let port = u64::try_from(port).ok()?;
    let endpoints: Vec<&Value> = slice.list(&["endpoints"]).iter().collect();
    let ready = |endpoint: &&&Value| endpoint.flag(&["conditions", "ready"]) != Some(false);
    let ready = from_any(&endpoints).find(|endpoint| ready(&endpoint))?;
    let address = ready.list(&["addresses"]).first()?.as_str()?;
    Some(host_port(address, port))
}

fn host_port(host: &str, port: u64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// All elements once, from any of them on.
fn from_any<'a, T: Copy>(list: &'a [T]) -> impl Iterator<Item = T> + use<'a, T> {
    let first = usize::try_from(random::u64() % list.len().max(1) as u64).unwrap_or_default();
    list.iter().copied().cycle().skip(first).take(list.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_registry::endpoint_slices::SERVICE_NAME;
    use serde_json::json;

    fn service(name: &str, spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "a"}, "spec": spec})
    }

    fn slice(of: &str, name: &str, family: &str, endpoints: Value) -> Value {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": name, "namespace": "a", "labels": {SERVICE_NAME: of}},
            "ports": [{"name": "web", "port": 8443}, {"name": "other"}], "endpoints": endpoints})
    }

    #[tokio::test]
    async fn who_is_ready_serves() {
        let (registry, _) = testing::registry().await;
        let ports = json!([{"name": "web", "port": 443}, {"name": "other", "port": 80}]);
        testing::put(&registry, service("s", json!({"ports": ports, "ipFamilies": ["IPv6"]}))).await;
        testing::put(&registry, service("lone", json!({"ports": ports, "type": "NodePort"}))).await;
        testing::put(&registry, service("far", json!({"type": "ExternalName", "externalName": "example.com"}))).await;
        let four = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.2"]}]);
        testing::put(&registry, slice("s", "s-4", "IPv4", four)).await;
        let services = ServiceEndpoints(registry.clone());
        let found = |name: &str, port| services.resolve("a", name, port).map_err(|err| err.to_string());
        for _ in 0..20 {
            assert_eq!(found("s", 443).unwrap(), "10.0.0.2:8443");
        }
        let six = json!([{"addresses": ["fd00::1"], "conditions": {"ready": true}}]);
        testing::put(&registry, slice("s", "s-6", "IPv6", six)).await;
        assert_eq!(found("s", 443).unwrap(), "[fd00::1]:8443", "the family of the service goes first");
        assert_eq!(found("far", 8443).unwrap(), "example.com:8443");
        assert_eq!(found("s", 80).unwrap_err(), "no endpoints available for service \"s\"");
        assert_eq!(found("lone", 443).unwrap_err(), "no endpoints available for service \"lone\"");
        assert_eq!(found("s", 1).unwrap_err(), "no service port 1 found for service \"s\"");
        assert_eq!(found("none", 443).unwrap_err(), "service \"none\" not found");
    }
}
