//! Secrets at rest.

use crate::support::TestCluster;
use crate::support::etcd::Etcd;

#[test]
fn secrets_are_encrypted_from_the_first_start_on_and_keys_are_changed_while_it_runs() {
    let etcd = Etcd::one();
    let mut cluster = TestCluster::control_plane_with(&[
        "--datastore-endpoint",
        &etcd.endpoints(),
        "--token",
        "a-token",
        "--secrets-encryption",
    ]);
    cluster.ok(&["create", "secret", "generic", "s", "--from-literal=password=geheim"]);
    let stored = || etcd.etcdctl(&["get", "/registry/secrets/default/s", "--print-value-only"]);
    let key = || stored().split(':').nth(4).unwrap_or_default().to_owned();
    assert!(stored().starts_with("k8s:enc:aesgcm:v1:aesgcmkey-"), "{}", stored());
    assert!(!stored().contains("geheim"));
    let first = key();
    let status = cluster.kedge(&["secrets-encrypt", "status"]);
    assert!(status.contains("Encryption Status: Enabled"), "{status}");

    cluster.kedge(&["secrets-encrypt", "rotate-keys"]);
    assert!(stored().starts_with("k8s:enc:aesgcm:v1:aesgcmkey-"), "{}", stored());
    assert_ne!(key(), first);
    // The keys come back with the server, and what they seal can be read.
    cluster.kill();
    cluster.start();
    let read = |cluster: &TestCluster| cluster.ok(&["get", "secret", "s", "-o", "jsonpath={.data.password}"]);
    assert_eq!(read(&cluster), "Z2VoZWlt");

    cluster.kedge(&["secrets-encrypt", "disable"]);
    assert!(stored().starts_with('{'), "{}", stored());
    let refused = cluster.kedge_output(&["secrets-encrypt", "rotate-keys"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("it is disabled"));
    cluster.kedge(&["secrets-encrypt", "enable"]);
    assert!(stored().starts_with("k8s:enc:aesgcm:v1:aesgcmkey-"), "{}", stored());
    assert_eq!(read(&cluster), "Z2VoZWlt");
}

#[test]
fn a_configuration_of_ones_own_is_used_as_upstream_does() {
    let etcd = Etcd::one();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("encryption.yaml");
    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let config = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [configmaps, deployments.apps]\n  providers:\n  - aesgcm:\n      keys:\n      - name: mine\n        secret: {secret}\n  - identity: {{}}\n"
    );
    std::fs::write(&file, config).unwrap();
    let setting = format!("encryption-provider-config={}", file.display());
    let cluster =
        TestCluster::control_plane_with(&["--datastore-endpoint", &etcd.endpoints(), "--kube-apiserver-arg", &setting]);
    cluster.ok(&["create", "configmap", "c", "--from-literal=a=b"]);
    cluster.ok(&["create", "deployment", "d", "--image=x"]);
    for key in ["/registry/configmaps/default/c", "/registry/deployments/default/d"] {
        let stored = etcd.etcdctl(&["get", key, "--print-value-only"]);
        assert!(stored.starts_with("k8s:enc:aesgcm:v1:mine:"), "{key}: {stored}");
    }
    assert_eq!(cluster.ok(&["get", "configmap", "c", "-o", "jsonpath={.data.a}"]), "b");
    let refused = cluster.kedge_output(&["secrets-encrypt", "enable"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("encryption-provider-config"));
}
