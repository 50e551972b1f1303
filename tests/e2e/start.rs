//! Starting: what can be wrong with it is said, and nothing is touched.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{TestCluster, binary};

fn refused(args: &[&str]) -> String {
    let out = std::process::Command::new(binary()).args(args).output().unwrap();
    assert!(!out.status.success());
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn wrong_flags_and_keys_are_named() {
    assert!(refused(&["server", "--no-such-flag"]).contains("--no-such-flag"));
    assert!(refused(&["server", "--https-listen-port", "0"]).contains("--https-listen-port"));
    let message = refused(&["server", "--config", "/dev/null", "--kubelet-arg", "eviction-hard=disk<5%"]);
    assert!(
        message.contains("--kubelet-arg eviction-hard=disk<5%") && message.contains("nodefs.available"),
        "{message}"
    );
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    std::fs::write(&config, "https-listen-prt: 1\n").unwrap();
    let message = refused(&["server", "--config", &config.to_string_lossy()]);
    assert!(message.contains("https-listen-prt"), "{message}");
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let cluster = TestCluster::control_plane();
    let data = cluster.data_dir();
    let args = ["server", "--config", "/dev/null", "--disable-agent", "--https-listen-port", "39999", "--data-dir"];
    let message = refused(&[&args[..], &[&data.to_string_lossy(), "-o", "/dev/null"]].concat());
    assert!(message.contains("in use by another process"), "{message}");
    assert!(message.contains(&data.to_string_lossy().into_owned()), "{message}");
    cluster.ok(&["get", "namespaces"]);
}

#[test]
fn a_port_in_use_is_named() {
    let cluster = TestCluster::control_plane();
    let dir = tempfile::tempdir().unwrap();
    let (port, data) = (cluster.port().to_string(), dir.path().to_string_lossy().into_owned());
    let args = [
        "server",
        "--config",
        "/dev/null",
        "--disable-agent",
        "--https-listen-port",
        &port,
        "--data-dir",
        &data,
        "-o",
        "/dev/null",
    ];
    let message = refused(&args);
    assert!(message.contains(&port) && message.contains("--https-listen-port"), "{message}");
}

#[test]
fn a_data_directory_that_is_a_file_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_string_lossy().into_owned();
    let message = refused(&["server", "--config", "/dev/null", "--disable-agent", "--data-dir", &path]);
    assert!(message.contains(&path) && message.contains("--data-dir"), "{message}");
}

#[test]
fn credentials_are_private_and_everything_survives_a_restart() {
    let mut cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "kept", "--from-literal=a=b"]);
    let before = cluster.json(&["configmap", "kept"]);
    for file in ["server/tls/server-ca.key", "server/tls/client-admin.key", "server/tls/service.key"] {
        let mode = std::fs::metadata(cluster.data_dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(cluster.stop(), "a clean stop is a success");
    cluster.start();
    assert_eq!(cluster.json(&["configmap", "kept"]), before);
}

#[test]
fn nobody_gets_in_without_credentials() {
    let cluster = TestCluster::control_plane();
    let server = format!("https://127.0.0.1:{}", cluster.port());
    let anonymous = ["--kubeconfig", "/dev/null", "--server", &server, "--insecure-skip-tls-verify", "--token"];
    let with = |token: &str, path: &str| {
        let mut args = anonymous.to_vec();
        args.extend([token, "get", "--raw", path]);
        cluster.kubectl(&args)
    };
    let refused = with("nonsense", "/api/v1/namespaces");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Unauthorized"), "{refused:?}");
    assert!(with("nonsense", "/readyz").status.success(), "health is for everybody");
    cluster.ok(&["create", "serviceaccount", "nobody"]);
    let token = cluster.ok(&["create", "token", "nobody"]);
    let forbidden = with(token.trim(), "/api/v1/namespaces");
    let message = String::from_utf8_lossy(&forbidden.stderr);
    assert!(message.contains("system:serviceaccount:default:nobody") && message.contains("cannot list"), "{message}");
}

/// The range alone was refused, and one that changed later failed with what the API said about a service.
#[test]
fn services_have_the_range_that_the_cluster_was_begun_with() {
    let mut cluster = TestCluster::control_plane_with(&["--service-cidr", "10.50.0.0/16"]);
    let address =
        |namespace, name| cluster.ok(&["get", "service", "-n", namespace, name, "-o", "jsonpath={.spec.clusterIP}"]);
    assert_eq!(address("default", "kubernetes"), "10.50.0.1");
    assert_eq!(address("kube-system", "kube-dns"), "10.50.0.10");
    let (server, host) = (format!("--server=https://127.0.0.1:{}", cluster.port()), "--tls-server-name=10.50.0.1");
    cluster.ok(&["get", "namespaces", &server, host]);
    assert!(cluster.stop(), "a clean stop is a success");
    let said = cluster.kedge_server_output(&["--service-cidr", "10.43.0.0/16"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("kubernetes has 10.50.0.1") && said.contains("--service-cidr 10.43.0.0/16"), "{said}");
    let said = cluster.kedge_server_output(&["--cluster-dns", "10.50.0.20"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("kube-dns has 10.50.0.10") && said.contains("--cluster-dns says 10.50.0.20"), "{said}");
    cluster.start();
    cluster.ok(&["get", "namespaces"]);
}
