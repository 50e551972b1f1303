//! The kubelet's port: metrics by upstream's names, what it says of itself, and who may ask, by certificate or by token.

use std::process::Command;

use serde_json::Value;

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: IMAGE
    args: [\"exec httpd -f -p 8080 -h /www\"]
    readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    volumeMounts: [{name: scratch, mountPath: /scratch}, {name: data, mountPath: /data}]
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: data, persistentVolumeClaim: {claimName: data}}
";

/// A claim that is bound, as a controller of volumes would leave it.
fn claim(cluster: &TestCluster) {
    cluster.apply(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, annotations: {pv.kubernetes.io/bind-completed: \"yes\"}}
spec: {accessModes: [ReadWriteOnce], storageClassName: \"\", volumeName: data, resources: {requests: {storage: 1Mi}}}
",
    );
    let uid = cluster.ok(&["get", "pvc", "data", "-o", "jsonpath={.metadata.uid}"]);
    cluster.apply(&format!(
        "
apiVersion: v1
kind: PersistentVolume
metadata: {{name: data}}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {{storage: 1Mi}}
  claimRef: {{namespace: default, name: data, uid: {uid}}}
  hostPath: {{path: /tmp, type: Directory}}
"
    ));
    cluster.ok(&["patch", "pvc", "data", "--subresource=status", "-p", "{\"status\":{\"phase\":\"Bound\"}}"]);
}

fn raw(cluster: &TestCluster, path: &str) -> String {
    cluster.ok(&["get", "--raw", &format!("/api/v1/nodes/n1/proxy/{path}")])
}

/// The samples of a family that have all of the labels.
fn samples<'a>(text: &'a str, family: &str, labels: &[&str]) -> Vec<&'a str> {
    let of = |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(of).filter(|line| labels.iter().all(|label| line.contains(label))).collect()
}

#[test]
fn metrics_are_upstreams_and_the_kubelet_tells_of_itself() {
    let cluster = TestCluster::node();
    claim(&cluster);
    cluster.apply(&POD.replace("IMAGE", WEB_1));
    cluster.ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    let mine = ["container=\"main\"", "namespace=\"default\"", "pod=\"web\""];
    let text = eventually("all of the container's metrics", || {
        let text = raw(&cluster, "metrics/cadvisor");
        let families = [
            "container_cpu_usage_seconds_total",
            "container_cpu_cfs_periods_total",
            "container_memory_working_set_bytes",
            "container_memory_rss",
            "container_spec_memory_limit_bytes",
            "container_fs_usage_bytes",
            "container_processes",
            "container_start_time_seconds",
        ];
        match families.iter().find(|family| samples(&text, family, &mine).is_empty()) {
            None => Ok(text),
            Some(missing) => Err(format!("{missing}\n{text}")),
        }
    });
    let network = ["namespace=\"default\"", "pod=\"web\"", "interface=\"eth0\""];
    assert_eq!(samples(&text, "container_network_receive_bytes_total", &network).len(), 1, "{text}");
    assert_eq!(samples(&text, "container_spec_memory_limit_bytes", &mine)[0].split(' ').nth(1), Some("67108864"));
    for family in ["machine_cpu_cores", "machine_memory_bytes", "container_scrape_error", "cadvisor_version_info"] {
        assert!(!samples(&text, family, &[]).is_empty(), "{family}");
    }
    let root = ["container=\"\"", "id=\"/\""];
    for family in ["container_cpu_usage_seconds_total", "container_fs_limit_bytes"] {
        assert!(!samples(&text, family, &root).is_empty(), "{family}");
    }

    let text = raw(&cluster, "metrics");
    for (family, labels) in [
        ("kubelet_node_name", vec!["node=\"n1\""]),
        ("kubelet_running_pods", vec![]),
        ("kubelet_running_containers", vec!["container_state=\"running\""]),
        ("kubelet_runtime_operations_total", vec!["operation_type=\"run_podsandbox\""]),
        (
            "kubelet_runtime_operations_duration_seconds_bucket",
            vec!["operation_type=\"start_container\"", "le=\"+Inf\""],
        ),
        ("kubelet_pod_start_duration_seconds_count", vec![]),
        ("kubelet_pleg_relist_duration_seconds_count", vec![]),
        ("kubelet_started_containers_total", vec!["container_type=\"container\""]),
        ("kubelet_volume_stats_capacity_bytes", vec!["namespace=\"default\"", "persistentvolumeclaim=\"data\""]),
        ("process_resident_memory_bytes", vec![]),
    ] {
        assert!(!samples(&text, family, &labels).is_empty(), "{family} {labels:?}\n{text}");
    }
    let probed = ["container=\"main\"", "pod=\"web\"", "probe_type=\"Readiness\"", "result=\"successful\""];
    let text = raw(&cluster, "metrics/probes");
    assert_eq!(samples(&text, "prober_probe_total", &probed).len(), 1, "{text}");

    let summary: Value = serde_json::from_str(&raw(&cluster, "stats/summary")).unwrap();
    assert!(summary["node"]["fs"]["capacityBytes"].as_u64().unwrap() > 0, "{summary}");
    assert!(
        summary["node"]["runtime"]["imageFs"]["usedBytes"].is_u64() && summary["node"]["rlimit"]["maxpid"].is_u64()
    );
    let pod = summary["pods"].as_array().unwrap().iter().find(|pod| pod["podRef"]["name"] == "web").unwrap();
    assert!(pod["network"]["rxBytes"].is_u64() && pod["ephemeral-storage"]["usedBytes"].is_u64(), "{pod}");
    assert!(
        pod["containers"][0]["rootfs"]["usedBytes"].is_u64() && pod["containers"][0]["memory"]["rssBytes"].is_u64()
    );
    assert!(pod["volume"].as_array().unwrap().iter().any(|volume| volume["name"] == "scratch"), "{pod}");

    let running: Value = serde_json::from_str(&raw(&cluster, "runningpods/")).unwrap();
    assert_eq!(running["items"][0]["metadata"]["name"], "web");
    let configured: Value = serde_json::from_str(&raw(&cluster, "configz")).unwrap();
    assert_eq!(configured["kubeletconfig"]["evictionHard"]["memory.available"], "1Mi");
    assert_eq!(raw(&cluster, "healthz?verbose"), "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n");
    assert_eq!(raw(&cluster, "healthz/syncloop"), "ok");
    assert!(raw(&cluster, "logs/").contains("<a href=\"pods/\">pods/</a>"));
    let uid = cluster.ok(&["get", "pod", "web", "-o", "jsonpath={.metadata.uid}"]);
    assert!(raw(&cluster, &format!("logs/pods/default_web_{uid}/main/")).contains("0.log"));
    let refused =
        cluster.fails(&["create", "--raw", "/api/v1/nodes/n1/proxy/checkpoint/default/web/main", "-f", "/dev/null"]);
    assert!(refused.contains("checkpointing of default/web/main failed"), "{refused}");
}

