//! Requests for certificates with the controllers that approve, sign and remove them, by a clock that the tests move.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use kedge_base::{TaskGroup, VirtualClock};
use kedge_meta::UserInfo;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use x509_parser::pem::parse_x509_pem;

use crate::followers::{start_controllers, until};
use crate::support::{Cluster, JSON, MERGE};

pub const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";

struct Signed {
    cluster: Cluster,
    clock: VirtualClock,
    _tasks: TaskGroup,
}

async fn cluster() -> Signed {
    let cluster = Cluster::new().await;
    let clock = VirtualClock::new(kedge_base::system_clock().now());
    let _tasks = start_controllers(&cluster, &(Arc::new(clock.clone()) as kedge_base::SharedClock));
    Signed { cluster, clock, _tasks }
}

pub fn asking(name: &str, signer: &str, (organization, subject): (&str, &str), usages: &[&str]) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let spec = json!({"request": STANDARD.encode(pem), "signerName": signer, "usages": usages});
    json!({"metadata": {"name": name}, "spec": spec})
}

impl Signed {
    async fn decide(&self, name: &str, decision: &str) {
        let condition = json!({"type": decision, "status": "True", "reason": "Test", "message": "so"});
        let path = format!("{REQUESTS}/{name}/approval");
        let (code, said) = self.cluster.patch(&path, MERGE, &json!({"status": {"conditions": [condition]}})).await;
        assert_eq!(code, StatusCode::OK, "{said}");
    }

    async fn certificate(&self, name: &str) -> Vec<u8> {
        let path = format!("{REQUESTS}/{name}");
        until(&self.cluster, &path, "is signed", |_, request| request["status"]["certificate"].is_string()).await;
        let request = self.cluster.get(&path).await;
        STANDARD.decode(request["status"]["certificate"].as_str().unwrap()).unwrap()
    }

    fn pass(&self, hours: u64) {
        self.clock.advance(Duration::from_secs(hours * 3600 + 2));
    }

