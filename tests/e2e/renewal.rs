//! `kedge certificate`: what certificates there are, and new ones for a server that runs or will run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::support::TestCluster;
use crate::support::images::WEB_1;

fn tls(cluster: &TestCluster, file: &str) -> PathBuf {
    cluster.data_dir().join("server/tls").join(file)
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The certificate that the server shows.
fn shown(cluster: &TestCluster) -> CertificateDer<'static> {
    shown_on(cluster, cluster.port())
}

fn shown_on(cluster: &TestCluster, port: u16) -> CertificateDer<'static> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls(cluster, "server-ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).unwrap();
    }
    connection.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn certificates_are_shown_and_renewed() {
    let mut cluster = TestCluster::control_plane();
    let table = cluster.kedge(&["certificate", "check", "--output", "table"]);
    let line = table.lines().find(|line| line.starts_with("serving-kube-apiserver.crt")).unwrap();
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(columns[1..3], ["kube-apiserver", "ServerAuth"], "{table}");
    assert_eq!(columns[columns.len() - 3..], ["1", "year", "OK"], "{table}");
    let lines = cluster.kedge(&["certificate", "check", "--service", "admin"]);
    let first = lines.lines().next().unwrap();
    assert!(first.starts_with("client-admin.crt: certificate system:admin (ClientAuth) is ok, expires at "), "{lines}");
    let out = cluster.kedge_output(&["certificate", "rotate", "--service", "nobody"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("service nobody is not recognized"), "{said}");

    let out = cluster.kedge_output(&["certificate", "check", "--data-dir", "/nonexistent"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("/nonexistent/server/tls is not there"), "{said}");

    // The server that runs uses them at once.
    let (before, kubeconfig) = (shown(&cluster), read(&cluster.kubeconfig()));
    let said = cluster.kedge(&["certificate", "rotate", "-s", "admin,scheduler"]);
    assert!(said.contains("rotated client-admin\n") && said.contains("the server uses the new ones"), "{said}");
    assert_eq!(shown(&cluster), before);
    let renewed = read(&cluster.kubeconfig());
    assert_ne!(renewed, kubeconfig);
    let admin = read(&tls(&cluster, "client-admin.crt"));
    cluster.ok(&["get", "namespaces"]);
    let said = cluster.kedge(&["certificate", "rotate"]);
    assert_ne!(shown(&cluster), before);
    assert_eq!(shown(&cluster), CertificateDer::from_pem_file(tls(&cluster, "serving-kube-apiserver.crt")).unwrap());
    let copies: PathBuf =
        said.lines().find_map(|line| line.strip_prefix("the certificates before are in ")).unwrap().into();
    assert_eq!(read(&copies.join("client-admin.crt")), admin);
    assert_eq!(CertificateDer::from_pem_file(copies.join("serving-kube-apiserver.crt")).unwrap(), before);
    cluster.ok(&["get", "namespaces"]);

    // Without one, the next start issues them.
    let before = shown(&cluster);
    assert!(cluster.stop());
    let said = cluster.kedge(&["certificate", "rotate", "-s", "api-server"]);
    assert!(said.contains("rotated serving-kube-apiserver\n") && said.contains("no server runs here"), "{said}");
    assert!(!tls(&cluster, "serving-kube-apiserver.key").exists());
    cluster.start();
    assert_ne!(shown(&cluster), before);
    cluster.ok(&["get", "namespaces"]);
}

/// A command that runs in a pod is reached through the API server's client certificate and the kubelet's serving one.
#[test]
fn a_stream_outlives_the_certificates_that_it_began_with() {
    let cluster = TestCluster::node();
    let image = format!("--image={WEB_1}");
    cluster.ok(&["run", "p", &image, "--restart=Never", "--", "trap 'exit 0' TERM; while true; do sleep 0.1; done"]);
    cluster.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=120s"]);
    let mut command = cluster.kubectl_command(&["exec", "-i", "p", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut echo = |text: &str| {
        input.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, text);
    };
    echo("before\n");
    let port = cluster.ok(&["get", "node", "n1", "-o", "jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}"]);
    let port = port.parse().unwrap();
    let first = shown_on(&cluster, port);
    let said = cluster.kedge(&["certificate", "rotate"]);
    for file in ["serving-kubelet", "client-kube-apiserver"] {
        assert!(said.contains(&format!("rotated {file}\n")), "{said}");
    }
    let second = shown_on(&cluster, port);
    assert_ne!(second, first);
    assert_eq!(second, CertificateDer::from_pem_file(tls(&cluster, "serving-kubelet.crt")).unwrap());
    echo("after\n");
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(cluster.ok(&["exec", "p", "--", "echo", "new"]), "new\n");
    assert_eq!(cluster.ok(&["get", "--raw", "/api/v1/nodes/n1/proxy/healthz"]), "ok");
}
