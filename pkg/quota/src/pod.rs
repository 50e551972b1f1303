//! What a pod uses, and which scopes it is in.

use jiff::Timestamp;
use kedge_meta::quantity::Quantity;
use serde_json::Value;

use crate::amounts::{self, Amounts, add, max};
use crate::scope::{Requirement, selected};

/// What is counted of a container.
#[derive(Debug, Clone, Default)]
pub struct Container<'a> {
    pub name: &'a str,
    /// An init container that goes on running.
    pub sidecar: bool,
    pub requests: Amounts,
    pub limits: Amounts,
}

/// What is counted of a pod.
#[derive(Debug, Clone, Default)]
pub struct Pod<'a> {
    pub containers: Vec<Container<'a>>,
    pub init_containers: Vec<Container<'a>>,
    /// `spec.resources`: requests and limits of the pod as a whole.
    pub resources: Option<(Amounts, Amounts)>,
    pub overhead: Amounts,
    pub phase: &'a str,
    /// When it was to end, and the seconds that it had for it.
    pub deletion: Option<(Timestamp, i64)>,
    pub active_deadline_seconds: Option<i64>,
    pub priority_class: &'a str,
    /// Whether its affinity looks at pods of other namespaces.
    pub crosses_namespaces: bool,
}

/// Whether requests or limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Requests,
    Limits,
}

/// What a quota of cpu or memory demands of every container. Upstream calls it a mistake that is not to be repeated for others.
const DEMANDED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Names in quotas that are about pods.
const NAMES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(value, |value, field| value.get(field)).and_then(Value::as_str).unwrap_or_default()
}

impl<'a> Container<'a> {
    /// A container of a tree.
    pub fn of(value: &'a Value) -> Self {
        let resources = value.get("resources");
        let side = |field: &str| amounts::of(resources.and_then(|resources| resources.get(field)));
        Self {
            name: text(value, &["name"]),
            sidecar: text(value, &["restartPolicy"]) == "Always",
            requests: side("requests"),
            limits: side("limits"),
        }
    }

    fn side(&self, side: Side) -> &Amounts {
        if side == Side::Requests { &self.requests } else { &self.limits }
    }
}

impl<'a> Pod<'a> {
    /// A pod that is a tree.
    pub fn of(pod: &'a Value) -> Self {
        let spec = &pod["spec"];
        let containers =
            |field: &str| spec[field].as_array().into_iter().flatten().map(Container::of).collect::<Vec<_>>();
        let resources = spec.get("resources").filter(|resources| resources.is_object());
        let seconds = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
        let deletion = text(pod, &["metadata", "deletionTimestamp"]).parse().ok().zip(seconds);
        Self {
            containers: containers("containers"),
            init_containers: containers("initContainers"),
            resources: resources.map(|r| (amounts::of(r.get("requests")), amounts::of(r.get("limits")))),
            overhead: amounts::of(spec.get("overhead")),
            phase: text(pod, &["status", "phase"]),
            deletion,
            active_deadline_seconds: spec["activeDeadlineSeconds"].as_i64(),
            priority_class: text(spec, &["priorityClassName"]),
            crosses_namespaces: ["podAffinity", "podAntiAffinity"]
                .into_iter()
                .any(|kind| spec["affinity"].get(kind).is_some_and(crosses_namespaces)),
        }
    }

    /// What it asks for, with what its runtime needs.
    pub fn requests(&self) -> Amounts {
        let mut total = self.without_overhead(Side::Requests);
        add(&mut total, &self.overhead);
        total
    }

    /// What it is limited to, with what its runtime needs.
    pub fn limits(&self) -> Amounts {
        let mut total = self.without_overhead(Side::Limits);
        let limited = |name: &String| total.get(name).is_some_and(|limit| !limit.is_zero());
        let overhead = self.overhead.iter().filter(|(name, _)| limited(name));
        let overhead: Amounts = overhead.map(|(name, amount)| (name.clone(), *amount)).collect();
        add(&mut total, &overhead);
        total
    }

    /// Requests and limits of the pod itself, as limit ranges see them.
    pub fn own(&self) -> (Amounts, Amounts) {
        (self.without_overhead(Side::Requests), self.without_overhead(Side::Limits))
    }

    /// Containers that run at a time add up; one that runs before them counts if that is more; the pod's own word counts for what
    /// it names.
    fn without_overhead(&self, side: Side) -> Amounts {
        let mut total = Amounts::new();
        self.containers.iter().for_each(|c| add(&mut total, c.side(side)));
        let (mut sidecars, mut before) = (Amounts::new(), Amounts::new());
        for container in &self.init_containers {
            let mut at_once = container.side(side).clone();
            if container.sidecar {
                add(&mut total, &at_once);
                add(&mut sidecars, &at_once);
                at_once = sidecars.clone();
            } else {
                add(&mut at_once, &sidecars);
            }
            max(&mut before, &at_once);
        }
        max(&mut total, &before);
        if let Some((requests, limits)) = &self.resources {
            let own = if side == Side::Requests { requests } else { limits };
            let named = own.iter().filter(|(name, _)| is_supported_of_pods(name));
            total.extend(named.map(|(name, amount)| (name.clone(), *amount)));
        }
        total
    }

