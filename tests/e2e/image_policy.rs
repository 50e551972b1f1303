//! Images that somebody outside lets run, and namespaces that come with what is first in them.

use serde_json::json;

use crate::support::TestCluster;
use crate::support::webhook::{Reply, Webhook};

/// Lets images run that do not say otherwise; about one it has nothing to say.
fn review(_: &str, review: &serde_json::Value) -> Reply {
    let images = review["spec"]["containers"].to_string();
    if images.contains("unknown") {
        return Reply::Raw(400, "{}".into());
    }
    let status = match images.contains("bad") {
        true => json!({"allowed": false, "reason": "it is bad"}),
        false => json!({"allowed": true}),
    };
    Reply::Raw(
        200,
        json!({"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview", "status": status}).to_string(),
    )
}

#[test]
fn images_are_reviewed_by_who_is_named_in_the_configuration() {
    let hook = Webhook::start(review);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let kubeconfig = file(
        "reviewer.yaml",
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: r, cluster: {{server: 'https://127.0.0.1:{}/images', certificate-authority-data: {}}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: c, context: {{cluster: r, user: u}}}}]\n",
            hook.port(),
            hook.bundle()
        ),
    );
    let configuration = file(
        "admission.yaml",
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: ImagePolicyWebhook\n\
             \x20 configuration: {{imagePolicy: {{kubeConfigFile: {kubeconfig}, allowTTL: 50, denyTTL: 50, retryBackoff: 100, defaultAllow: false}}}}\n"
        ),
    );
    let cluster = TestCluster::control_plane_with(&[
        &format!("--kube-apiserver-arg=admission-control-config-file={configuration}"),
        "--kube-apiserver-arg=enable-admission-plugins=ImagePolicyWebhook,NamespaceAutoProvision",
        "--disable-scheduler",
    ]);
    cluster.wait_for_account();
    cluster.ok(&["run", "good", "--image=good:1"]);
    let said = cluster.fails(&["run", "bad", "--image=bad:1"]);
    let why = "pods \"bad\" is forbidden: image policy webhook backend denied one or more images: it is bad";
    assert!(said.contains(why), "{said}");
    let said = cluster.fails(&["run", "unknown", "--image=unknown:1"]);
    let why = "pods \"unknown\" is forbidden: the server rejected our request for an unknown reason";
    assert!(said.contains(why), "{said}");
    let asked = hook.asked("/images");
    assert_eq!(asked[0]["spec"], json!({"containers": [{"image": "good:1"}], "namespace": "default"}));
    assert_eq!(asked.len(), 3);
    cluster.ok(&["run", "good-2", "--image=good:1"]);
    assert_eq!(hook.asked("/images").len(), 3, "what was said counts for a while");
    // And the namespace comes with its first object, but not with one that is only tried.
    cluster.ok(&["create", "configmap", "c", "-n", "new", "--dry-run=client"]);
    assert!(
        cluster
            .fails(&["create", "configmap", "c", "-n", "new", "--dry-run=server"])
            .contains("namespaces \"new\" not found")
    );
    cluster.ok(&["create", "configmap", "c", "-n", "new"]);
    cluster.wait_for("Active", &["get", "namespace", "new", "-o", "jsonpath={.status.phase}"]);
}
