//! `kedge certificate rotate-ca`: who trusts the old authorities goes on, and everything uses the new ones after a restart.

use std::fs;
use std::process::Output;

use crate::support::TestCluster;
use crate::support::etcd::Etcd;
use crate::support::images::WEB_1;

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn refused(cluster: &TestCluster, args: &[&str]) -> String {
    let out = cluster.kedge_output(args);
    assert!(!out.status.success(), "{out:?}");
    said(&out)
}

fn tls(cluster: &TestCluster, file: &str) -> String {
    fs::read_to_string(cluster.data_dir().join("server/tls").join(file)).unwrap()
}

/// Who asks has a kubeconfig, or a token and an authority, of before.
struct Before {
    kubeconfig: String,
    authority: String,
    token: String,
}

impl Before {
    fn of(cluster: &TestCluster) -> Self {
        cluster.ok(&["create", "serviceaccount", "robot"]);
        let kubeconfig = fs::read_to_string(cluster.kubeconfig()).unwrap();
        let kubeconfig = cluster.file("before.kubeconfig", &kubeconfig).to_str().unwrap().to_owned();
        let authority = cluster.file("before.crt", &tls(cluster, "server-ca.crt")).to_str().unwrap().to_owned();
        Self { kubeconfig, authority, token: cluster.ok(&["create", "token", "robot"]).trim().to_owned() }
    }

    fn goes_on(&self, cluster: &TestCluster) {
        cluster.ok(&["--kubeconfig", &self.kubeconfig, "get", "namespaces"]);
        let server = format!("https://127.0.0.1:{}", cluster.port());
        let robot = ["--kubeconfig", "/dev/null", "--certificate-authority", &self.authority, "--token", &self.token];
        let who = cluster.ok(&[&robot[..], &["--server", &server, "auth", "whoami"]].concat());
        assert!(who.contains("system:serviceaccount:default:robot"), "{who}");
        cluster.ok(&["get", "namespaces"]);
    }
}

#[test]
fn clients_and_pods_outlive_the_authorities_that_they_began_with() {
    let mut cluster = TestCluster::node();
    let before = Before::of(&cluster);
    let image = format!("--image={WEB_1}");
    cluster.ok(&["run", "p", &image, "--restart=Never", "--", "trap 'exit 0' TERM; while true; do sleep 0.1; done"]);
    cluster.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=120s"]);
    let (authority, admin) = (tls(&cluster, "server-ca.crt"), tls(&cluster, "client-admin.crt"));

    let replaced = cluster.kedge(&["certificate", "rotate-ca"]);
    assert!(replaced.contains("replaced server-ca.key\n") && replaced.contains("restart kedge"), "{replaced}");
    assert_eq!(tls(&cluster, "server-ca.crt"), authority, "until then");
    let again = refused(&cluster, &["certificate", "rotate-ca"]);
    assert!(again.contains("start it again before they are rotated"), "{again}");
    before.goes_on(&cluster);

    // As after a power cut.
    cluster.kill();
    cluster.start();
    cluster.wait_for_node();
    assert_ne!(tls(&cluster, "server-ca.crt"), authority);
    assert_ne!(tls(&cluster, "client-admin.crt"), admin);
    before.goes_on(&cluster);
    assert_eq!(cluster.ok(&["exec", "p", "--", "echo", "here"]), "here\n");
    let published = cluster.json(&["configmap", "kube-root-ca.crt"]);
    let now = tls(&cluster, "server-ca.crt");
    assert!(now.ends_with(&authority), "who trusts the new bundle trusts what the old one signed");
    if published["data"]["ca.crt"] != now.as_str() {
        cluster.wait_for(now.trim(), &["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"]);
    }
}

