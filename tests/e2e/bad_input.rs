//! Bad input: the right Status, and nothing changed.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::TestCluster;

/// Sends a body as it is; returns what the server answered.
fn raw(cluster: &TestCluster, verb: &str, path: &str, body: &str) -> String {
    let mut command = cluster.kubectl_command(&[verb, "--raw", path, "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A server that refuses early is answered before everything has been sent; kubectl then reads no further.
    let _ = child.stdin.take().unwrap().write_all(body.as_bytes());
    let out = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn create(cluster: &TestCluster, manifest: &str) -> String {
    let path = cluster.file("bad.yaml", manifest);
    cluster.fails(&["create", "--validate=ignore", "-f", &path.to_string_lossy()])
}

fn assert_says(message: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[test]
fn what_cannot_be_read_is_a_bad_request() {
    let cluster = TestCluster::control_plane();
    for (path, body, wanted) in [
        (PODS, "{\"kind\": \"Pod\",", vec!["json parse error"]),
        (PODS, "[]", vec!["Pod"]),
        (PODS, "{\"kind\":\"Nonsense\",\"apiVersion\":\"v1\"}", vec!["no kind \\\"Nonsense\\\"", "Nonsense"]),
        (
            PODS,
            "{\"kind\":\"Pod\",\"apiVersion\":\"v2\"}",
            vec!["no kind \\\"Pod\\\" is registered for version \\\"v2\\\""],
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            "{\"kind\":\"Deployment\",\"apiVersion\":\"apps/v1\",\"spec\":{\"replicas\":\"three\"}}",
            vec!["cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"],
        ),
        (
            PODS,
            "{\"kind\":\"Pod\",\"metadata\":{\"namespace\":\"other\",\"name\":\"a\"}}",
            vec!["does not match the namespace sent"],
        ),
    ] {
        let answer = raw(&cluster, "create", path, body);
        assert_says(&answer.replace('"', "\\\"").replace("\\\\\"", "\\\""), &wanted);
    }
    assert_eq!(cluster.json(&["pods"])["items"].as_array().unwrap().len(), 0);
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let cluster = TestCluster::control_plane();
    let body = format!(
        "{{\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"big\"}},\"data\":{{\"a\":\"{}\"}}}}",
        "x".repeat(4 << 20)
    );
    let answer = raw(&cluster, "create", "/api/v1/namespaces/default/configmaps", &body);
    assert_says(&answer, &["limit is 3145728"]);
    cluster.fails(&["get", "configmap", "big"]);
}

#[test]
fn invalid_objects_name_their_fields() {
    let cluster = TestCluster::control_plane();
    let missing = create(&cluster, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n");
    assert_says(&missing, &["Pod \"a\" is invalid", "spec.containers: Required value"]);
    let name = create(&cluster, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n");
    assert_says(&name, &["metadata.name: Invalid value: \"Not_A_Name\"", "RFC 1123"]);
    let ports = create(
        &cluster,
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports:\n  - {name: a, port: 80}\n  - {name: b, port: 80}\n",
    );
    assert_says(&ports, &["spec.ports[1]: Duplicate value"]);
    let unknown = cluster.file("unknown.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\nspice: 1\n");
    let strict = cluster.fails(&["create", "--validate=strict", "-f", &unknown.to_string_lossy()]);
    assert_says(&strict, &["unknown field \"spice\""]);
    cluster.fails(&["get", "configmap", "c"]);
}

#[test]
fn a_stale_version_conflicts() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "c", "--from-literal=a=1"]);
    let old = cluster.ok(&["get", "configmap", "c", "-o", "yaml"]);
    cluster.ok(&["label", "configmap", "c", "x=y"]);
    let path = cluster.file("old.yaml", &old);
    let conflict = cluster.fails(&["replace", "-f", &path.to_string_lossy()]);
    assert_says(&conflict, &["the object has been modified"]);
    assert_eq!(cluster.json(&["configmap", "c"])["metadata"]["labels"]["x"], "y");
}

#[test]
fn what_is_not_there_is_not_found() {
    let cluster = TestCluster::control_plane();
    assert_says(&cluster.fails(&["get", "pod", "none"]), &["pods \"none\" not found"]);
    assert_says(&cluster.fails(&["get", "nonsense"]), &["the server doesn't have a resource type"]);
    assert_says(&cluster.fails(&["create", "configmap", "c", "-n", "none"]), &["namespaces \"none\" not found"]);
    assert_says(&cluster.fails(&["get", "--raw", "/nonsense"]), &["could not find the requested resource"]);
}
