//! `/metrics/resource`: what metrics-server and others scrape, by upstream's names.

use std::fmt::Write as _;

use super::{PodUsage, Snapshot, Usage};

/// A kind of metric: its name, its type and what it is.
pub(super) type Family = (&'static str, &'static str, &'static str);

const CONTAINER_CPU: Family = ("container_cpu_usage_seconds_total", "counter", "CPU time that a container has used");
const CONTAINER_MEMORY: Family = ("container_memory_working_set_bytes", "gauge", "Working set of a container");
const CONTAINER_START: Family = ("container_start_time_seconds", "gauge", "When a container was started, since 1970");
const NODE_CPU: Family = ("node_cpu_usage_seconds_total", "counter", "CPU time that the node has used");
const NODE_MEMORY: Family = ("node_memory_working_set_bytes", "gauge", "Working set of the node");
const POD_CPU: Family = ("pod_cpu_usage_seconds_total", "counter", "CPU time that a pod has used");
const POD_MEMORY: Family = ("pod_memory_working_set_bytes", "gauge", "Working set of a pod");
const ERROR: Family = ("resource_scrape_error", "gauge", "1 if containers could not be looked at, else 0");

/// All metrics; none where nothing could be read.
pub(crate) fn exposition(snapshot: Option<&Snapshot>) -> String {
    let mut out = String::new();
    let pods: &[PodUsage] = snapshot.map_or(&[], |snapshot| &snapshot.pods);
    let node = snapshot.and_then(|snapshot| snapshot.node);
    let of_pods = |value: fn(&Usage) -> String| {
        let all = pods.iter().filter_map(move |pod| Some((pod_labels(pod), pod.usage?)));
        all.map(move |(labels, usage)| (labels, value(&usage), Some(usage.time)))
    };
    let of_containers = || {
        let each = |pod: &PodUsage| {
            let rest = pod_labels(pod);
            let one =
                move |c: &super::ContainerUsage| (format!("container=\"{}\",{rest}", escaped(&c.name)), c.clone());
            pod.containers.iter().map(one).collect::<Vec<_>>()
        };
        pods.iter().flat_map(each)
    };
    let samples = |value: fn(&Usage) -> String| {
        of_containers().map(move |(labels, c)| (labels, value(&c.usage), Some(c.usage.time)))
    };
    let started = of_containers().filter(|(_, c)| c.started > 0);
    family(&mut out, &CONTAINER_CPU, samples(cpu));
    family(&mut out, &CONTAINER_MEMORY, samples(memory));
    family(&mut out, &CONTAINER_START, started.map(|(labels, c)| (labels, seconds(c.started.unsigned_abs()), None)));
    let node = |value: fn(&Usage) -> String| {
        node.iter().map(move |u| (String::new(), value(u), Some(u.time))).collect::<Vec<_>>()
    };
    family(&mut out, &NODE_CPU, node(cpu));
    family(&mut out, &NODE_MEMORY, node(memory));
    family(&mut out, &POD_CPU, of_pods(cpu));
    family(&mut out, &POD_MEMORY, of_pods(memory));
    let failed = if snapshot.is_none() { "1" } else { "0" };
    family(&mut out, &ERROR, [(String::new(), failed.to_owned(), None)]);
    out
}

fn cpu(usage: &Usage) -> String {
    seconds(usage.cpu)
}

fn memory(usage: &Usage) -> String {
    usage.memory.to_string()
}

/// Nanoseconds as seconds, exactly.
pub(super) fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

fn pod_labels(pod: &PodUsage) -> String {
    format!("namespace=\"{}\",pod=\"{}\"", escaped(&pod.namespace), escaped(&pod.name))
}

/// Names need no escaping, but they come from the runtime.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Labels, a value, and the time of it in nanoseconds.
pub(super) type Sample = (String, String, Option<i64>);

pub(super) fn family(out: &mut String, (name, kind, help): &Family, samples: impl IntoIterator<Item = Sample>) {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_none() {
        return;
    }
    // Writing into a text does not fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value, time) in samples {
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let time = time.map(|time| format!(" {}", time / 1_000_000)).unwrap_or_default();
        let _ = writeln!(out, "{name}{labels} {value}{time}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::snapshot;
    use super::*;

    #[test]
    fn metrics_have_upstreams_names_labels_and_times() {
        let second = 1_000_000_000;
        let text = exposition(Some(&snapshot(10 * second, 7_500_000_000, &[("c", 3 * second, 5)])));
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"name-of-c\",namespace=\"shop\",pod=\"web\"} 0.000000005 10000",
            "container_memory_working_set_bytes{container=\"name-of-c\",namespace=\"shop\",pod=\"web\"} 8192 10000",
            "container_start_time_seconds{container=\"name-of-c\",namespace=\"shop\",pod=\"web\"} 3.000000000",
            "node_cpu_usage_seconds_total 7.500000000 10000",
            "node_memory_working_set_bytes 8192 10000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("pod_cpu_usage"), "nothing is known of the pod's group");
        assert!(exposition(None).ends_with("resource_scrape_error 1\n"));
    }
}
