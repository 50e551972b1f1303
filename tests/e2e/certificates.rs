//! Certificates by request: asked for, approved or denied with kubectl, signed by the cluster, and used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_certs::{Kubeconfig, Leaf, Users, not_after};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use x509_parser::pem::{Pem, parse_x509_pem};

use crate::support::{TestCluster, eventually};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const NODE: [&str; 4] = ["--as", "system:node:n1", "--as-group", "system:nodes"];
const CONDITIONS: &str = "jsonpath={.status.conditions[*].type}";

struct Asking<'a> {
    name: &'a str,
    signer: &'a str,
    subject: &'a str,
    organizations: &'a str,
    names: &'a [&'a str],
    usages: &'a str,
    /// Lines of the specification.
    more: &'a str,
}

impl Asking<'_> {
    /// The manifest of a request that `key` signs.
    fn manifest(&self, key: &KeyPair) -> String {
        let names: Vec<String> = self.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.subject);
        params.distinguished_name.push(DnType::OrganizationName, self.organizations);
        let request = STANDARD.encode(params.serialize_request(key).unwrap().pem().unwrap());
        let Self { name, signer, usages, more, .. } = self;
        format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\n\
             spec:\n  request: {request}\n  signerName: {signer}\n  usages: [{usages}]\n  {more}\n"
        )
    }

    fn create(&self, cluster: &TestCluster, key: &KeyPair, as_: &[&str]) {
        let path = cluster.file(&format!("{}.yaml", self.name), &self.manifest(key));
        cluster.ok(&[&["create", "-f", &path.to_string_lossy()], as_].concat());
    }
}

fn jane<'a>(name: &'a str) -> Asking<'a> {
    let usages = "client auth, digital signature";
    Asking { name, signer: CLIENT, subject: "jane", organizations: "team", names: &[], usages, more: "" }
}

fn node<'a>(name: &'a str, signer: &'a str, usages: &'a str, names: &'a [&'a str]) -> Asking<'a> {
    Asking { name, signer, subject: "system:node:n1", organizations: "system:nodes", names, usages, more: "" }
}

