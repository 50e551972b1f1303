//! Quotas, protection and selected plugins, through kubectl.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;

use serde_json::Value;

use crate::support::http::Http;
use crate::support::{TestCluster, eventually};

fn pod(name: &str, namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{containers: [{{name: c, image: example.com/x}}]}}\n"
    )
}

/// What a quota has used, once its controller has looked at it.
fn wait_for_used(cluster: &TestCluster, namespace: &str, wanted: &str) {
    cluster.wait_for(wanted, &["get", "quota", "q", "-n", namespace, "-o", "jsonpath={.status.used.pods}"]);
}

/// Twenty at the same time, for three places: upstream's count of them, and its words to the others.
#[test]
fn a_quota_holds_when_many_come_at_once() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "namespace", "a"]);
    cluster.wait_for("default", &["get", "serviceaccount", "default", "-n", "a", "-o", "jsonpath={.metadata.name}"]);
    cluster.ok(&["create", "quota", "q", "--hard=pods=3", "-n", "a"]);
    wait_for_used(&cluster, "a", "0");
    let files: Vec<_> = (0..20).map(|i| cluster.file(&format!("p{i}.yaml"), &pod(&format!("p{i}"), "a"))).collect();
    let started: Vec<_> = files
        .iter()
        .map(|file| {
            let mut command = cluster.kubectl_command(&["create", "-f", file.to_str().unwrap()]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let (mut made, mut refused) = (0, 0);
    for child in started {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            made += 1;
        } else {
            let wanted = "is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3";
            assert!(said.contains(wanted), "{said}");
            refused += 1;
        }
    }
    assert_eq!((made, refused), (3, 17));
    wait_for_used(&cluster, "a", "3");
    // What is given back can be used again.
    let names = cluster.ok(&["get", "pods", "-n", "a", "-o", "name"]);
    let first = names.lines().next().unwrap();
    cluster.ok(&["delete", first, "-n", "a", "--grace-period=0", "--force"]);
    wait_for_used(&cluster, "a", "2");
    cluster.apply(&pod("again", "a"));
    wait_for_used(&cluster, "a", "3");
}

/// A claim in use waits until its pod is gone, and so does a volume until its claim is.
#[test]
fn storage_in_use_is_not_deleted() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    cluster.apply(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c, namespace: default}\n\
         spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\n\
         spec: {nodeName: elsewhere, containers: [{name: c, image: example.com/x}], \
         volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]}\n",
    );
    let finalizers = |claim: &Value| claim["metadata"]["finalizers"].clone();
    let claim = cluster.json(&["pvc", "c"]);
    assert_eq!(finalizers(&claim), serde_json::json!(["kubernetes.io/pvc-protection"]));
    cluster.ok(&["delete", "pvc", "c", "--wait=false"]);
    cluster.apply(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: other, namespace: default}\n\
         spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n",
    );
    // The other one, which nobody uses, shows that the controller has been here.
    cluster.ok(&["delete", "pvc", "other", "--timeout=60s"]);
    let claim = cluster.json(&["pvc", "c"]);
    assert!(claim["metadata"]["deletionTimestamp"].is_string(), "{claim}");
    cluster.ok(&["delete", "pod", "p", "--grace-period=0", "--force"]);
    eventually("the claim goes with its last pod", || match cluster.kubectl(&["get", "pvc", "c"]).status.success() {
        true => Err("it is still there".to_owned()),
        false => Ok(()),
    });
}

#[test]
fn plugins_are_turned_off_by_name() {
    let flag = "disable-admission-plugins=StorageObjectInUseProtection,PodSecurity";
    let cluster = TestCluster::control_plane_with(&["--kube-apiserver-arg", flag]);
    cluster.ok(&["create", "namespace", "a"]);
    cluster.ok(&["label", "namespace", "a", "pod-security.kubernetes.io/enforce=bogus"]);
    let said = TestCluster::refused(&["--kube-apiserver-arg", "enable-admission-plugins=Nothing"]);
    assert!(said.contains("enable-admission-plugins plugin \"Nothing\" is unknown"), "{said}");
}

/// What guides for hardening ask for: pods are restricted where nobody says otherwise, and some plugins more are on.
#[test]
fn plugins_are_told_by_a_file_and_turned_on_by_a_setting() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("admission.yaml");
    let plugins = "
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: restricted, enforce-version: latest}
    exemptions: {namespaces: [kube-system]}
- name: EventRateLimit
  path: events.yaml