/// What a monitoring system in a pod does: it asks the kubelet itself, with its account's token.
#[test]
fn tokens_may_use_what_their_roles_say_and_no_more() {
    let cluster = TestCluster::node();
    cluster.ok(&["create", "serviceaccount", "prometheus"]);
    cluster.ok(&["create", "clusterrole", "scrape", "--verb=get", "--resource=nodes/metrics"]);
    let account = "--serviceaccount=default:prometheus";
    cluster.ok(&["create", "clusterrolebinding", "scrape", "--clusterrole=scrape", account]);
    let token = cluster.ok(&["create", "token", "prometheus"]).trim().to_owned();
    let node = cluster.json(&["node", "n1"]);
    let port = &node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    let ask = |path: &str, token: Option<&str>| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--insecure", "--max-time", "30", "--write-out", "\n%{http_code}"]);
        if let Some(token) = token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let out = command.arg(format!("https://127.0.0.1:{port}{path}")).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (body, code) = text.rsplit_once('\n').unwrap_or_default();
        (code.to_owned(), body.to_owned())
    };
    for path in ["/metrics", "/metrics/cadvisor", "/metrics/probes", "/metrics/resource"] {
        assert_eq!(ask(path, Some(&token)).0, "200", "{path}");
    }
    let (code, told) = ask("/pods", Some(&token));
    let who = "user=system:serviceaccount:default:prometheus, verb=get, resource=nodes";
    assert_eq!(
        (code.as_str(), told.as_str()),
        ("403", format!("Forbidden ({who}, subresource(s)=[pods proxy])\n").as_str())
    );
    for path in ["/configz", "/healthz", "/stats/summary", "/logs/", "/runningpods/"] {
        assert_eq!(ask(path, Some(&token)).0, "403", "{path}");
    }
    for token in [None, Some("nonsense")] {
        assert_eq!(ask("/metrics", token), ("401".to_owned(), "Unauthorized".to_owned()));
    }
}
