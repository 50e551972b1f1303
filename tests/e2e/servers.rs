//! Two servers on one etcd work as one.

use std::collections::BTreeSet;

use crate::support::etcd::Etcd;
use crate::support::{TestCluster, eventually};

fn server(etcd: &Etcd, name: &str, token: &str) -> TestCluster {
    TestCluster::control_plane_with(&["--datastore-endpoint", &etcd.endpoints(), "--token", token, "--node-name", name])
}

/// Who holds a lease.
pub fn holder(cluster: &TestCluster, lease: &str) -> String {
    cluster.ok(&["-n", "kube-system", "get", "lease", lease, "-o", "jsonpath={.spec.holderIdentity}"])
}

#[test]
fn two_servers_share_identity_objects_and_work() {
    let etcd = Etcd::one();
    let mut a = server(&etcd, "a", "a-token");
    let b = server(&etcd, "b", "a-token");
    // One authority: the kubeconfig of one is good for the other.
    let ca = |c: &TestCluster| std::fs::read_to_string(c.data_dir().join("server/tls/server-ca.crt")).unwrap();
    assert_eq!(ca(&a), ca(&b));
    // What one has acknowledged, the other shows at once, in every way of reading.
    for n in 0..20 {
        let name = format!("c{n}");
        a.ok(&["create", "configmap", &name]);
        b.ok(&["get", "configmap", &name]);
        assert!(b.ok(&["get", "configmaps", "-o", "name"]).contains(&format!("configmap/{name}\n")));
        b.ok(&["annotate", "configmap", &name, "seen=yes"]);
        a.ok(&["delete", "configmap", &name]);
        assert!(b.fails(&["get", "configmap", &name]).contains("NotFound"));
    }
    // A token that one has issued is good at the other.
    a.ok(&["create", "serviceaccount", "robot"]);
    let token = a.ok(&["create", "token", "robot"]);
    let port = format!("https://127.0.0.1:{}", b.port());
    let authority = b.data_dir().join("server/tls/server-ca.crt");
    let mut kubectl = b.kubectl_command(&["--server", &port, "--token", token.trim(), "auth", "whoami"]);
    let out = kubectl.args(["--kubeconfig", "/dev/null", "--certificate-authority"]).arg(authority).output().unwrap();
    let who = String::from_utf8_lossy(&out.stdout);
    assert!(who.contains("system:serviceaccount:default:robot"), "{out:?}");

    // One of them runs the controllers, and when it goes the other does.
    let who = eventually("a leader", || match holder(&a, "kube-controller-manager") {
        who if who.is_empty() => Err("none".into()),
        who => Ok(who),
    });
    assert!(who.starts_with("a_"), "{who}");
    assert!(holder(&b, "kube-scheduler").starts_with("a_"));
    b.ok(&["create", "deployment", "d", "--image=x", "--replicas=2"]);
    b.wait_for("2", &["get", "deployment", "d", "-o", "jsonpath={.status.replicas}"]);
    assert!(a.stop());
    eventually("the other one leading", || match holder(&b, "kube-controller-manager") {
        who if who.starts_with("b_") => Ok(()),
        who => Err(who),
    });
    b.ok(&["scale", "deployment", "d", "--replicas=3"]);
    b.wait_for("3", &["get", "deployment", "d", "-o", "jsonpath={.status.replicas}"]);
}

/// Both give out addresses and ports at the same time, from one store.
#[test]
fn two_servers_never_give_out_an_address_or_port_twice() {
    let etcd = Etcd::one();
    let narrow = ["--service-node-port-range", "30000-30099", "--service-cidr", "10.43.0.0/25"];
    let flags = |name: &'static str| {
        let endpoints = etcd.endpoints();
        let all = [&["--datastore-endpoint", &endpoints, "--token", "t", "--node-name", name], &narrow[..]].concat();
        TestCluster::control_plane_with(&all)
    };
    let (a, b) = (flags("a"), flags("b"));
    std::thread::scope(|scope| {
        for (cluster, who) in [(&a, "a"), (&b, "b")] {
            scope.spawn(move || {
                for n in 0..30 {
                    cluster.ok(&["create", "service", "nodeport", &format!("{who}{n}"), "--tcp=80"]);
                }
            });
        }
    });
    let list = |path: &str| a.ok(&["get", "services", "-A", "-o", &format!("jsonpath={path}")]);
    for path in ["{.items[*].spec.clusterIP}", "{.items[*].spec.ports[*].nodePort}"] {
        let all: Vec<String> = list(path).split_whitespace().map(str::to_owned).collect();
        let unique: BTreeSet<&String> = all.iter().collect();
        assert!(all.len() >= 60 && unique.len() == all.len(), "{path}: {all:?}");
    }
    // One that is asked for by name is refused by both.
    let taken = a.ok(&["get", "service", "a0", "-o", "jsonpath={.spec.clusterIP}"]);
    let refused = b.fails(&["create", "service", "clusterip", "again", "--tcp=80", "--clusterip", &taken]);
    assert!(refused.contains("provided IP is already allocated"), "{refused}");
    a.ok(&["delete", "service", "a0"]);
    b.ok(&["create", "service", "clusterip", "again", "--tcp=80", "--clusterip", &taken]);
}

#[test]
fn a_server_with_another_token_or_identity_is_refused() {
    let etcd = Etcd::one();
    let a = server(&etcd, "a", "a-token");
    let flags = ["--disable-agent", "--datastore-endpoint", &etcd.endpoints(), "--token", "another"];
    let refused = TestCluster::refused(&flags);
    assert!(refused.contains("another token"), "{refused}");
    // A token that names another cluster's authority.
    let secure = std::fs::read_to_string(a.data_dir().join("server/token")).unwrap();
    assert!(secure.starts_with("K10") && secure.trim_end().ends_with("::server:a-token"), "{secure}");
    let wrong = format!("K10{}::server:a-token", "0".repeat(64));
    let flags = ["--disable-agent", "--datastore-endpoint", &etcd.endpoints(), "--token", &wrong];
    assert!(TestCluster::refused(&flags).contains("another authority"));
    let flags = ["--datastore-endpoint", &etcd.endpoints(), "--token", secure.trim()];
    let b = TestCluster::control_plane_with(&flags);
    b.ok(&["get", "namespaces"]);
}

/// A transaction of the store takes so many operations; a service with more node ports than that is made in steps.
#[test]
fn a_service_that_claims_too_many_ports_at_once_is_told_so() {
    let etcd = Etcd::one();
    for cluster in [TestCluster::control_plane(), server(&etcd, "a", "a-token")] {
        let service = |ports: u32| {
            let port = |n: u32| format!("  - {{name: p{n}, port: {}}}\n", 1_000 + n);
            let ports: String = (0..ports).map(port).collect();
            let head = "apiVersion: v1\nkind: Service\nmetadata: {name: wide}\nspec:\n  type: NodePort\n  ports:\n";
            cluster.file("wide.yaml", &format!("{head}{ports}")).to_string_lossy().into_owned()
        };
        let refused = cluster.fails(&["create", "-f", &service(200)]);
        assert!(
            refused.contains("(RequestEntityTooLarge)") && refused.contains("too many addresses and ports"),
            "{refused}"
        );
        cluster.ok(&["create", "-f", &service(100)]);
        cluster.ok(&["replace", "-f", &service(200)]);
        let ports = cluster.ok(&["get", "service", "wide", "-o", "jsonpath={.spec.ports[*].nodePort}"]);
        assert_eq!(ports.split_whitespace().collect::<BTreeSet<_>>().len(), 200);
        cluster.ok(&["delete", "service", "wide"]);
    }
}