";
    std::fs::write(&file, plugins).unwrap();
    let events = "
apiVersion: eventratelimit.admission.k8s.io/v1alpha1
kind: Configuration
limits: [{type: Namespace, qps: 1, burst: 2}]
";
    std::fs::write(dir.path().join("events.yaml"), events).unwrap();
    let cluster = TestCluster::control_plane_with(&[
        &format!("--kube-apiserver-arg=admission-control-config-file={}", file.display()),
        "--kube-apiserver-arg=enable-admission-plugins=EventRateLimit,AlwaysPullImages,DenyServiceExternalIPs",
        "--disable-scheduler",
    ]);
    cluster.wait_for_account();
    let said = cluster.fails(&["run", "p", "--image=i"]);
    assert!(said.contains("violates PodSecurity \"restricted:latest\""), "{said}");
    eventually("the account of the exempt namespace", || {
        let out = cluster.kubectl(&["run", "p", "-n", "kube-system", "--image=i:1", "--image-pull-policy=Never"]);
        if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
    });
    let pod = cluster.json(&["pod", "p", "-n", "kube-system"]);
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
    let service = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]}}"#;
    let said = cluster.fails(&["create", "-f", cluster.file("s.json", service).to_str().unwrap()]);
    assert!(said.contains("Use of external IPs is denied by admission control"), "{said}");
    // kubectl would come again and again.
    let http = Http::of(&cluster);
    let post = || {
        let event = r#"{"metadata": {"generateName": "e"}, "involvedObject": {"namespace": "default"}}"#;
        let arguments = ["-X", "POST", "-H", "Content-Type: application/json", "-d", event];
        http.ask("--http2", "/api/v1/namespaces/default/events", &arguments)
    };
    let refused = (0..100).map(|_| post()).find(|answer| answer.code == 429);
    let said = refused.expect("a hundred events are too many").body;
    assert!(said.contains("limit reached on type Namespace for key default"), "{said}");
}

/// What is charged and what is stored are two writes, and the server may die between them: never one too many, and the books are right afterwards.
#[test]
fn a_quota_holds_when_the_server_is_killed_in_the_middle() {
    const CLIENTS: usize = 64;
    let mut cluster = TestCluster::control_plane();
    cluster.ok(&["create", "namespace", "a"]);
    cluster.wait_for("default", &["get", "serviceaccount", "default", "-n", "a", "-o", "jsonpath={.metadata.name}"]);
    cluster.ok(&["create", "quota", "q", "--hard=pods=100", "-n", "a"]);
    wait_for_used(&cluster, "a", "0");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    // Each goes on until it is refused, or nobody answers.
    let flood = |cluster: &TestCluster| {
        let clients = (0..CLIENTS).map(|_| kedge_client::Client::from_kubeconfig(&cluster.kubeconfig()).unwrap());
        let tasks: Vec<_> = clients
            .map(|client| {
                let made = made.clone();
                runtime.spawn(async move {
                    let pod =
                        r#"{"metadata": {"generateName": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}"#;
                    loop {
                        let answer = client
                            .send(Method::POST, "/api/v1/namespaces/a/pods", "application/json", pod.into())
                            .await;
                        match answer.map(|answer| answer.status().as_u16()) {
                            Ok(201) => made.fetch_add(1, Ordering::SeqCst),
                            Ok(409 | 429) => continue,
                            other => return other.ok(),
                        };
                    }
                })
            })
            .collect();
        tasks
    };
    let tasks = flood(&cluster);
    eventually("half of them", || match made.load(Ordering::SeqCst) {
        made if made >= 30 => Ok(()),
        made => Err(format!("{made} pods")),
    });
    cluster.kill();
    tasks.into_iter().for_each(|task| drop(runtime.block_on(task)));
    cluster.start();
    let pods = || cluster.json(&["pods", "-n", "a"])["items"].as_array().unwrap().len();
    assert!(pods() >= made.load(Ordering::SeqCst), "a pod that was acknowledged is gone");
    // What was charged for pods that were not stored is given back, so that all the room can be used.
    eventually("the quota is full", || {
        let ends: Vec<_> = flood(&cluster).into_iter().map(|task| runtime.block_on(task).unwrap()).collect();
        assert!(ends.iter().all(|end| *end == Some(403)), "{ends:?}");
        let pods = pods();
        assert!(pods <= 100, "{pods} pods under a quota of 100");
        if pods == 100 { Ok(()) } else { Err(format!("{pods} pods")) }
    });
    wait_for_used(&cluster, "a", "100");
}
