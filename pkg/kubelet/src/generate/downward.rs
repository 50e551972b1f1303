//! The downward API: fields of a pod and resources of a container, for variables and for volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::limits::Machine;
use crate::pod::{Amount, PodExt, amount, limit_of, request_of};

/// What is known beside the pod's spec.
pub(crate) struct DownwardContext<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) pod_ips: &'a [String],
    pub(crate) host_ips: &'a [String],
    pub(crate) machine: &'a Machine,
}

/// Labels or annotations as the downward API writes them: one `key="value"` a line, by key.
pub(crate) fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// As Go's `strconv.Quote` does for printable text.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `metadata.labels['key']` → `("metadata.labels", "key")`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (field, rest) = path.split_once("['")?;
    Some((field, rest.strip_suffix("']")?))
}

/// Whether a volume may hold this field; addresses are only for variables.
pub(crate) fn supports_volume_field(path: &str) -> bool {
    path.starts_with("metadata.")
}

/// The value of a field.
///
/// # Errors
/// A message that names a path that is not supported.
pub(crate) fn field_value(context: &DownwardContext<'_>, path: &str) -> Result<String, String> {
    let pod = context.pod;
    let meta = &pod.metadata;
    if let Some((field, key)) = subscript(path) {
        let map = match field {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("invalid fieldPath with subscript {path:?}")),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let spec = PodExt::spec(pod);
    Ok(match path {
        "metadata.name" => pod.name().to_string(),
        "metadata.namespace" => pod.namespace().to_string(),
        "metadata.uid" => pod.uid().to_string(),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "spec.restartPolicy" => pod.restart_policy().to_string(),
        "status.hostIP" => context.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => context.host_ips.join(","),
        "status.podIP" => context.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => context.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// The value of a resource field, rounded up to multiples of the divisor. A limit that is not set is what the node has.
///
/// # Errors
/// A message that names a resource that is not supported.
pub(crate) fn resource_value(
    selector: &ResourceFieldSelector,
    container: &Container,
    machine: &Machine,
) -> Result<String, String> {
    let (list, resource) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let found = match list {
        "limits" => limit_of(container, resource).filter(|q| !q.is_zero()).or_else(|| machine.allocatable(resource)),
        "requests" => request_of(container, resource),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
    if !known {
        return Err(format!("unsupported container resource : {}", selector.resource));
    }
    let quantity = found.unwrap_or_else(|| Amount::from_value(0));
    let divisor = selector.divisor.as_ref().map(amount).filter(|d| !d.is_zero());
    let divisor = divisor.unwrap_or_else(|| Amount::from_value(1));
    let (value, unit) = if resource == "cpu" {
        (quantity.milli_value(), divisor.milli_value())
    } else {
        (quantity.value(), divisor.value())
    };
    let unit = unit.max(1);
    Ok((value / unit + i64::from(value % unit != 0)).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod_with;
    use serde_json::json;

    #[test]
    fn fields() {
        let meta = json!({"labels": {"b": "x\"y", "a": "1"}});
        let pod = pod_with(meta, json!({"containers": [], "nodeName": "n"}), json!({}));
        let machine = Machine::default();
        let ips = ["10.0.0.1".to_string(), "fd00::1".to_string()];
        let context = DownwardContext { pod: &pod, pod_ips: &ips, host_ips: &[], machine: &machine };
        let of = |path: &str| field_value(&context, path).unwrap();
        assert_eq!(of("metadata.labels['a']"), "1");
        assert_eq!(of("metadata.labels"), "a=\"1\"\nb=\"x\\\"y\"");
        assert_eq!((of("spec.nodeName"), of("status.podIPs")), ("n".into(), "10.0.0.1,fd00::1".into()));
        assert!(field_value(&context, "spec.x").is_err());
    }

    #[test]
    fn resources_round_up_and_fall_back_to_the_node() {
        let spec = json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "250m"}}}]});
        let pod = crate::pod::testing::pod(spec);
        let container = &PodExt::spec(&pod).containers[0];
        let machine = Machine { memory: 64 << 20, allocatable_memory: 32 << 20, ..Machine::default() };
        let of = |resource: &str, divisor: &str| {
            let selector: ResourceFieldSelector = ResourceFieldSelector {
                resource: resource.into(),
                divisor: Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity(divisor.into())),
                ..Default::default()
            };
            resource_value(&selector, container, &machine)
        };
        assert_eq!(of("limits.cpu", "0").unwrap(), "1");
        assert_eq!(of("limits.cpu", "1m").unwrap(), "250");
        assert_eq!(of("limits.memory", "1Mi").unwrap(), "32");
        assert_eq!(of("requests.memory", "1").unwrap(), "0");
        assert!(of("limits.gpu", "1").is_err());
    }
}
