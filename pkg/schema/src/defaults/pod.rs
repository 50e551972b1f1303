//! Pods, their containers and probes.

use super::Hook::{self, After, Before};
use super::core::keep_first;
use super::object::{
    Object, child, children, fill, flag, if_absent, if_empty, if_zero, is_absent, is_empty, make, text,
};
use kedge_meta::quantity::Quantity;
use serde_json::{Map, Value, json};

pub(super) const HOOKS: &[Hook] = &[
    Before("api.core.v1.Pod", pod),
    After("api.core.v1.Pod", grace_period),
    Before("api.core.v1.PodSpec", pod_spec),
    After("api.core.v1.PodSpec", service_account),
    After("api.core.v1.PodStatus", |status| keep_first(status, "podIP", "podIPs", |ip| json!({"ip": ip}))),
    Before("api.core.v1.Container", container),
    Before("api.core.v1.EphemeralContainer", container),
    Before("api.core.v1.Probe", probe),
    Before("api.core.v1.HTTPGetAction", http_get),
    Before("api.core.v1.ObjectFieldSelector", |selector| if_empty(selector, "apiVersion", "v1")),
];

const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

fn pod(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    for list in CONTAINER_LISTS {
        for container in children(spec, list) {
            let Some(resources) = child(container, "resources") else { continue };
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { continue };
            if let Some(requests) = make(resources, "requests") {
                fill(requests, &limits);
            }
        }
    }
    pod_level_resources(spec);
    if_absent(spec, "enableServiceLinks", true);
    if flag(spec, "hostNetwork") {
        for list in CONTAINER_LISTS {
            for container in children(spec, list) {
                for port in children(container, "ports") {
                    let number = port.get("containerPort").cloned().unwrap_or(Value::Null);
                    if_zero(port, "hostPort", number);
                }
            }
        }
    }
}

/// What a pod asks for as a whole follows from its containers and from its own limits.
fn pod_level_resources(spec: &mut Object) {
    let Some(resources) = spec.get("resources").and_then(Value::as_object) else { return };
    let list = |key: &str| resources.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let (mut limits, mut requests) = (list("limits"), list("requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, amount) in aggregate(spec, "limits") {
        if name.starts_with("hugepages-") && !requests.contains_key(&name) && !limits.contains_key(&name) {
            limits.insert(name, Value::String(amount.to_string()));
        }
    }
    if !limits.is_empty() {
        for (name, amount) in aggregate(spec, "requests") {
            // Huge pages cannot be overcommitted, so they only follow from limits.
            if matches!(name.as_str(), "cpu" | "memory") && !requests.contains_key(&name) {
                requests.insert(name, Value::String(amount.to_string()));
            }
        }
        for (name, limit) in &limits {
            let supported = matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-");
            if supported && !requests.contains_key(name) {
                requests.insert(name.clone(), limit.clone());
            }
        }
    }
    let Some(resources) = child(spec, "resources") else { return };
    for (key, map) in [("limits", limits), ("requests", requests)] {
        if !map.is_empty() {
            resources.insert(key.to_string(), Value::Object(map));
        }
    }
}

/// The sum over containers and restartable init containers, or the largest step of initialisation if that is more.
fn aggregate(spec: &Object, key: &str) -> Vec<(String, Quantity)> {
    let containers = |list: &str| spec.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut total: Vec<(String, Quantity)> = Vec::new();
    for container in containers("containers") {
        add(&mut total, &amounts(container, key));
    }
    let mut running: Vec<(String, Quantity)> = Vec::new();
    let mut peak: Vec<(String, Quantity)> = Vec::new();
    for container in containers("initContainers") {
        let own = amounts(container, key);
        let mut step = running.clone();
        add(&mut step, &own);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut total, &own);
            running.clone_from(&step);
        }
        raise(&mut peak, &step);
    }
    raise(&mut total, &peak);
    total
}

fn amounts(container: &Value, key: &str) -> Vec<(String, Quantity)> {
    let list = container.pointer("/resources").and_then(|resources| resources.get(key)).and_then(Value::as_object);
    let entries = list.into_iter().flat_map(Map::iter);
    entries.filter_map(|(name, text)| Some((name.clone(), Quantity::parse(text.as_str()?).ok()?))).collect()
}

fn add(total: &mut Vec<(String, Quantity)>, amounts: &[(String, Quantity)]) {
    for (name, amount) in amounts {
        match total.iter_mut().find(|(other, _)| other == name) {
            Some((_, sum)) => *sum = sum.add(amount),
            None => total.push((name.clone(), *amount)),
        }
    }
}

fn raise(total: &mut Vec<(String, Quantity)>, amounts: &[(String, Quantity)]) {
    for (name, amount) in amounts {
        match total.iter_mut().find(|(other, _)| other == name) {
            Some((_, sum)) if *sum < *amount => *sum = *amount,
            Some(_) => {}
            None => total.push((name.clone(), *amount)),
        }
    }
}

fn grace_period(object: &mut Object) {
    if let Some(spec) = child(object, "spec")
        && spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0)
    {
        spec.insert("terminationGracePeriodSeconds".into(), json!(1));
    }
}