#[test]
fn authorities_of_a_directory_must_follow_those_that_there_are() {
    let mut cluster = TestCluster::control_plane();
    let strange = TestCluster::control_plane();
    let before = Before::of(&cluster);
    let own = cluster.data_dir().join("server/tls");
    let dir = cluster.file("marker", "").with_file_name("given");
    fs::create_dir_all(dir.join("tls")).unwrap();
    let path = dir.to_str().unwrap();
    let none = refused(&cluster, &["certificate", "rotate-ca", "--path", path]);
    assert!(none.contains("has none of the files of authorities"), "{none}");
    for file in ["client-ca.crt", "client-ca.key"] {
        fs::copy(strange.data_dir().join("server/tls").join(file), dir.join("tls").join(file)).unwrap();
    }
    let strangers = refused(&cluster, &["certificate", "rotate-ca", "--path", path]);
    assert!(strangers.contains("client-ca.crt: new CA bundle contains only a single certificate"), "{strangers}");
    fs::copy(own.join("client-ca.key"), dir.join("tls/client-ca.key")).unwrap();
    let mixed = refused(&cluster, &["certificate", "rotate-ca", "--path", path, "--force"]);
    assert!(mixed.contains("private key does not match public key"), "{mixed}");
    fs::copy(own.join("client-ca.crt"), dir.join("tls/client-ca.crt")).unwrap();
    let same = refused(&cluster, &["certificate", "rotate-ca", "--path", path]);
    assert!(same.contains("those that there are already"), "{same}");
    // By force: who was known by the old authority is not any more.
    for file in ["client-ca.crt", "client-ca.key"] {
        fs::copy(strange.data_dir().join("server/tls").join(file), dir.join("tls").join(file)).unwrap();
    }
    cluster.kedge(&["certificate", "rotate-ca", "--path", path, "--force"]);
    assert!(cluster.stop());
    cluster.start();
    cluster.ok(&["get", "namespaces"]);
    let unknown = cluster.fails(&["--kubeconfig", &before.kubeconfig, "get", "namespaces"]);
    assert!(unknown.contains("Unauthorized") || unknown.contains("logged in"), "{unknown}");
    let gone = refused(&strange, &["certificate", "rotate-ca", "--data-dir", "/nonexistent"]);
    assert!(gone.contains("/nonexistent"), "{gone}");
}

#[test]
fn servers_on_one_etcd_take_them_one_after_the_other() {
    let etcd = Etcd::one();
    let server = |name: &str| {
        let endpoints = etcd.endpoints();
        TestCluster::control_plane_with(&["--datastore-endpoint", &endpoints, "--token", "t", "--node-name", name])
    };
    let (mut a, mut b) = (server("a"), server("b"));
    let before = Before::of(&a);
    let secure = fs::read_to_string(a.data_dir().join("server/token")).unwrap().trim().to_owned();
    a.kedge(&["certificate", "rotate-ca"]);
    assert!(a.stop());
    a.start();
    assert_ne!(tls(&a, "client-ca.crt"), tls(&b, "client-ca.crt"));
    // Each knows its own administrator, and who comes with what was good before.
    let skipped = refused(&b, &["certificate", "rotate-ca"]);
    assert!(skipped.contains("start it again before they are rotated"), "{skipped}");
    before.goes_on(&a);
    b.ok(&["get", "namespaces"]);
    // The token that names the authority of before is known, and does not stand for a stranger's.
    assert!(b.stop());
    let endpoints = etcd.endpoints();
    b.start_again_with(&["--datastore-endpoint", &endpoints, "--token", &secure, "--node-name", "b"]);
    assert_eq!(tls(&a, "client-ca.crt"), tls(&b, "client-ca.crt"));
    assert_ne!(fs::read_to_string(b.data_dir().join("server/token")).unwrap().trim(), secure);
    a.ok(&["--kubeconfig", b.kubeconfig().to_str().unwrap(), "get", "namespaces"]);
    let other = secure.replace("K10", "K10f").replacen("::", "\n", 1);
    let (hash, rest) = other.split_once('\n').unwrap();
    let stranger = format!("{}::{rest}", &hash[..67]);
    let said = TestCluster::refused(&["--datastore-endpoint", &endpoints, "--token", &stranger]);
    assert!(said.contains("another authority"), "{said}");
}
