//! Mutating admission policies: what they make of objects.

use serde_json::{Value, json};

use crate::support::{TestCluster, eventually};

/// A policy with these steps, and a binding of it for everything.
fn policy(name: &str, resource: &str, mutations: &[Value], fields: &Value) -> [String; 2] {
    let group = "admissionregistration.k8s.io/v1";
    let (api_group, resource) = resource.split_once('/').unwrap();
    let rules = json!([{"apiGroups": [api_group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}]);
    let mut spec =
        json!({"matchConstraints": {"resourceRules": rules}, "reinvocationPolicy": "Never", "mutations": mutations});
    fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
    let metadata = json!({"name": name});
    [
        json!({"apiVersion": group, "kind": "MutatingAdmissionPolicy", "metadata": metadata, "spec": spec}),
        json!({"apiVersion": group, "kind": "MutatingAdmissionPolicyBinding", "metadata": metadata, "spec": {"policyName": name}}),
    ]
    .map(|object| object.to_string())
}

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

#[test]
fn both_kinds_of_mutations_are_done_in_order() {
    let cluster = TestCluster::control_plane();
    let label = apply("Object{metadata: Object.metadata{labels: {'policy': 'seen'}}}");
    let other = patch(
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/a'), value: object.metadata.labels.policy}]",
    );
    policy("a", "/configmaps", &[label, other], &json!({})).iter().for_each(|object| cluster.apply(object));
    let count = apply("Object{data: {'count': string(object.data.size())}}");
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    policy("again", "/configmaps", &[count], &again).iter().for_each(|object| cluster.apply(object));
    let last = json!({"matchConditions": [{"name": "c", "expression": "object.metadata.name.startsWith('m')"}]});
    let more = apply("Object{data: {'more': 'x'}}");
    policy("last", "/configmaps", &[more], &last).iter().for_each(|object| cluster.apply(object));
    cluster.ok(&["create", "configmap", "m", "--from-literal=own=1"]);
    let made = cluster.json(&["configmap", "m"]);
    assert_eq!(made["metadata"]["labels"], json!({"policy": "seen", "example.com/a": "seen"}));
    assert_eq!(made["data"], json!({"own": "1", "count": "3", "more": "x"}));
    cluster.ok(&["create", "configmap", "other", "--from-literal=own=1"]);
    assert_eq!(cluster.json(&["configmap", "other"])["data"]["more"], Value::Null);
    // Nothing that is one value can be set in part.
    let selector = apply("Object{spec: Object.spec{selector: {'a': 'b'}}}");
    policy("one", "/services", &[selector], &json!({})).iter().for_each(|object| cluster.apply(object));
    let said = cluster.fails(&["create", "service", "clusterip", "s", "--tcp=80"]);
    let told = "policy 'one' with binding 'one' denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic \
                arrays, maps or structs: .spec.selector";
    assert!(said.contains(told), "{said}");
    cluster.ok(&["delete", "mutatingadmissionpolicybinding", "one", "a", "again", "last"]);
    cluster.ok(&["create", "service", "clusterip", "s", "--tcp=80"]);
    cluster.ok(&["create", "configmap", "n", "--from-literal=own=1"]);
    assert_eq!(cluster.json(&["configmap", "n"])["data"], json!({"own": "1"}));
}

/// What a policy adds to pods, the server's own plugins see too.
#[test]
fn pods_of_a_deployment_are_changed_before_they_are_made() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    let sidecar = apply(
        "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'proxy', image: 'mesh/proxy', restartPolicy: 'Always'}]}}",
    );
    let conditions = json!([{"name": "no-proxy-yet", "expression": "!object.spec.?initContainers.orValue([]).exists(c, c.name == 'proxy')"}]);
    let fields = json!({"matchConditions": conditions});
    policy("sidecar", "/pods", &[sidecar], &fields).iter().for_each(|object| cluster.apply(object));
    cluster.ok(&["create", "deployment", "d", "--image=example.com/x"]);
    let pod = eventually("a pod", || {
        let pods = cluster.json(&["pods", "-l", "app=d"]);
        pods["items"].get(0).cloned().ok_or_else(|| pods.to_string())
    });
    let proxy = &pod["spec"]["initContainers"][0];
    assert_eq!((&proxy["name"], &proxy["restartPolicy"]), (&json!("proxy"), &json!("Always")));
    assert_eq!(proxy["terminationMessagePath"], "/dev/termination-log", "with defaults");
    let mounts = proxy["volumeMounts"].as_array().map(Vec::len);
    assert_eq!(mounts, Some(1), "the service account's token is there too: {proxy}");
}
