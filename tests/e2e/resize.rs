//! Resources of pods that run, changed in place: of a container, of one that initializes, and of the pod as a whole.

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

/// The limit of CPU time of a pod's group, in microseconds of each 100 ms, by either version of control groups.
fn quota(uid: &str) -> Option<String> {
    let class = format!("kubepods/burstable/pod{uid}");
    let legacy = std::fs::read_to_string(format!("/sys/fs/cgroup/cpu/{class}/cpu.cfs_quota_us")).ok();
    let unified = || {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{class}/cpu.max")).ok()?;
        text.split_whitespace().next().map(str::to_owned)
    };
    legacy.map(|text| text.trim().to_owned()).or_else(unified)
}

#[test]
fn pods_and_containers_that_initialize_are_resized_in_place() {
    let cluster = TestCluster::node();
    let declared = cluster.ok(&["get", "node", "n1", "-o", "jsonpath={.status.declaredFeatures}"]);
    assert_eq!(declared, "[\"InPlacePodLevelResourcesVerticalScaling\",\"InPlacePodVerticalScalingInitContainers\"]");
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 1
  resources: {{requests: {{cpu: 100m}}, limits: {{cpu: 500m}}}}
  initContainers:
  - {{name: first, image: {WEB_1}, args: [\"while [ ! -e /go ]; do sleep 0.1; done\"], resources: {{requests: {{cpu: 10m}}}}}}
  containers:
  - {{name: main, image: {WEB_1}, args: [\"exec sleep 3600\"], resources: {{requests: {{cpu: 20m}}}}}}
"
    ));
    let running = "jsonpath={.status.initContainerStatuses[0].state.running.startedAt}";
    eventually("the first container", || {
        let started = cluster.ok(&["get", "pod", "p", "-o", running]);
        if started.is_empty() { Err("it does not run".into()) } else { Ok(()) }
    });
    let uid = cluster.ok(&["get", "pod", "p", "-o", "jsonpath={.metadata.uid}"]);
    assert_eq!(quota(&uid).as_deref(), Some("50000"));
    let first = "{\"spec\":{\"initContainers\":[{\"name\":\"first\",\"resources\":{\"requests\":{\"cpu\":\"30m\"}}}]}}";
    cluster.ok(&["patch", "pod", "p", "--subresource=resize", "-p", first]);
    let of_first = "jsonpath={.status.initContainerStatuses[0].resources.requests.cpu}";
    cluster.wait_for("30m", &["get", "pod", "p", "-o", of_first]);
    // More and less, while it runs.
    cluster.ok(&["exec", "p", "-c", "first", "--", "touch", "/go"]);
    cluster.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=120s"]);
    for (cpu, micros) in [("800m", "80000"), ("300m", "30000")] {
        let patch = format!("{{\"spec\":{{\"resources\":{{\"limits\":{{\"cpu\":\"{cpu}\"}}}}}}}}");
        cluster.ok(&["patch", "pod", "p", "--subresource=resize", "-p", &patch]);
        cluster.wait_for(cpu, &["get", "pod", "p", "-o", "jsonpath={.status.resources.limits.cpu}"]);
        eventually("the kernel's limit", || {
            let now = quota(&uid);
            if now.as_deref() == Some(micros) { Ok(()) } else { Err(format!("{now:?}")) }
        });
    }
    let count = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(cluster.ok(&["get", "pod", "p", "-o", count]), "0", "in place");
}
