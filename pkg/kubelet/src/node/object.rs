//! The Node object: built purely from what is known, and compared with what the API has.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_base::time::rfc3339;
use kedge_cri::v1::{Image, StatusResponse};
use kedge_meta::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::conditions;
use super::machine::{MachineInfo, architecture};
use crate::config::KubeletConfig;
use crate::eviction::Pressure;
use crate::runtime::Health;

/// Upstream's `nodeStatusMaxImages` and its limit for names of one image.
const MAX_IMAGES: usize = 50;
const MAX_IMAGE_NAMES: usize = 5;
const KUBELET_PORT: u16 = 10250;

/// What the object is made of.
pub(super) struct Inputs {
    pub(super) config: KubeletConfig,
    pub(super) info: Arc<MachineInfo>,
    pub(super) health: Health,
    pub(super) pleg_age: Option<Duration>,
    pub(super) pressure: Pressure,
    pub(super) images: Vec<Image>,
    /// What the runtime says about its handlers and itself; older ones say nothing.
    pub(super) runtime: StatusResponse,
    /// Attached volumes that pods have; `None` while it is not known.
    pub(super) volumes_in_use: Option<Vec<String>>,
    pub(super) now: Timestamp,
}

/// The labels that every node has, whatever it was registered with.
fn default_labels(inputs: &Inputs) -> Map<String, Value> {
    let hostname = &inputs.config.node_name;
    let labels = [
        ("beta.kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("kubernetes.io/hostname", hostname),
        ("kubernetes.io/os", "linux"),
    ];
    labels.map(|(key, value)| (key.to_string(), json!(value))).into_iter().collect()
}

/// Labels of the user's that say what the node is: they replace those that every node has, and are kept up to date as they are.
const DESCRIBING: [&str; 6] = [
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

/// The labels that a node has whenever it is started.
pub(super) fn lasting_labels(inputs: &Inputs) -> Map<String, Value> {
    let own = inputs.config.node_labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    with_own(default_labels(inputs), own)
}

fn with_own<'a>(mut labels: Map<String, Value>, own: impl Iterator<Item = (&'a str, &'a str)>) -> Map<String, Value> {
    for (key, value) in own {
        if labels.contains_key(key) || DESCRIBING.contains(&key) {
            labels.insert(key.to_owned(), json!(value));
        }
    }
    labels
}

/// What this kubelet can do that others may not, by the names that upstream's declare, sorted.
const DECLARED: [&str; 2] = ["InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers"];

/// What says that controllers attach volumes, which all nodes of today leave to them.
pub(super) const ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// The object to create.
pub(super) fn node(inputs: &Inputs) -> Value {
    let mut labels = default_labels(inputs);
    labels.extend(inputs.config.node_labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    let taints: Vec<Value> = inputs
        .config
        .node_taints
        .iter()
        .map(|taint| {
            let mut value = json!({"key": taint.key, "effect": taint.effect});
            if !taint.value.is_empty() {
                value["value"] = json!(taint.value);
            }
            value
        })
        .collect();
    let mut spec = json!({});
    if !taints.is_empty() {
        spec["taints"] = json!(taints);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": inputs.config.node_name,
            "labels": labels,
            "annotations": {ATTACH: "true"},
        },
        "spec": spec,
        "status": status(inputs, &Value::Null),
    })
}

/// The status as it should be; `have` is the one of the API, for what must not change without need.
pub(super) fn status(inputs: &Inputs, have: &Value) -> Value {
    let Inputs { config, info, health, .. } = inputs;
    let now = rfc3339(inputs.now);
    let port = config.serving.as_ref().map_or(KUBELET_PORT, |s| s.address.port());
    let version = if health.version.is_empty() { "Unknown" } else { &health.version };
    let bytes = |n: i64| Quantity::from_bytes(n).to_string();
    // The kernel counts memory in kilobytes, and so does the status.
    let kilobytes = |n: i64| format!("{}Ki", n / 1024);
    let mut capacity = json!({
        "cpu": info.cpus.to_string(),
        "memory": kilobytes(info.memory),
        "ephemeral-storage": kilobytes(info.ephemeral_storage),
        "pods": config.args.max_pods.to_string(),
    });
    let mut allocatable = json!({
        "cpu": info.cpus.to_string(),
        "memory": kilobytes(info.allocatable_memory()),
        "ephemeral-storage": info.allocatable_storage().to_string(),
        "pods": config.args.max_pods.to_string(),
    });
    for (size, amount) in &info.hugepages {
        let name = format!("hugepages-{size}");
        capacity[&name] = json!(bytes(*amount));
        allocatable[&name] = json!(bytes(*amount));
    }
    let mut status = json!({
        "addresses": addresses(config),
        "allocatable": allocatable,
        "capacity": capacity,
        "conditions": conditions::all(health, inputs.pleg_age, inputs.pressure, &have["conditions"], &now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "images": images(&inputs.images),
        "nodeInfo": {
            "architecture": architecture(),
            "bootID": info.boot_id,
            "containerRuntimeVersion": format!("{}://{version}", health.name),
            "kernelVersion": info.kernel_version,
            "kubeProxyVersion": "",
            "kubeletVersion": config.version,
            "machineID": info.machine_id,
            "operatingSystem": "linux",
            "osImage": info.os_image,
            "systemUUID": info.system_uuid,
        },
    });
    status["declaredFeatures"] = json!(DECLARED);
    set_swap(&mut status["nodeInfo"], &have["nodeInfo"], info.swap);
    let handlers = handlers(&inputs.runtime);
    if !handlers.is_empty() {
        status["runtimeHandlers"] = json!(handlers);
    }
    if let Some(volumes) = &inputs.volumes_in_use {
        status["volumesInUse"] = json!(volumes);
    }
    if let Some(features) = &inputs.runtime.features {
        status["features"] = json!({"supplementalGroupsPolicy": features.supplemental_groups_policy});
    }
    status
}

/// A node without swap says nothing about it. What the API has of another time is taken away: the patch merges.
fn set_swap(node_info: &mut Value, have: &Value, swap: i64) {
    if swap != 0 {
        node_info["swap"] = json!({ "capacity": swap });
    } else if have.get("swap").is_some() {
        node_info["swap"] = Value::Null;
    }
}

fn handlers(runtime: &StatusResponse) -> Vec<Value> {
    let mut list: Vec<Value> = runtime
        .runtime_handlers
        .iter()
        .map(|handler| {
            let features = handler.features.unwrap_or_default();
            json!({"name": handler.name, "features": {
                "recursiveReadOnlyMounts": features.recursive_read_only_mounts,
                "userNamespaces": features.user_namespaces,
            }})
        })
        .collect();
    list.sort_by_key(|handler| handler["name"].as_str().unwrap_or_default().to_string());
    list
}

fn addresses(config: &KubeletConfig) -> Vec<Value> {
    let mut list: Vec<Value> =
        config.node_ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()})).collect();
    list.push(json!({"type": "Hostname", "address": config.node_name}));
    list
}

