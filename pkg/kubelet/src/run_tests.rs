//! Pods from their binding to their removal, on an API and a runtime in memory.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use kedge_base::{Ledger, SharedClock, Shutdown, system_clock, time};
use kedge_cri::fake::FakeRuntime;
use serde_json::{Value, json};

use super::*;
use crate::testing::FakeApi;

const POD: &str = "/api/v1/namespaces/ns/pods/p";
const LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Cluster {
    pub(super) api: Arc<FakeApi>,
    pub(super) runtime: Arc<FakeRuntime>,
    tasks: TaskGroup,
    pub(super) directory: tempfile::TempDir,
}

fn config(api: &Arc<FakeApi>, root: &Path) -> KubeletConfig {
    std::fs::write(root.join("resolv.conf"), "nameserver 9.9.9.9\n").unwrap();
    KubeletConfig {
        node_name: "n".into(),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        client: api.client(),
        clock: system_clock(),
        cri_endpoint: String::new(),
        runtime_problem: crate::RuntimeProblem::default(),
        root_dir: root.join("kubelet"),
        pod_log_dir: root.join("pods"),
        container_log_dir: None,
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".into(),
        resolv_conf: root.join("resolv.conf"),
        static_pods: Some(root.join("manifests")),
        node_labels: Vec::new(),
        node_taints: Vec::new(),
        // The machine may be nearly full; that must not fail tests of something else.
        args: crate::KubeletArgs::parse(&["eviction-hard=memory.available<1Mi".to_owned()]).unwrap(),
        version: "v1.36.0".into(),
        register_node: true,
        serving: None,
    }
}

impl Cluster {
    pub(super) async fn new() -> Cluster {
        Self::counting(&Ledger::process()).await
    }

    async fn counting(ledger: &Ledger) -> Cluster {
        Self::timed(ledger, system_clock()).await
    }

    async fn timed(ledger: &Ledger, clock: SharedClock) -> Cluster {
        let (api, runtime) = (FakeApi::new(), Arc::new(FakeRuntime::default()));
        runtime.add_image("i:1");
        runtime.set_time(u64::try_from(system_clock().now().as_second()).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone());
        let settings = KubeletConfig { clock, ..config(&api, directory.path()) };
        start(settings, runtime.clone(), None, &tasks).await.unwrap();
        Cluster { api, runtime, tasks, directory }
    }

    /// Ends the kubelet and starts another one, with something happening in between.
    pub(super) async fn restart(&mut self, between: impl FnOnce(&Cluster)) {
        assert!(self.tasks.join(Duration::from_secs(5)).await);
        between(self);
        self.tasks = TaskGroup::new("test", Shutdown::new());
        let settings = config(&self.api, self.directory.path());
        start(settings, self.runtime.clone(), None, &self.tasks).await.unwrap();
    }

