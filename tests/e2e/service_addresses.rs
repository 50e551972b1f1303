//! Addresses of services: ranges as objects with effect, both families, and what becomes of them.

use serde_json::Value;

use crate::support::etcd::{Etcd, tool};
use crate::support::{TestCluster, eventually};

fn range(cluster: &TestCluster, name: &str, cidrs: &[&str]) {
    let cidrs = cidrs.join(", ");
    cluster.apply(&format!(
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {{name: {name}}}\nspec: {{cidrs: [{cidrs}]}}\n"
    ));
}

fn manifest(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{port: 80}}]\n{spec}")
}

fn spec(cluster: &TestCluster, name: &str) -> Value {
    cluster.json(&["service", name])["spec"].clone()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
}

const READY: &str = "jsonpath={.status.conditions[?(@.type=='Ready')].status} {.status.conditions[?(@.type=='Ready')].reason} \
                     {.metadata.finalizers}";
const FINALIZER: &str = "[\"networking.k8s.io/service-cidr-finalizer\"]";

/// A full range is followed by another one, without a restart; that one stays as long as a service has an address because of
/// it, and whoever deletes it sees why.
#[test]
fn a_full_range_is_followed_by_another_that_is_kept_while_it_is_needed() {
    let mut cluster = TestCluster::control_plane_with(&["--service-cidr", "10.99.0.0/28"]);
    // The services kubernetes and kube-dns have two of fourteen.
    for n in 0..12 {
        cluster.ok(&["create", "service", "clusterip", &format!("s{n}"), "--tcp=80"]);
    }
    let full = cluster.fails(&["create", "service", "clusterip", "more", "--tcp=80"]);
    assert!(full.contains("failed to allocate a serviceIP for Service \"more\": range is full"), "{full}");
    range(&cluster, "second", &["10.98.0.0/28"]);
    cluster.wait_for(&format!("True  {FINALIZER}"), &["get", "servicecidr", "second", "-o", READY]);
    cluster.ok(&["create", "service", "clusterip", "more", "--tcp=80"]);
    let address = spec(&cluster, "more")["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.98.0."), "{address}");
    let claim = cluster.json(&["ipaddress", &address]);
    assert_eq!(claim["spec"]["parentRef"]["name"], "more");
    assert_eq!(claim["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], "IPv4");
    // It may go no more than the service's address.
    cluster.ok(&["delete", "servicecidr", "second", "--wait=false"]);
    cluster.wait_for(&format!("False Terminating {FINALIZER}"), &["get", "servicecidr", "second", "-o", READY]);
    let said = cluster.ok(&["get", "servicecidr", "second", "-o", "jsonpath={.status.conditions[0].message}"]);
    assert_eq!(
        said,
        "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
    );
    let none = cluster.fails(&["create", "service", "clusterip", "none", "--tcp=80"]);
    assert!(none.contains("range is full"), "of a range that is to go nothing is given out: {none}");
    assert!(cluster.stop(), "a clean stop is a success");
    cluster.start();
    cluster.wait_for(&format!("False Terminating {FINALIZER}"), &["get", "servicecidr", "second", "-o", READY]);
    // A range that has all its addresses takes over.
    range(&cluster, "third", &["10.98.0.0/24"]);
    eventually("the second range to go", || {
        let found = cluster.kubectl(&["get", "servicecidr", "second"]);
        if found.status.success() { Err("it is there".into()) } else { Ok(()) }
    });
    cluster.ok(&["create", "service", "clusterip", "none", "--tcp=80"]);
    // And goes with the last service that needs it.
    cluster.ok(&["delete", "servicecidr", "third", "--wait=false"]);
    cluster.wait_for(&format!("False Terminating {FINALIZER}"), &["get", "servicecidr", "third", "-o", READY]);
    cluster.ok(&["delete", "service", "more", "none"]);
    cluster.ok(&["wait", "--for=delete", "servicecidr/third", "--timeout=60s"]);
    assert!(cluster.fails(&["get", "ipaddress", &address]).contains("NotFound"));
}

/// The range of the flags is an object like others, only that it comes back.
#[test]
fn the_default_range_comes_back_and_says_when_it_is_another_than_the_flags() {
    let mut cluster = TestCluster::control_plane_with(&["--service-cidr", "10.99.0.0/28"]);
    let uid = || cluster.ok(&["get", "servicecidr", "kubernetes", "-o", "jsonpath={.metadata.uid}"]);
    let first = uid();
    cluster.wait_for(&format!("True  {FINALIZER}"), &["get", "servicecidr", "kubernetes", "-o", READY]);
    // Nothing depends on it any more.
    range(&cluster, "larger", &["10.99.0.0/24"]);
    cluster.ok(&["delete", "servicecidr", "kubernetes", "--wait=false"]);
    eventually("another object", || {
        let now = cluster.kubectl(&["get", "servicecidr", "kubernetes", "-o", "jsonpath={.metadata.uid}"]);
        let now = String::from_utf8_lossy(&now.stdout).into_owned();
        if now.is_empty() || now == first { Err(now) } else { Ok(()) }
    });
    cluster.wait_for(&format!("True  {FINALIZER}"), &["get", "servicecidr", "kubernetes", "-o", READY]);
    let refused = cluster.fails(&[
        "patch",
        "servicecidr",
        "kubernetes",
        "--type=merge",
        "-p",
        "{\"spec\":{\"cidrs\":[\"10.98.0.0/28\"]}}",
    ]);
    assert!(refused.contains("spec.cidrs[0]: Invalid value: \"10.98.0.0/28\": field is immutable"), "{refused}");
    assert!(cluster.stop());
    // A second family is added, and does not go again.
    cluster.start_again_with(&["--service-cidr", "10.99.0.0/28,fd00:99::/112"]);
    cluster.wait_for(
        "[\"10.99.0.0/28\",\"fd00:99::/112\"]",
        &["get", "servicecidr", "kubernetes", "-o", "jsonpath={.spec.cidrs}"],
    );
    assert!(cluster.stop());
    cluster.start_again_with(&["--service-cidr", "10.99.0.0/28"]);
    let event = "jsonpath={.items[?(@.reason=='KubernetesDefaultServiceCIDRInconsistent')].message}";
    let said = "The default ServiceCIDR [10.99.0.0/28 fd00:99::/112] does not match the controller flag configurations [10.99.0.0/28]";
    cluster.wait_for(said, &["get", "events", "-o", event]);
}

#[test]
fn services_have_one_family_or_two_as_they_ask() {
    let cluster = TestCluster::control_plane_with(&["--service-cidr", "10.99.0.0/24,fd00:99::/112"]);
    let make = |name: &str, more: &str| {
        cluster.apply(&manifest(name, more));
        let spec = spec(&cluster, name);
        (texts(&spec["ipFamilies"]), texts(&spec["clusterIPs"]))
    };
    let families = |made: &(Vec<String>, Vec<String>)| {
        let of = |ip: &String| if ip.contains(':') { "IPv6" } else { "IPv4" };
        assert!(made.1 == ["None"] || made.0 == made.1.iter().map(of).collect::<Vec<_>>(), "{made:?}");
        made.0.join(",")
    };
    assert_eq!(families(&make("plain", "")), "IPv4");
    assert_eq!(families(&make("single6", "  ipFamilies: [IPv6]\n")), "IPv6");
    assert_eq!(families(&make("prefers", "  ipFamilyPolicy: PreferDualStack\n  ipFamilies: [IPv6]\n")), "IPv6,IPv4");
    let required = make("requires", "  ipFamilyPolicy: RequireDualStack\n");
    assert_eq!(families(&required), "IPv4,IPv6");
    assert_eq!(families(&make("headless", "  clusterIP: None\n  selector: {a: b}\n")), "IPv4");
    assert_eq!(families(&make("headless2", "  clusterIP: None\n")), "IPv4,IPv6");
    let named = make(
        "named",
        "  clusterIP: 'fd00:99::77'\n  clusterIPs: ['fd00:99::77', 10.99.0.77]\n  ipFamilyPolicy: RequireDualStack\n",
    );
    assert_eq!((families(&named), named.1), ("IPv6,IPv4".into(), vec!["fd00:99::77".into(), "10.99.0.77".into()]));
    let addresses = cluster.ok(&["get", "ipaddresses", "-o", "name"]);
    assert!(required.1.iter().all(|ip| addresses.contains(ip)), "{addresses}");

    // Down to one, and up again.
    let patch = |name: &str, patch: &str| cluster.ok(&["patch", "service", name, "--type=merge", "-p", patch]);
    let silent = cluster.fails(&[
        "patch",
        "service",
        "requires",
        "--type=merge",
        "-p",
        &format!("{{\"spec\":{{\"clusterIPs\":[\"{}\"]}}}}", required.1[0]),
    ]);
    assert!(silent.contains("must be 'SingleStack' to release the secondary cluster IP"), "{silent}");
    patch("requires", "{\"spec\":{\"ipFamilyPolicy\":\"SingleStack\"}}");
    assert_eq!(texts(&spec(&cluster, "requires")["clusterIPs"]), required.1[..1]);
    assert!(cluster.fails(&["get", "ipaddress", &required.1[1]]).contains("NotFound"), "it is given back");
    patch("requires", "{\"spec\":{\"ipFamilyPolicy\":\"PreferDualStack\"}}");
    let again = texts(&spec(&cluster, "requires")["clusterIPs"]);
    assert!(again.len() == 2 && again[0] == required.1[0], "{again:?}");
    cluster.ok(&["get", "ipaddress", &again[1]]);
    cluster.ok(&["delete", "service", "requires"]);
    assert!(cluster.fails(&["get", "ipaddress", &again[0], &again[1]]).contains("NotFound"));
    let bad = cluster.file("bad.yaml", &manifest("bad", "  ipFamilies: [IPv4, IPv6]\n"));
    let bad = cluster.fails(&["create", "-f", &bad.to_string_lossy()]);
    assert!(bad.contains("when multiple IP families are specified"), "{bad}");
}

#[test]
fn a_cluster_may_begin_with_the_other_family_or_have_it_alone() {
    let first = |cluster: &TestCluster, name: &str| {
        cluster.ok(&["create", "service", "clusterip", name, "--tcp=80"]);
        texts(&spec(cluster, name)["ipFamilies"]).join(",")
    };
    let cluster = TestCluster::control_plane_with(&["--service-cidr", "fd00:99::/112,10.99.0.0/24"]);
    assert_eq!(first(&cluster, "one"), "IPv6");
    assert_eq!(spec(&cluster, "kubernetes")["clusterIP"], "fd00:99::1");
    let dns = cluster.ok(&["get", "service", "-n", "kube-system", "kube-dns", "-o", "jsonpath={.spec.clusterIP}"]);
    assert_eq!(dns, "10.99.0.10", "pods have IPv4 addresses");
    drop(cluster);
    let cluster = TestCluster::control_plane_with(&["--service-cidr", "fd00:99::/112"]);
    assert_eq!(first(&cluster, "one"), "IPv6");
    let v4 = cluster.file("v4.yaml", &manifest("v4", "  ipFamilies: [IPv4]\n"));
    let v4 = cluster.fails(&["create", "-f", &v4.to_string_lossy()]);
    assert!(v4.contains("spec.ipFamilies[0]: Invalid value: \"IPv4\": not configured on this cluster"), "{v4}");
    let (server, host) = (format!("--server=https://127.0.0.1:{}", cluster.port()), "--tls-server-name=fd00:99::1");
    cluster.ok(&["get", "namespaces", &server, host]);
}

/// Servers on one store know of a new range at once, and of what a stock server has given out.
#[test]
fn servers_on_one_store_share_ranges_and_the_record_of_node_ports() {
    let etcd = Etcd::one();
    let server = |name: &str| {
        let narrow = ["--service-cidr", "10.99.0.0/28", "--service-node-port-range", "30000-30099"];
        let flags = ["--datastore-endpoint", &etcd.endpoints(), "--token", "t", "--node-name", name];
        TestCluster::control_plane_with(&[&flags[..], &narrow[..]].concat())
    };
    let (a, b) = (server("a"), server("b"));
    for n in 0..12 {
        a.ok(&["create", "service", "clusterip", &format!("s{n}"), "--tcp=80"]);
    }
    range(&a, "second", &["10.98.0.0/28"]);
    b.ok(&["create", "service", "nodeport", "web", "--tcp=80", "--node-port=30007"]);
    let address = spec(&a, "web")["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.98.0."), "{address}");
    a.ok(&["delete", "servicecidr", "second", "--wait=false"]);
    let none = b.fails(&["create", "service", "clusterip", "none", "--tcp=80"]);
    assert!(none.contains("range is full"), "{none}");
    let endpoints = format!("--endpoints={}", etcd.endpoints());
    let key = "/registry/ranges/servicenodeports";
    let record = || -> Value {
        let said = tool("etcdctl", &[&endpoints, "get", "--print-value-only", key]);
        serde_json::from_str(&said).unwrap()
    };
    // Bit seven: the eighth port.
    assert_eq!((&record()["range"], &record()["data"]), (&"30000-30099".into(), &"gA==".into()));
    let mut changed = record();
    changed["data"] = "gQ==".into();
    tool("etcdctl", &[&endpoints, "put", key, &changed.to_string()]);
    for server in [&a, &b] {
        let taken = server.fails(&["create", "service", "nodeport", "zero", "--tcp=80", "--node-port=30000"]);
        // Addresses are looked for first.
        assert!(taken.contains("range is full"), "{taken}");
    }
    a.ok(&["delete", "service", "s0"]);
    for server in [&a, &b] {
        let taken = server.fails(&["create", "service", "nodeport", "zero", "--tcp=80", "--node-port=30000"]);
        assert!(taken.contains("provided port is already allocated"), "{taken}");
    }
    b.ok(&["delete", "service", "web"]);
    assert_eq!(record()["data"], "AQ==");
    a.ok(&["create", "service", "nodeport", "zero", "--tcp=80"]);
    assert_ne!(record()["data"], "AQ==");
}