/// The largest images, each with its digests first and its tags then.
fn images(all: &[Image]) -> Vec<Value> {
    let mut sorted: Vec<&Image> = all.iter().collect();
    sorted.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let shown = sorted.into_iter().take(MAX_IMAGES).filter_map(|image| {
        let names = image.repo_digests.iter().chain(&image.repo_tags);
        let names: Vec<&String> = names.filter(|n| !n.contains("<none>")).take(MAX_IMAGE_NAMES).collect();
        (!names.is_empty()).then(|| json!({"names": names, "sizeBytes": image.size}))
    });
    shown.collect()
}

/// The patch to send: everything that differs, or, when a report is `due`, the conditions at least.
pub(super) fn patch(have: &Value, want: &Value, due: bool) -> Option<Value> {
    let mut status = Map::new();
    for (name, value) in want.as_object().into_iter().flatten() {
        let same = match name.as_str() {
            "conditions" => !due && same_conditions(&have[name], value),
            _ => have.get(name) == Some(value) || (is_empty(value) && have.get(name).is_none()),
        };
        if same {
            continue;
        }
        let value = match (name.as_str(), value) {
            // This list merges by type in a strategic merge patch, so that an address that is gone would stay.
            ("addresses", Value::Array(items)) => {
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(items.iter().cloned());
                Value::Array(list)
            }
            _ => value.clone(),
        };
        status.insert(name.clone(), value);
    }
    (!status.is_empty()).then(|| json!({"status": status}))
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// Whether they say the same; when they were last confirmed does not count.
fn same_conditions(have: &Value, want: &Value) -> bool {
    let compared = ["status", "reason", "message"];
    want.as_array().into_iter().flatten().all(|new| {
        let old = have.as_array().into_iter().flatten().find(|c| c["type"] == new["type"]);
        old.is_some_and(|old| compared.iter().all(|name| old[name] == new[name]))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_is_sent_when_nothing_changed_but_the_heartbeat() {
        let have = json!({"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "1"}, {"type": "Other"}],
            "capacity": {"cpu": "1"}});
        let want = json!({"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2"}],
            "capacity": {"cpu": "1"}, "images": []});
        assert_eq!(patch(&have, &want, false), None);
        assert!(patch(&have, &want, true).unwrap()["status"].get("conditions").is_some());
        let more = json!({"addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]});
        let sent = patch(&have, &more, false).unwrap();
        assert_eq!(sent["status"]["addresses"][0], json!({"$patch": "replace"}));
    }

    /// A host name given as a label was replaced by the node's name at the second start.
    #[test]
    fn the_users_labels_stay_in_place_of_the_defaults() {
        let defaults = Map::from_iter([("kubernetes.io/hostname".to_owned(), json!("node"))]);
        let own = [("kubernetes.io/hostname", "h"), ("topology.kubernetes.io/zone", "z"), ("else", "x")];
        let expected = json!({"kubernetes.io/hostname": "h", "topology.kubernetes.io/zone": "z"});
        assert_eq!(Value::Object(with_own(defaults, own.into_iter())), expected);
    }

    #[test]
    fn swap_is_named_where_there_is_some() {
        let set = |have: Value, swap| {
            let mut info = json!({"machineID": "m"});
            set_swap(&mut info, &have, swap);
            info
        };
        assert_eq!(set(json!({}), 0), json!({"machineID": "m"}));
        assert_eq!(set(json!({"swap": {"capacity": 0}}), 0), json!({"machineID": "m", "swap": null}));
        assert_eq!(set(json!({}), 5)["swap"], json!({"capacity": 5}));
    }

    #[test]
    fn the_largest_images_are_named_by_digest_and_tag() {
        let image = |id: &str, size, tag: &str| Image {
            id: id.into(),
            size,
            repo_tags: vec![tag.into()],
            repo_digests: vec![format!("{tag}@sha256:1")],
            ..Default::default()
        };
        let none = Image { id: "x".into(), size: 9, ..Default::default() };
        let list = images(&[image("a", 1, "small"), image("b", 5, "large"), none]);
        assert_eq!(list[0], json!({"names": ["large@sha256:1", "large"], "sizeBytes": 5}));
        assert_eq!(list.len(), 2);
    }
}
