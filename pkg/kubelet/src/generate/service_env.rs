//! Variables that name the services of a namespace, as links of old container engines did.

use kedge_client::Keyed;
use kedge_meta::ObjectMeta;
use serde::Deserialize;

/// What the kubelet reads of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct SlimService {
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    ports: Vec<SlimPort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SlimPort {
    name: String,
    port: i32,
    protocol: String,
}

impl Keyed for SlimService {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl SlimService {
    fn has_ip(&self) -> bool {
        !matches!(self.spec.cluster_ip.as_str(), "" | "None")
    }
}

/// The API server's own service is named in every pod, the others of the namespace only where links are on.
pub(crate) fn service_variables<'a>(
    services: impl Iterator<Item = &'a SlimService>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for service in services.filter(|s| s.has_ip()) {
        let (of, name) = (&service.metadata.namespace, &service.metadata.name);
        if (of == "default" && name == "kubernetes") || (of == namespace && links) {
            variables(service, &mut out);
        }
    }
    out
}

fn variables(service: &SlimService, out: &mut Vec<(String, String)>) {
    let name = service.metadata.name.to_uppercase().replace('-', "_");
    let host = &service.spec.cluster_ip;
    out.push((format!("{name}_SERVICE_HOST"), host.clone()));
    let ports = &service.spec.ports;
    if let Some(first) = ports.first() {
        out.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
    }
    for port in ports.iter().filter(|p| !p.name.is_empty()) {
        let suffix = port.name.to_uppercase().replace('-', "_");
        out.push((format!("{name}_SERVICE_PORT_{suffix}"), port.port.to_string()));
    }
    let joined = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    for (index, port) in ports.iter().enumerate() {
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        let url = format!("{}://{joined}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            out.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.push((prefix.clone(), url));
        out.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        out.push((format!("{prefix}_PORT"), port.port.to_string()));
        out.push((format!("{prefix}_ADDR"), host.clone()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_values() {
        let service = |ns: &str, name: &str| -> SlimService {
            serde_json::from_value(json!({"metadata": {"namespace": ns, "name": name},
                "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}))
            .unwrap()
        };
        let all = [service("default", "kubernetes"), service("ns", "my-db"), service("other", "x")];
        let with: Vec<_> = service_variables(all.iter(), "ns", true);
        assert!(with.contains(&("MY_DB_SERVICE_PORT_HTTPS".into(), "443".into())));
        assert!(with.contains(&("KUBERNETES_PORT_443_TCP".into(), "tcp://10.0.0.1:443".into())));
        assert_eq!(with.len(), 16);
        assert_eq!(service_variables(all.iter(), "ns", false).len(), 8);
    }
}