    /// Whether it is in a scope.
    pub fn in_scope(&self, requirement: &Requirement<'_>) -> bool {
        let terminating = self.active_deadline_seconds.is_some_and(|seconds| seconds >= 0);
        match requirement.scope {
            "Terminating" => terminating,
            "NotTerminating" => !terminating,
            "BestEffort" => self.is_best_effort(),
            "NotBestEffort" => !self.is_best_effort(),
            "PriorityClass" => selected(requirement, &[self.priority_class]),
            "CrossNamespacePodAffinity" => self.crosses_namespaces,
            _ => false,
        }
    }

    fn is_best_effort(&self) -> bool {
        let asks = |amounts: &Amounts| {
            amounts.iter().any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && *amount > Quantity::ZERO)
        };
        match &self.resources {
            Some((requests, limits)) => !asks(requests) && !asks(limits),
            None => !self.all().any(|c| asks(&c.requests) || asks(&c.limits)),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Container<'a>> {
        self.containers.iter().chain(&self.init_containers)
    }

    /// Whether it no longer counts: it has ended, or should have.
    fn is_over(&self, now: Timestamp) -> bool {
        let late = |(due, seconds): (Timestamp, i64)| {
            let end = due.checked_add(jiff::SignedDuration::from_secs(seconds));
            end.is_ok_and(|end| now > end)
        };
        matches!(self.phase, "Failed" | "Succeeded") || self.deletion.is_some_and(late)
    }

    /// What it uses.
    pub fn usage(&self, now: Timestamp) -> Amounts {
        let one = Quantity::from_value(1);
        let mut out = Amounts::from([("count/pods".to_owned(), one)]);
        if !self.is_over(now) {
            out.insert("pods".to_owned(), one);
            out.extend(computed(&self.requests(), &self.limits()));
        }
        out
    }

