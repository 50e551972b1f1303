//! Claims on devices through the verbs: who may ask for what others use, and what stays.

use super::*;

fn claim(admin: bool) -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c", "namespace": "test"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "adminAccess": admin}}]}}})
}

fn allocation(device: &str, admin: bool) -> Value {
    json!({"devices": {"results": [{"request": "r", "driver": "d.example.com", "pool": "p", "device": device, "adminAccess": admin}]}})
}

#[tokio::test]
async fn access_as_an_administrator_is_for_namespaces_with_a_label() {
    let cluster = Cluster::new().await;
    let refused = cluster.create(&claim(true)).await.unwrap_err();
    let at = "spec.devices.requests[0].adminAccess";
    assert!(
        complaints(&refused).contains(&format!("{at}: Internal error: could not retrieve namespace")),
        "{refused:?}"
    );
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "test"}});
    let mut namespace = cluster.create(&namespace).await.unwrap();
    let refused = cluster.create(&claim(true)).await.unwrap_err();
    let label = "admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    assert!(complaints(&refused).ends_with(&format!("{at}: Forbidden: {label}")), "{refused:?}");
    let mut created = cluster.create(&claim(false)).await.unwrap();
    created["status"] = json!({"allocation": allocation("a", true)});
    let refused = cluster.update(&created, "status").await.unwrap_err();
    let at = "status.allocation.devices.results[0].adminAccess";
    assert!(complaints(&refused).ends_with(&format!("{at}: Forbidden: {label}")), "{refused:?}");
    namespace["metadata"]["labels"] = json!({"resource.kubernetes.io/admin-access": "true"});
    cluster.update(&namespace, "").await.unwrap();
    let granted = cluster.update(&created, "status").await.unwrap();
    assert_eq!(granted["status"]["allocation"]["devices"]["results"][0]["device"], "a");
}

#[tokio::test]
async fn what_is_claimed_and_what_is_allocated_stay() {
    let cluster = Cluster::new().await;
    let mut created = cluster.create(&claim(false)).await.unwrap();
    let mut other = created.clone();
    other["spec"]["devices"]["requests"][0]["name"] = json!("A_");
    let refused = cluster.update(&other, "").await.unwrap_err();
    assert!(complaints(&refused).contains("is invalid: spec: Invalid value: "), "only that it changes: {refused:?}");
    assert!(complaints(&refused).ends_with(": field is immutable"), "{refused:?}");
    let said = json!({"driver": "d.example.com", "pool": "p", "device": "a"});
    created["status"] = json!({"allocation": allocation("a", false), "devices": [said]});
    let mut allocated = cluster.update(&created, "status").await.unwrap();
    assert_eq!(allocated["status"]["devices"][0]["device"], "a");
    let mut moved = allocated.clone();
    moved["status"]["allocation"] = allocation("b", false);
    assert!(
        complaints(&cluster.update(&moved, "status").await.unwrap_err()).contains("status.allocation: Invalid value")
    );
    allocated["status"].as_object_mut().unwrap().remove("allocation");
    let free = cluster.update(&allocated, "status").await.unwrap();
    assert!(free["status"].get("devices").is_none(), "what was said of the device goes with it");
}

#[tokio::test]
async fn a_slice_counts_its_changes_and_dates_its_taints() {
    let cluster = Cluster::new().await;
    let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": {
        "driver": "d.example.com", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "d", "taints": [{"key": "a", "effect": "NoSchedule"}], "attributes": {"a": {"int": 1}}}]}});
    let created = cluster.create(&slice).await.unwrap();
    assert!(created["spec"]["devices"][0]["taints"][0]["timeAdded"].is_string());
    let mut more = created.clone();
    more["spec"]["devices"].as_array_mut().unwrap().push(json!({"name": "e"}));
    assert_eq!(cluster.update(&more, "").await.unwrap()["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_new_label_is_a_change_of_an_endpoint_slice() {
    let cluster = Cluster::new().await;
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s", "namespace": "test"},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": []});
    let mut slice = cluster.create(&slice).await.unwrap();
    slice["metadata"]["annotations"] = json!({"a": "b"});
    let mut slice = cluster.update(&slice, "").await.unwrap();
    assert_eq!(slice["metadata"]["generation"], 1);
    slice["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(cluster.update(&slice, "").await.unwrap()["metadata"]["generation"], 2);
}