/// The certificate of a request, once it is there.
fn certificate(cluster: &TestCluster, name: &str) -> String {
    let text = eventually("a certificate", || {
        let text = cluster.ok(&["get", "csr", name, "-o", "jsonpath={.status.certificate}"]);
        if text.is_empty() { Err("there is none".into()) } else { Ok(text) }
    });
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

fn authority(cluster: &TestCluster, file: &str) -> String {
    std::fs::read_to_string(cluster.data_dir().join("server/tls").join(file)).unwrap()
}

fn pem(text: &str) -> Pem {
    parse_x509_pem(text.as_bytes()).unwrap().1
}

#[test]
fn who_is_approved_comes_in_with_the_certificate() {
    let cluster = TestCluster::control_plane();
    let keys = [
        KeyPair::generate().unwrap(),
        KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
        KeyPair::generate_for(&PKCS_ED25519).unwrap(),
    ];
    for (i, key) in keys.iter().enumerate() {
        let name = format!("jane-{i}");
        jane(&name).create(&cluster, key, &[]);
        let shown = cluster.ok(&["get", "csr", &name, "--no-headers"]);
        assert!(shown.contains("Pending") && shown.contains(CLIENT), "{shown}");
        let said = cluster.ok(&["certificate", "approve", &name]);
        assert!(said.contains("approved"), "{said}");
        let leaf = Leaf { certificate: certificate(&cluster, &name), key: key.serialize_pem() };
        let shown = cluster.ok(&["get", "csr", &name, "--no-headers"]);
        assert!(shown.contains("Approved,Issued"), "{shown}");
        let server = format!("https://127.0.0.1:{}", cluster.port());
        let authority = authority(&cluster, "server-ca.crt");
        let path = cluster.data_dir().join("jane.yaml");
        let user = Users::Certificate(&leaf);
        Kubeconfig { server: &server, certificate_authority: &authority, user }.write(&path, 0o600).unwrap();
        let who = cluster.ok(&["--kubeconfig", &path.to_string_lossy(), "auth", "whoami", "-o", "json"]);
        let who: serde_json::Value = serde_json::from_str(&who).unwrap();
        assert_eq!(who["status"]["userInfo"]["username"], "jane");
        let groups = &who["status"]["userInfo"]["groups"];
        assert_eq!(*groups, serde_json::json!(["team", "system:authenticated"]));
    }
}

#[test]
fn requests_are_denied_fail_and_end_when_they_say() {
    let cluster = TestCluster::control_plane();
    let key = KeyPair::generate().unwrap();
    jane("denied").create(&cluster, &key, &[]);
    cluster.ok(&["certificate", "deny", "denied"]);
    Asking { usages: "server auth", ..jane("wrong") }.create(&cluster, &key, &[]);
    cluster.ok(&["certificate", "approve", "wrong"]);
    cluster.wait_for("Approved Failed", &["get", "csr", "wrong", "-o", CONDITIONS]);
    let failed = "jsonpath={.status.conditions[1].reason}: {.status.conditions[1].message}";
    let why = "SignerValidationFailure: invalid usage for client certificate: server auth";
    assert_eq!(cluster.ok(&["get", "csr", "wrong", "-o", failed]), why);
    Asking { more: "expirationSeconds: 7200", ..jane("short") }.create(&cluster, &key, &[]);
    assert!(cluster.ok(&["get", "csr", "short", "--no-headers"]).contains("120m"), "the duration is shown");
    cluster.ok(&["certificate", "approve", "short"]);
    let left = not_after(certificate(&cluster, "short").as_bytes()).unwrap()
        - time::OffsetDateTime::now_utc().unix_timestamp();
    assert!((7_000..=7_200).contains(&left), "{left}");
    let short = Asking { more: "expirationSeconds: 599", ..jane("too-short") }.manifest(&key);
    let said = cluster.fails(&["create", "-f", &cluster.file("too-short.yaml", &short).to_string_lossy()]);
    assert!(said.contains("may not specify a duration less than 600 seconds (10 minutes)"), "{said}");
    // What others sign is left to them.
    Asking { signer: "example.com/own", ..jane("other") }.create(&cluster, &key, &[]);
    cluster.ok(&["certificate", "approve", "other"]);
    assert_eq!(cluster.ok(&["get", "csr", "denied", "-o", CONDITIONS]), "Denied");
    for name in ["denied", "wrong", "other"] {
        assert_eq!(cluster.ok(&["get", "csr", name, "-o", "jsonpath={.status.certificate}"]), "", "{name}");
    }
}

#[test]
fn nodes_get_their_certificates() {
    let cluster = TestCluster::control_plane();
    let key = KeyPair::generate().unwrap();
    let usages = "digital signature, key encipherment, client auth";
    let role = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    cluster.ok(&["create", "clusterrolebinding", "own", "--clusterrole", role, "--group", "system:nodes"]);
    node("own", KUBELET, usages, &[]).create(&cluster, &key, &NODE);
    let leaf = Leaf { certificate: certificate(&cluster, "own"), key: key.serialize_pem() };
    let reason = "jsonpath={.status.conditions[0].reason}: {.status.conditions[0].message}";
    let said = cluster.ok(&["get", "csr", "own", "-o", reason]);
    assert_eq!(said, "AutoApproved: Auto approving self kubelet client certificate after SubjectAccessReview.");
    // A node does not ask for somebody else's, and what others ask for is for people to decide.
    let other = Asking { subject: "system:node:n2", ..node("others", KUBELET, usages, &[]) };
    let path = cluster.file("others.yaml", &other.manifest(&key)).to_string_lossy().into_owned();
    let said = cluster.fails(&[&NODE[..], &["create", "-f", &path]].concat());
    assert!(said.contains("can only create a node CSR with CN=system:node:n1"), "{said}");
    let asks = "system:node-bootstrapper";
    cluster.ok(&["create", "clusterrolebinding", "asks", "--clusterrole", asks, "--user", "someone"]);
    other.create(&cluster, &key, &["--as", "someone"]);
    let usages = "digital signature, key encipherment, server auth";
    node("serving", SERVING, usages, &["n1", "10.0.0.1"]).create(&cluster, &key, &NODE);
    cluster.ok(&["certificate", "approve", "serving"]);
    let serving = certificate(&cluster, "serving");
    assert!(not_after(serving.as_bytes()) > not_after(leaf.certificate.as_bytes()).map(|end| end - 600));
    let verified = |certificate: &str, ca: &str| {
        let authority = authority(&cluster, ca);
        let (certificate, authority) = (pem(certificate), pem(&authority));
        let issuer = authority.parse_x509().unwrap();
        certificate.parse_x509().unwrap().verify_signature(Some(issuer.public_key())).is_ok()
    };
    assert!(verified(&serving, "server-ca.crt") && !verified(&serving, "client-ca.crt"));
    assert!(verified(&leaf.certificate, "client-ca.crt"));
    assert_eq!(cluster.ok(&["get", "csr", "others", "-o", CONDITIONS]), "");
    node("no-names", SERVING, usages, &[]).create(&cluster, &key, &NODE);
    cluster.ok(&["certificate", "approve", "no-names"]);
    cluster.wait_for("Approved Failed", &["get", "csr", "no-names", "-o", CONDITIONS]);
}
