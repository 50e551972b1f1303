//! What a node may read and change: itself, and the pods that are bound to it.

use http::{Method, StatusCode};
use kedge_meta::UserInfo;
use serde_json::json;

use crate::certificates::{KUBELET, REQUESTS, asking};
use crate::support::{Cluster, JSON, MERGE, NAMESPACE};

const SELECTING: &str = "can only list/watch pods with spec.nodeName field selector";
const UNRELATED: &str = "no relationship found between node 'n1' and this object";

async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    for (node, pod) in [("n1", "p"), ("n2", "q")] {
        cluster.ok("/api/v1/nodes", json!({"metadata": {"name": node}})).await;
        let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i"}]});
        let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        cluster.ok(&pods, json!({"metadata": {"name": pod}, "spec": spec})).await;
    }
    cluster
}

/// The code, and why, of a GET of the node `n1`; names of what it lists.
async fn get(cluster: &Cluster, path: &str) -> (u16, String) {
    let node = UserInfo::new("system:node:n1", &["system:nodes"]);
    let (code, answer) = cluster.ask_as(&node, Method::GET, path, JSON, "").await;
    let items = answer["items"].as_array().into_iter().flatten();
    let names: Vec<&str> = items.map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
    (code.as_u16(), answer["message"].as_str().map_or_else(|| names.join(","), str::to_owned))
}

async fn refused(cluster: &Cluster, path: &str, why: &str) {
    let (code, said) = get(cluster, path).await;
    assert!(code == 403 && said.ends_with(&format!(": {why}")), "{path}: {code} {said}");
}

/// Once every kubelet could read all pods of the cluster, with whatever their variables and annotations hold.
#[tokio::test]
async fn a_node_reads_the_pods_that_are_bound_to_it() {
    let cluster = cluster().await;
    let at = |rest: &str| format!("/api/v1/namespaces/{NAMESPACE}/pods{rest}");
    for path in ["/api/v1/pods", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", "/api/v1/pods?watch=1"] {
        refused(&cluster, path, SELECTING).await;
    }
    refused(&cluster, &at("?fieldSelector=spec.nodeName!%3Dn1"), SELECTING).await;
    refused(&cluster, &at("?fieldSelector=spec.nodeName%3D"), SELECTING).await;
    refused(&cluster, &at("/q"), UNRELATED).await;
    refused(&cluster, &at("/none"), UNRELATED).await;
    refused(&cluster, &at("?fieldSelector=metadata.name%3Dq"), UNRELATED).await;
    assert_eq!(get(&cluster, "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await, (200, "p".into()));
    assert_eq!(
        get(&cluster, &at("?fieldSelector=spec.nodeName%3D%3Dn1,status.phase!%3DFailed")).await,
        (200, "p".into())
    );
    assert_eq!(get(&cluster, &at("?fieldSelector=metadata.name%3Dp")).await, (200, "p".into()));
    assert_eq!(get(&cluster, &at("/p")).await.0, 200);
}

#[tokio::test]
async fn a_node_reads_itself() {
    let cluster = cluster().await;
    let all = "node 'n1' cannot read all nodes, only its own Node object";
    refused(&cluster, "/api/v1/nodes", all).await;
    refused(&cluster, "/api/v1/nodes?watch=1", all).await;
    let other = "node 'n1' cannot read 'n2', only its own Node object";
    refused(&cluster, "/api/v1/nodes/n2", other).await;
    refused(&cluster, "/api/v1/nodes?fieldSelector=metadata.name%3Dn2", other).await;
    assert_eq!(get(&cluster, "/api/v1/nodes/n1").await.0, 200);
    assert_eq!(get(&cluster, "/api/v1/nodes?fieldSelector=metadata.name%3Dn1").await, (200, "n1".into()));
}

/// CVE-2025-5187: a node that gave itself an owner could have itself deleted, and come back with the labels it likes.
#[tokio::test]
async fn a_node_gives_itself_no_owner_and_asks_in_no_other_name() {
    let cluster = cluster().await;
    let node = UserInfo::new("system:node:n1", &["system:nodes"]);
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "u"});
    let change = json!({"metadata": {"ownerReferences": [owner]}}).to_string();
    let (code, said) = cluster.ask_as(&node, Method::PATCH, "/api/v1/nodes/n1", MERGE, change).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{said}");
    assert!(
        said["message"].as_str().unwrap().ends_with("node \"n1\" is not allowed to modify ownerReferences"),
        "{said}"
    );
    for (name, subject, code) in
        [("own", "system:node:n1", StatusCode::CREATED), ("others", "system:node:n2", StatusCode::FORBIDDEN)]
    {
        let request = asking(name, KUBELET, ("system:nodes", subject), &["digital signature", "client auth"]);
        let (found, said) = cluster.ask_as(&node, Method::POST, REQUESTS, JSON, request.to_string()).await;
        assert_eq!(found, code, "{said}");
        let why = "can only create a node CSR with CN=system:node:n1";
        assert!(found.is_success() || said["message"].as_str().unwrap().ends_with(why), "{said}");
    }
}