    /// Waits until a request is gone. Time passes meanwhile: whoever had not gone to sleep yet sleeps for as long again.
    async fn gone(&self, name: &str) {
        let path = format!("{REQUESTS}/{name}");
        until(&self.cluster, &path, "goes", |code, _| {
            self.clock.advance(Duration::from_secs(60));
            code == StatusCode::NOT_FOUND
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_approved_is_signed_for_as_long_as_was_asked() {
    let signed = cluster().await;
    let mut request = asking("jane", CLIENT, ("team", "jane"), &["client auth", "digital signature"]);
    request["spec"]["expirationSeconds"] = json!(7200);
    signed.cluster.ok(REQUESTS, request).await;
    signed.decide("jane", "Approved").await;
    let pem = signed.certificate("jane").await;
    let (_, block) = parse_x509_pem(&pem).unwrap();
    let certificate = block.parse_x509().unwrap();
    let (_, authority) = parse_x509_pem(signed.cluster.pki.client_ca.certificate.as_bytes()).unwrap();
    let authority = authority.parse_x509().unwrap();
    certificate.verify_signature(Some(authority.public_key())).unwrap();
    assert_eq!(certificate.subject().to_string(), "O=team, CN=jane");
    let validity = certificate.validity();
    assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 7200 + 300);
    // What is issued stays.
    let path = format!("{REQUESTS}/jane/status");
    let other = json!({"status": {"certificate": STANDARD.encode(&signed.cluster.pki.server_ca.certificate)}});
    let (code, said) = signed.cluster.patch(&path, MERGE, &other).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let why = "status.certificate: Forbidden: updates may not modify existing certificate content";
    assert!(said["message"].as_str().unwrap().ends_with(why), "{said}");
    signed.pass(1);
    signed.gone("jane").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_signer_does_not_stand_for_fails_and_goes() {
    let signed = cluster().await;
    signed.cluster.ok(REQUESTS, asking("wrong", CLIENT, ("", "jane"), &["server auth"])).await;
    signed.cluster.ok(REQUESTS, asking("denied", CLIENT, ("", "jane"), &["client auth"])).await;
    signed.cluster.ok(REQUESTS, asking("forgotten", CLIENT, ("", "jane"), &["client auth"])).await;
    signed.cluster.ok(REQUESTS, asking("other", "example.com/own", ("", "jane"), &["client auth"])).await;
    signed.decide("wrong", "Approved").await;
    signed.decide("denied", "Denied").await;
    signed.decide("other", "Approved").await;
    let path = |name: &str| format!("{REQUESTS}/{name}");
    let failed = |_: StatusCode, request: &Value| {
        let condition = &request["status"]["conditions"][1];
        condition["type"] == "Failed"
            && condition["reason"] == "SignerValidationFailure"
            && condition["message"] == "invalid usage for client certificate: server auth"
    };
    until(&signed.cluster, &path("wrong"), "fails", failed).await;
    signed.pass(1);
    signed.gone("wrong").await;
    signed.gone("denied").await;
    // Nobody has decided about the one, and nobody here signs the other.
    let other = signed.cluster.get(&path("other")).await;
    assert!(other["status"]["certificate"].is_null(), "{other}");
    signed.cluster.get(&path("forgotten")).await;
    signed.pass(23);
    signed.gone("forgotten").await;
    signed.gone("other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_approved_when_who_asks_may() {
    let signed = cluster().await;
    let cluster = &signed.cluster;
    let node = UserInfo::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    let bootstrap = UserInfo::new("system:bootstrap:abc", &["system:bootstrappers"]);
    let rule = |resources: &str, verbs: &[&str]| json!({"apiGroups": ["certificates.k8s.io"], "resources": [resources], "verbs": verbs});
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name}, "rules": rules});
    let binding = |name: &str, role: &str, group: &str| {
        json!({
            "metadata": {"name": name},
            "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        })
    };
    let (roles, bindings) = (format!("{RBAC}/clusterroles"), format!("{RBAC}/clusterrolebindings"));
    cluster.ok(&roles, role("asks", json!([rule("certificatesigningrequests", &["create"])]))).await;
    cluster.ok(&bindings, binding("asks", "asks", "system:bootstrappers")).await;
    cluster.ok(&bindings, binding("asks-too", "asks", "system:nodes")).await;
    let own = json!([rule("certificatesigningrequests/selfnodeclient", &["create"])]);
    cluster.ok(&roles, role("own", own)).await;
    cluster.ok(&bindings, binding("own", "own", "system:nodes")).await;
    let usages = ["client auth", "digital signature", "key encipherment"];
    let ask = async |user: &UserInfo, name: &str, node: &str| {
        let request = asking(name, KUBELET, ("system:nodes", node), &usages);
        let (code, said) = cluster.ask_as(user, Method::POST, REQUESTS, JSON, request.to_string()).await;
        assert_eq!(code, StatusCode::CREATED, "{said}");
    };
    ask(&node, "own", "system:node:n1").await;
    ask(&UserInfo::new("someone", &["system:nodes"]), "others", "system:node:n2").await;
    ask(&bootstrap, "joining", "system:node:n3").await;
    signed.certificate("own").await;
    let message =
        |request: &Value| request["status"]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
    let own = cluster.get(&format!("{REQUESTS}/own")).await;
    assert_eq!(message(&own), "Auto approving self kubelet client certificate after SubjectAccessReview.");
    assert_eq!(own["status"]["conditions"][0]["reason"], "AutoApproved");
    assert_eq!(own["spec"]["username"], "system:node:n1");
    // The right is given later; it is asked about again.
    let any = json!([rule("certificatesigningrequests/nodeclient", &["create"])]);
    cluster.ok(&roles, role("any", any)).await;
    cluster.ok(&bindings, binding("any", "any", "system:bootstrappers")).await;
    let path = format!("{REQUESTS}/joining");
    until(cluster, &path, "is approved", |_, request| {
        signed.clock.advance(Duration::from_secs(1));
        message(request) == "Auto approving kubelet client certificate after SubjectAccessReview."
    })
    .await;
    signed.certificate("joining").await;
    let others = cluster.get(&format!("{REQUESTS}/others")).await;
    assert!(others["status"]["conditions"].is_null(), "{others}");
}