    fn create(&self, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("n");
        let metadata = json!({"name": "p", "namespace": "ns", "uid": "u"});
        self.api.put(POD, json!({"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}));
    }

    fn delete(&self) {
        let mut pod = self.api.get(POD).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(1);
        self.api.put(POD, pod);
    }

    /// Waits for something to become true of the pod's object; null when there is none.
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let clock = system_clock();
        let wait = async {
            while !holds(&self.api.get(POD).unwrap_or_default()) {
                clock.sleep(Duration::from_millis(5)).await;
            }
        };
        if time::timeout(LIMIT, wait).await.is_err() {
            panic!("not {what}: {:#?}, calls {:?}", self.api.get(POD), self.runtime.calls());
        }
    }

    fn events(&self) -> Vec<String> {
        let all = self.api.list("/api/v1/namespaces/ns/events/");
        all.iter().map(|e| format!("{} {}", e["reason"].as_str().unwrap(), e["message"].as_str().unwrap())).collect()
    }

    pub(super) async fn end(self) {
        assert!(self.tasks.join(Duration::from_secs(5)).await);
    }
}

fn state_is(pod: &Value, index: usize, state: &str) -> bool {
    !pod["status"]["containerStatuses"][index]["state"][state].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_and_is_removed() {
    let cluster = Cluster::new().await;
    cluster.create(json!({"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]}));
    cluster.until("running", |pod| pod["status"]["phase"] == "Running").await;
    cluster.until("ready", |pod| pod["status"]["containerStatuses"][1]["ready"] == true).await;
    let pod = cluster.api.get(POD).unwrap();
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    assert!(id.starts_with("fake://"));
    assert!(cluster.directory.path().join("pods/ns_p_u").is_dir());
    cluster.delete();
    cluster.until("gone", Value::is_null).await;
    assert!(!cluster.directory.path().join("kubelet/pods/u").exists());
    let clock = system_clock();
    while !cluster.runtime.list_pod_sandboxes(Default::default()).await.unwrap().is_empty() {
        clock.sleep(Duration::from_millis(5)).await;
    }
    cluster.end().await;
}

/// They were left to the runtime, which has none that nobody has pulled.
#[tokio::test(flavor = "multi_thread")]
async fn images_that_are_volumes_are_pulled_for_who_mounts_them() {
    let cluster = Cluster::new().await;
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    let volume =
        |name: &str, image: &str| json!({"name": name, "image": {"reference": image, "pullPolicy": "IfNotPresent"}});
    cluster.create(json!({"containers": [{"name": "a", "image": "i:1", "volumeMounts": mounts}],
        "volumes": [volume("v", "models/large:1"), volume("w", "models/nobody:1")]}));
    cluster.until("running", |pod| pod["status"]["phase"] == "Running").await;
    let calls = cluster.runtime.calls();
    assert!(calls.contains(&"PullImage(models/large:1)".to_owned()), "{calls:?}");
    assert!(!calls.iter().any(|call| call.contains("nobody")), "{calls:?}");
    cluster.delete();
    cluster.until("gone", Value::is_null).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_runs_once_succeeds_and_stays() {
    let cluster = Cluster::new().await;
    cluster.create(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i:1"}]}));
    cluster.until("running", |pod| state_is(pod, 0, "running")).await;
    let containers = cluster.runtime.list_containers(Default::default()).await.unwrap();
    cluster.runtime.exit(&containers[0].id, 0);
    cluster.until("succeeded", |pod| pod["status"]["phase"] == "Succeeded").await;
    cluster.until("terminated", |pod| state_is(pod, 0, "terminated")).await;
    assert_eq!(cluster.runtime.list_containers(Default::default()).await.unwrap().len(), 1);
    cluster.delete();
    cluster.until("gone", Value::is_null).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_is_restarted_and_then_waits() {
    let cluster = Cluster::new().await;
    cluster.create(json!({"containers": [{"name": "a", "image": "i:1"}]}));
    cluster.until("running", |pod| state_is(pod, 0, "running")).await;
    for _ in 0..2 {
        let all = cluster.runtime.list_containers(Default::default()).await.unwrap();
        let running = kedge_cri::v1::ContainerState::ContainerRunning as i32;
        if let Some(run) = all.iter().find(|c| c.state == running) {
            cluster.runtime.exit(&run.id, 1);
        }
        cluster.until("restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    }
    let reason = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    cluster.until("waiting", |pod| reason(pod) == "CrashLoopBackOff").await;
    // Events are written beside the status, and may come after it.
    let clock = system_clock();
    while !cluster.events().contains(&"BackOff Back-off restarting failed container a in pod p_ns(u)".to_string()) {
        clock.sleep(Duration::from_millis(5)).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_explained() {
    let cluster = Cluster::new().await;
    cluster.create(json!({"containers": [{"name": "a", "image": "x:1", "imagePullPolicy": "Never"}]}));
    let waiting = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    cluster.until("refused", |pod| waiting(pod)["reason"] == "ErrImageNeverPull").await;
    let pod = cluster.api.get(POD).unwrap();
    assert_eq!(waiting(&pod)["message"], "Container image \"x:1\" is not present with pull policy of Never");
    assert_eq!(pod["status"]["phase"], "Pending");
    cluster.delete();
    cluster.until("gone", Value::is_null).await;
    cluster.end().await;
}

/// CVE-2024-10220: what a repository brings along was run as root. Upstream has such volumes disabled since.
#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_no_volumes() {
    let cluster = Cluster::new().await;
    let repository = json!({"repository": "https://example.com/r.git", "directory": "x"});
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    cluster.create(json!({"containers": [{"name": "a", "image": "i:1", "volumeMounts": mounts}],
        "volumes": [{"name": "v", "gitRepo": repository}]}));
    let refused = "FailedMount MountVolume.SetUp failed for volume \"v\" : git-repo volume plugin has been disabled; \
                   if necessary, it may be re-enabled by enabling the feature-gate `GitRepoVolumeDriver`";
    let clock = system_clock();
    let told = async {
        while !cluster.events().iter().any(|event| event == refused) {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(time::timeout(LIMIT, told).await.is_ok(), "{:?}", cluster.events());
    let volumes = cluster.directory.path().join("kubelet/pods/u/volumes/kubernetes.io~git-repo");
    assert!(!volumes.exists() && cluster.runtime.calls().iter().all(|call| !call.contains("create")));
    cluster.delete();
    cluster.until("gone", Value::is_null).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_container_runs_to_its_end_first() {
    let cluster = Cluster::new().await;
    cluster.create(
        json!({"initContainers": [{"name": "i", "image": "i:1"}], "containers": [{"name": "a", "image": "i:1"}]}),
    );
    let init = |pod: &Value| pod["status"]["initContainerStatuses"][0]["state"].clone();
    cluster.until("initializing", |pod| !init(pod)["running"].is_null()).await;
    let waiting = cluster.api.get(POD).unwrap()["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    assert_eq!(waiting, "PodInitializing");
    let containers = cluster.runtime.list_containers(Default::default()).await.unwrap();
    cluster.runtime.exit(&containers[0].id, 0);
    cluster.until("running", |pod| pod["status"]["phase"] == "Running").await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_kubelet_finds_its_pods_and_ends_those_that_are_gone() {
    let mut cluster = Cluster::new().await;
    cluster.create(json!({"containers": [{"name": "a", "image": "i:1"}]}));
    cluster.until("running", |pod| pod["status"]["phase"] == "Running").await;
    cluster.restart(|_| {}).await;
    cluster.until("running", |pod| pod["status"]["containerStatuses"][0]["ready"] == true).await;
    let created = cluster.runtime.calls().iter().filter(|c| c.starts_with("CreateContainer")).count();
    assert_eq!(
        (created, cluster.api.get(POD).unwrap()["status"]["containerStatuses"][0]["restartCount"].clone()),
        (1, json!(0))
    );
    cluster.restart(|cluster| cluster.api.remove(POD)).await;
    let clock = system_clock();
    let gone = async {
        while !cluster.runtime.list_pod_sandboxes(Default::default()).await.unwrap().is_empty() {
            clock.sleep(Duration::from_millis(5)).await;
        }
        while cluster.directory.path().join("pods/ns_p_u").exists() {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(LIMIT, gone).await.unwrap();
    assert!(!cluster.directory.path().join("kubelet/pods/u").exists());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_for_another_kind_of_node_is_rejected() {
    let cluster = Cluster::new().await;
    cluster.api.put("/api/v1/nodes/n", json!({"metadata": {"name": "n"}}));
    cluster.create(json!({"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "a", "image": "i:1"}]}));
    cluster.until("failed", |pod| pod["status"]["phase"] == "Failed").await;
    let status = cluster.api.get(POD).unwrap()["status"].clone();
    assert_eq!(status["reason"], "NodeAffinity");
    let message = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    assert_eq!(status["message"], message);
    assert!(cluster.runtime.list_pod_sandboxes(Default::default()).await.unwrap().is_empty());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_pods_and_probes_that_panic_are_started_again() {
    // The slot of a pod whose worker had panicked once stayed taken: the pod neither ran nor ended any more.
    let ledger = Ledger::new(system_clock());
    let cluster = Cluster::counting(&ledger).await;
    cluster.runtime.panic_next("CreateContainer");
    cluster.runtime.panic_next("ExecSync");
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    cluster.create(json!({"containers": [{"name": "a", "image": "i:1", "readinessProbe": probe}]}));
    cluster.until("running", |pod| state_is(pod, 0, "running")).await;
    cluster.until("ready", |pod| pod["status"]["containerStatuses"][0]["ready"] == true).await;
    assert_eq!((ledger.panics_of("pod-worker"), ledger.panics_of("probe")), (1, 1));
    cluster.runtime.panic_next("StopContainer");
    cluster.delete();
    cluster.until("gone", Value::is_null).await;
    assert_eq!(ledger.panics_of("pod-worker"), 2);
    let clock = system_clock();
    let running = |task| ledger.snapshot().iter().filter(|r| r.task == task).map(|r| r.running).sum::<usize>();
    while running("pod-worker") + running("probe") > 0 {
        clock.sleep(Duration::from_millis(5)).await;
    }
    assert!(ledger.troubles().is_empty(), "a panic now and then is no reason to be unready");
    cluster.end().await;
}

/// A clock on which every wait of a loop for its next round panics; once it is healed, such waits are short.
#[derive(Default)]
struct Breaking {
    healed: AtomicBool,
}

impl kedge_base::Clock for Breaking {
    fn now(&self) -> jiff::Timestamp {
        system_clock().now()
    }

    fn monotonic(&self) -> Duration {
        system_clock().monotonic()
    }

    fn sleep(&self, duration: Duration) -> kedge_base::BoxFuture<'static, ()> {
        if duration < Duration::from_secs(5) {
            return system_clock().sleep(duration);
        }
        assert!(self.healed.load(Ordering::SeqCst), "on purpose");
        system_clock().sleep(Duration::from_millis(200))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_of_the_node_that_panic_are_started_again() {
    const LOOPS: [&str; 10] = [
        "image-gc",
        "log-rotation",
        "node-lease",
        "node-status",
        "pleg",
        "plugin-registration",
        "pod-gc",
        "runtime-health",
        "static-pods",
        "storage-limits",
    ];
    let (ledger, breaking, clock) = (Ledger::new(system_clock()), Arc::new(Breaking::default()), system_clock());
    let cluster = Cluster::timed(&ledger, breaking.clone()).await;
    let every = async {
        // What clears away waits for manifests, which nobody can read yet.
        while LOOPS.iter().any(|task| *task != "pod-gc" && ledger.panics_of(task) == 0) {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(time::timeout(LIMIT, every).await.is_ok(), "{:?}", ledger.snapshot());
    breaking.healed.store(true, Ordering::SeqCst);
    let lease = || cluster.api.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n").unwrap();
    let before = lease()["spec"]["renewTime"].clone();
    let renewals = async {
        while lease()["spec"]["renewTime"] == before {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(time::timeout(LIMIT, renewals).await.is_ok(), "the lease is not renewed");
    // A pod runs, is seen to use too much, and is cleared away.
    let volumes = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}]);
    cluster.create(json!({"containers": [{"name": "a", "image": "i:1"}], "volumes": volumes}));
    cluster.until("running", |pod| pod["status"]["phase"] == "Running").await;
    let volume = cluster.directory.path().join("kubelet/pods/u/volumes/kubernetes.io~empty-dir/v");
    std::fs::write(volume.join("large"), vec![1; 64 << 10]).unwrap();
    cluster.until("evicted", |pod| pod["status"]["reason"] == "Evicted").await;
    cluster.delete();
    cluster.until("gone", Value::is_null).await;
    for report in ledger.snapshot().iter().filter(|report| LOOPS.contains(&report.task)) {
        assert_eq!(report.running, 1, "{report:?}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_past_its_deadline_fails() {
    let cluster = Cluster::new().await;
    cluster.create(json!({"activeDeadlineSeconds": 1, "containers": [{"name": "a", "image": "i:1"}]}));
    cluster.until("failed", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(cluster.api.get(POD).unwrap()["status"]["reason"], "DeadlineExceeded");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_is_registered_and_ready() {
    let cluster = Cluster::new().await;
    let clock = system_clock();
    let ready = || {
        let node = cluster.api.get("/api/v1/nodes/n").unwrap_or_default();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let wait = async {
        while !ready() {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(LIMIT, wait).await.unwrap();
    cluster.end().await;
}

/// A command before the stop was once given up by the client after two minutes, however long the pod had.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_before_the_stop_has_all_of_the_grace_period() {
    let cluster = Cluster::new().await;
    let hook = json!({"preStop": {"exec": {"command": ["drain"]}}});
    cluster.create(json!({"terminationGracePeriodSeconds": 3600, "containers": [
        {"name": "a", "image": "i:1", "lifecycle": hook}]}));
    cluster.until("running", |pod| state_is(pod, 0, "running")).await;
    let mut pod = cluster.api.get(POD).unwrap();
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(3600);
    cluster.api.put(POD, pod);
    cluster.until("gone", Value::is_null).await;
    let calls = cluster.runtime.calls();
    assert!(calls.iter().any(|call| call.starts_with("ExecSync(") && call.ends_with(" drain 3601s)")), "{calls:?}");
    cluster.end().await;
}