/// Leases of others say who leads what, and for how long.
#[tokio::test]
async fn a_node_reads_its_own_lease_and_drivers() {
    let cluster = cluster().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces";
    let elsewhere = "can only access leases in the \"kube-node-lease\" system namespace";
    refused(&cluster, &format!("{leases}/kube-system/leases/scheduler"), elsewhere).await;
    let namesake = "can only access node lease with the same name as the requesting node";
    refused(&cluster, &format!("{leases}/kube-node-lease/leases/n2"), namesake).await;
    let one = "can only get, create, update, patch, or delete a node lease";
    refused(&cluster, &format!("{leases}/kube-node-lease/leases"), one).await;
    assert_eq!(get(&cluster, &format!("{leases}/kube-node-lease/leases/n1")).await.0, 404, "it may look");
    let drivers = "/apis/storage.k8s.io/v1/csinodes";
    let namesake = "can only access CSINode with the same name as the requesting node";
    refused(&cluster, &format!("{drivers}/n2"), namesake).await;
    refused(&cluster, drivers, "can only get, create, update, patch, or delete a CSINode").await;
    assert_eq!(get(&cluster, &format!("{drivers}/n1")).await.0, 404, "it may look");
}

/// Who asks on behalf of a node says what the node selects.
#[tokio::test]
async fn a_review_knows_what_is_selected() {
    let cluster = cluster().await;
    let review = async |selector: serde_json::Value| {
        let attributes = json!({"verb": "list", "resource": "pods", "fieldSelector": selector});
        let spec = json!({"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": attributes});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let (code, answer) = cluster.post(path, &json!({ "spec": spec })).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
        answer["status"].clone()
    };
    let requiring = |operator: &str, node: &str| json!({"requirements": [{"key": "spec.nodeName", "operator": operator, "values": [node]}]});
    assert_eq!(review(requiring("In", "n1")).await, json!({"allowed": true}));
    assert_eq!(review(json!({"rawSelector": "spec.nodeName=n1"})).await, json!({"allowed": true}));
    for selector in [requiring("NotIn", "n1"), requiring("In", "n2"), json!({"rawSelector": "spec.nodeName=n2"})] {
        let status = review(selector.clone()).await;
        assert_eq!((&status["allowed"], &status["reason"]), (&json!(false), &json!(SELECTING)), "{selector}");
    }
}

/// CVE-2025-4563: by the claims of a pod that it had made itself, a node reached devices and objects of others.
#[tokio::test]
async fn a_node_reaches_no_claims_of_others_by_pods_that_it_makes() {
    let cluster = cluster().await;
    let node = UserInfo::new("system:node:n1", &["system:nodes"]);
    let itself = cluster.get("/api/v1/nodes/n1").await;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let owner =
        json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": itself["metadata"]["uid"], "controller": true});
    let claims = json!([{"name": "c", "resourceClaimName": "of-others"}]);
    let mirror = |name: &str, claims: &serde_json::Value| {
        let annotations = json!({"kubernetes.io/config.mirror": "x"});
        let metadata = json!({"name": name, "annotations": annotations, "ownerReferences": [owner]});
        let containers = json!([{"name": "c", "image": "i", "terminationMessagePolicy": "File"}]);
        json!({"metadata": metadata, "spec": {"nodeName": "n1", "containers": containers, "resourceClaims": claims},
            "status": {"resourceClaimStatuses": claims, "extendedResourceClaimStatus": {"resourceClaimName": "of-others"}}})
    };
    let (code, said) = cluster.ask_as(&node, Method::POST, &pods, JSON, mirror("m", &claims).to_string()).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{said}");
    assert!(said["message"].as_str().unwrap().contains("resourceclaims"), "{said}");
    let none = mirror("m", &json!([])).to_string();
    let (code, made) = cluster.ask_as(&node, Method::POST, &pods, JSON, none).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let status = &made["status"];
    assert!(status["resourceClaimStatuses"].is_null() && status["extendedResourceClaimStatus"].is_null(), "{made}");
    for change in [
        json!({"resourceClaimStatuses": claims}),
        json!({"extendedResourceClaimStatus": {"resourceClaimName": "of-others"}}),
    ] {
        let change = json!({"status": change}).to_string();
        let (code, said) = cluster.ask_as(&node, Method::PATCH, &format!("{pods}/m/status"), MERGE, change).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{said}");
    }
}