fn pod_spec(spec: &mut Object) {
    if_empty(spec, "dnsPolicy", "ClusterFirst");
    if_empty(spec, "restartPolicy", "Always");
    if_absent(spec, "securityContext", json!({}));
    if_absent(spec, "terminationGracePeriodSeconds", 30);
    if_empty(spec, "schedulerName", "default-scheduler");
}

/// The old name of the field always shows the same.
fn service_account(spec: &mut Object) {
    if is_empty(spec, "serviceAccountName") {
        if let Some(name) = spec.get("serviceAccount").filter(|name| name.is_string()).cloned()
            && !is_empty(spec, "serviceAccount")
        {
            spec.insert("serviceAccountName".into(), name);
        }
    } else if let Some(name) = spec.get("serviceAccountName").cloned() {
        spec.insert("serviceAccount".into(), name);
    }
}

fn container(container: &mut Object) {
    if is_empty(container, "imagePullPolicy") {
        let policy = pull_policy(text(container, "image"));
        container.insert("imagePullPolicy".into(), policy.into());
    }
    if_empty(container, "terminationMessagePath", "/dev/termination-log");
    if_empty(container, "terminationMessagePolicy", "File");
}

/// `Always` for what is or defaults to the tag `latest`.
pub(super) fn pull_policy(image: &str) -> &'static str {
    if image_tag(image) == "latest" { "Always" } else { "IfNotPresent" }
}

/// The tag of an image reference: `latest` where neither tag nor digest is given, empty if the reference is malformed.
fn image_tag(image: &str) -> &str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match name[last..].split_once(':') {
        Some((head, tag)) => (&name[..last + head.len()], Some(tag)),
        None => (name, None),
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good_tag = tag.is_none_or(|tag| {
        tag.len() <= 128
            && tag.bytes().next().is_some_and(word)
            && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
    });
    let good_digest = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    });
    if !good_repository(path) || !good_tag || !good_digest {
        return "";
    }
    match (tag, digest) {
        (Some(tag), _) => tag,
        (None, Some(_)) => "",
        (None, None) => "latest",
    }
}

/// Lower-case path parts; the first one may be a host, which may have capitals and a port.
fn good_repository(path: &str) -> bool {
    let mut parts = path.split('/').peekable();
    let first = path.split('/').next().unwrap_or_default();
    let is_host =
        path.contains('/') && (first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase());
    if is_host {
        parts.next();
        if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)) {
            return false;
        }
    }
    let good = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().next().is_some_and(plain)
            && part.bytes().last().is_some_and(plain)
            && part.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'))
    };
    parts.peek().is_some() && parts.all(good)
}

fn probe(probe: &mut Object) {
    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if_zero(probe, key, value);
    }
    // A gRPC probe without a service asks for the empty one.
    if let Some(grpc) = child(probe, "grpc")
        && is_absent(grpc, "service")
    {
        grpc.insert("service".into(), "".into());
    }
}

fn http_get(action: &mut Object) {
    if_empty(action, "path", "/");
    if_empty(action, "scheme", "HTTP");
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use super::*;

    fn defaulted(mut value: Value) -> Value {
        apply("", "v1", "Pod", &mut value);
        value
    }

    #[test]
    fn a_bare_pod_is_completed() {
        let pod = defaulted(json!({"spec": {"serviceAccountName": "x", "containers": [
            {"name": "c", "image": "busybox", "ports": [{"containerPort": 80}],
             "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 80}},
             "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}}));
        assert_eq!(
            pod["spec"],
            json!({"serviceAccountName": "x", "serviceAccount": "x", "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always", "securityContext": {}, "terminationGracePeriodSeconds": 30,
                "schedulerName": "default-scheduler", "enableServiceLinks": true, "containers": [
                {"name": "c", "image": "busybox", "imagePullPolicy": "Always",
                 "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                 "ports": [{"containerPort": 80, "protocol": "TCP"}],
                 "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                 "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                 "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}}]}]})
        );
    }

    #[test]
    fn host_network_takes_host_ports() {
        let pod = defaulted(json!({"spec": {"hostNetwork": true, "containers": [{"ports": [
            {"containerPort": 80}, {"containerPort": 81, "hostPort": 90}]}]}}));
        assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
        assert_eq!(pod["spec"]["containers"][0]["ports"][1]["hostPort"], 90);
    }

    #[test]
    fn templates_do_not_copy_limits() {
        let mut value =
            json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}}}});
        apply("apps", "v1", "Deployment", &mut value);
        assert!(value["spec"]["template"]["spec"]["containers"][0]["resources"].get("requests").is_none());
        assert!(value["spec"]["template"]["spec"].get("enableServiceLinks").is_none());
        assert_eq!(value["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    }

    #[test]
    fn tags_decide_the_pull_policy() {
        let digest = format!("a/b@sha256:{}", "0".repeat(64));
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("localhost:5000/a", "Always"),
            ("localhost:5000/a:b", "IfNotPresent"),
            (digest.as_str(), "IfNotPresent"),
            ("", "IfNotPresent"),
            ("UPPER", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn a_pods_own_resources_follow_from_its_containers() {
        let pod = defaulted(json!({"spec": {"resources": {"limits": {"cpu": "4", "memory": "1Gi"}}, "containers": [
            {"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "500m"}}}],
            "initContainers": [{"resources": {"requests": {"cpu": "2"}}}]}}));
        assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu": "2", "memory": "1Gi"}));
    }
}