    /// What quotas of these names demand and its containers do not say.
    ///
    /// # Errors
    /// `must specify …`.
    pub fn check(&self, names: &[&str]) -> Result<(), String> {
        if self.says_for_the_whole() {
            return Ok(());
        }
        let demanded = DEMANDED.into_iter().filter(|name| names.contains(name));
        let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
        for name in demanded {
            let lacking = self.all().filter(|c| !computed(&c.requests, &c.limits).contains_key(name));
            let mut containers: Vec<&str> = lacking.map(|c| c.name).collect();
            containers.sort_unstable();
            containers.dedup();
            if !containers.is_empty() {
                missing.push((name, containers));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        let parts: Vec<String> =
            missing.iter().map(|(name, containers)| format!("{name} for: {}", containers.join(","))).collect();
        Err(format!("must specify {}", parts.join("; ")))
    }

    /// Whether the pod says something for all its containers together.
    fn says_for_the_whole(&self) -> bool {
        let supported = |amounts: &Amounts| amounts.keys().any(|name| is_supported_of_pods(name));
        self.resources.as_ref().is_some_and(|(requests, limits)| supported(requests) || supported(limits))
    }
}

/// What can be said for a pod as a whole.
fn is_supported_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether a quota's name is about pods.
pub fn concerns(name: &str) -> bool {
    NAMES.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || is_extended_in_quota(name)
}

/// `requests.example.com/gadget`.
fn is_extended_in_quota(name: &str) -> bool {
    let devices = name.starts_with("requests.deviceclass.resource.kubernetes.io/");
    name.starts_with("requests.") && (!is_native(name) || devices)
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether nodes may offer it beside what Kubernetes knows itself.
fn is_extended(name: &str) -> bool {
    let devices = name.starts_with("deviceclass.resource.kubernetes.io/");
    (!is_native(name) && !name.starts_with("requests.")) || devices
}

/// Requests and limits by the names that quotas have for them.
fn computed(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut out = Amounts::new();
    for (name, amount) in requests {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if plain {
            out.insert(name.clone(), *amount);
        }
        if plain || is_extended(name) {
            out.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            out.insert(format!("limits.{name}"), *amount);
        }
    }
    out
}

/// Whether an affinity to pods, or against them, looks at other namespaces.
pub fn crosses_namespaces(affinity: &Value) -> bool {
    let terms = |field: &str| affinity[field].as_array().into_iter().flatten();
    let required = terms("requiredDuringSchedulingIgnoredDuringExecution");
    let preferred = terms("preferredDuringSchedulingIgnoredDuringExecution").filter_map(|t| t.get("podAffinityTerm"));
    required.chain(preferred).any(|term| {
        term["namespaces"].as_array().is_some_and(|names| !names.is_empty())
            || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn container(cpu: &str, restart: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "2"}}, "restartPolicy": restart})
    }

    fn listed(pod: &Value) -> String {
        amounts::listed(&Pod::of(pod).usage(NOW))
    }

    #[test]
    fn containers_that_run_at_a_time_add_up() {
        let pod = json!({"spec": {
            "containers": [container("100m", ""), container("200m", "")],
            "initContainers": [container("50m", "Always"), container("400m", "")],
        }});
        let used = Pod::of(&pod).usage(NOW);
        assert_eq!(used["requests.cpu"].to_string(), "450m", "the second one runs beside the sidecar");
        assert_eq!(used["cpu"], used["requests.cpu"]);
        assert_eq!(used["limits.cpu"].to_string(), "6");
        assert_eq!(used["pods"].to_string(), "1");
    }

    #[test]
    fn overhead_and_the_pods_own_word_count() {
        let spec = json!({"containers": [container("100m", "")], "overhead": {"cpu": "10m", "memory": "1Mi"}});
        assert_eq!(
            listed(&json!({ "spec": spec })),
            "count/pods=1,cpu=110m,limits.cpu=2010m,memory=1Mi,pods=1,requests.cpu=110m,requests.memory=1Mi",
            "no limit of memory, and so none with overhead"
        );
        let mut spec = spec;
        spec["resources"] = json!({"requests": {"cpu": "1", "example.com/a": "7"}});
        let used = Pod::of(&json!({ "spec": spec })).usage(NOW);
        assert_eq!(used["requests.cpu"].to_string(), "1010m");
        assert!(!used.contains_key("requests.example.com/a"));
    }

    #[test]
    fn extended_resources_count_as_requests_only() {
        let resources = json!({"requests": {"example.com/a": "2", "hugepages-2Mi": "4Mi", "storage": "1"}});
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        let wanted = "count/pods=1,hugepages-2Mi=4Mi,pods=1,requests.example.com/a=2,requests.hugepages-2Mi=4Mi";
        assert_eq!(listed(&pod), wanted);
        for name in ["requests.example.com/a", "hugepages-2Mi", "requests.hugepages-1Gi", "pods", "limits.cpu"] {
            assert!(concerns(name), "{name}");
        }
        for name in ["services", "requests.storage", "example.com/a", "count/configmaps"] {
            assert!(!concerns(name), "{name}");
        }
    }

    #[test]
    fn an_ended_pod_only_counts_as_an_object() {
        let mut pod = json!({"spec": {"containers": [container("1", "")]}, "status": {"phase": "Succeeded"}});
        assert_eq!(listed(&pod), "count/pods=1");
        pod["status"]["phase"] = "Running".into();
        pod["metadata"] = json!({"deletionTimestamp": "1969-12-31T23:59:00Z", "deletionGracePeriodSeconds": 30});
        assert_eq!(listed(&pod), "count/pods=1", "it should be gone");
        pod["metadata"]["deletionGracePeriodSeconds"] = 90.into();
        assert!(listed(&pod).contains("pods=1,requests.cpu=1"));
    }

    #[test]
    fn what_every_container_has_to_say() {
        let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}, container("1", "")]}});
        let pod = Pod::of(&pod);
        let said = pod.check(&["requests.cpu", "limits.memory", "pods", "requests.ephemeral-storage"]).unwrap_err();
        assert_eq!(said, "must specify limits.memory for: a,b,c; requests.cpu for: a,b");
        assert_eq!(pod.check(&["pods"]), Ok(()));
        let whole = json!({"spec": {"containers": [{"name": "b"}], "resources": {"limits": {"cpu": "1"}}}});
        assert_eq!(Pod::of(&whole).check(&["requests.memory"]), Ok(()));
    }

    #[test]
    fn scopes_of_a_pod() {
        let pod = json!({"spec": {"containers": [{"name": "c"}], "priorityClassName": "high",
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"namespaceSelector": {}}}]}}}});
        let pod = Pod::of(&pod);
        let is = |scope, operator, values: &[&'static str]| {
            pod.in_scope(&Requirement { scope, operator, values: values.to_vec() })
        };
        for (scope, holds) in [
            ("BestEffort", true),
            ("NotBestEffort", false),
            ("NotTerminating", true),
            ("Terminating", false),
            ("PriorityClass", true),
            ("CrossNamespacePodAffinity", true),
            ("VolumeAttributesClass", false),
        ] {
            assert_eq!(is(scope, "Exists", &[]), holds, "{scope}");
        }
        assert!(is("PriorityClass", "In", &["low", "high"]) && !is("PriorityClass", "NotIn", &["high"]));
        assert!(!is("PriorityClass", "DoesNotExist", &[]));
        let other = json!({"spec": {"containers": [container("1", "")], "activeDeadlineSeconds": 5,
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}}});
        let other = Pod::of(&other);
        let exists = |scope| other.in_scope(&Requirement { scope, operator: "Exists", values: Vec::new() });
        assert!(exists("Terminating") && exists("NotBestEffort"));
        assert!(!exists("PriorityClass") && !exists("CrossNamespacePodAffinity"));
    }
}
