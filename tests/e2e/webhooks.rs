//! Admission webhooks: what they are asked, and what becomes of their answers.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::webhook::{Reply, Webhook, allow, configuration, deny, patch};
use crate::support::{TestCluster, eventually};

fn map(cluster: &TestCluster, name: &str) -> Value {
    cluster.json(&["configmap", name])
}

fn set(path: &str, value: &str) -> Value {
    json!([{"op": "add", "path": path, "value": value}])
}

/// What kubectl says to a config map that is refused.
fn refused(cluster: &TestCluster, name: &str) -> String {
    refused_map(cluster, &json!({"metadata": {"name": name}}))
}

fn refused_map(cluster: &TestCluster, fields: &Value) -> String {
    let mut map = fields.clone();
    (map["apiVersion"], map["kind"]) = ("v1".into(), "ConfigMap".into());
    let file = cluster.file("refused.json", &map.to_string());
    cluster.fails(&["create", "-f", file.to_str().unwrap()])
}

#[test]
fn a_webhook_lets_pass_or_refuses_in_its_own_words() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|_, request| match request["name"].as_str() {
        Some("bad") => deny("it is bad"),
        Some("silent") => Reply::Response(json!({"allowed": false})),
        Some("own") => Reply::Response(json!({"allowed": false, "status": {"reason": "the map is unwanted"}})),
        _ => allow(),
    });
    cluster.apply(&configuration("Validating", "v", &[hook.hook("v", &json!({}))]));
    cluster.ok(&["create", "configmap", "good", "--from-literal=a=b"]);
    let by = "admission webhook \"v.example.com\" denied the request";
    let said = refused(&cluster, "bad");
    assert!(said.starts_with("Error from server (Forbidden)") && said.contains(&format!("{by}: it is bad")), "{said}");
    let said = refused(&cluster, "silent");
    assert!(said.contains(&format!("{by} without explanation")), "{said}");
    let said = refused(&cluster, "own");
    assert!(said.starts_with("Error from server (the map is unwanted)"), "a reason that it made up: {said}");
    assert!(said.contains(&format!("{by}: the map is unwanted")), "{said}");
    // Elsewhere nobody is asked, and of what configures admission neither.
    cluster.ok(&["create", "configmap", "bad", "-n", "kube-public"]);
    let asked = hook.asked("/v");
    let names: Vec<&str> = asked.iter().filter_map(|request| request["name"].as_str()).collect();
    assert_eq!(names, ["good", "bad", "silent", "own"]);
    let request = &asked[0];
    let maps = json!({"group": "", "version": "v1", "resource": "configmaps"});
    assert_eq!((&request["operation"], &request["resource"]), (&json!("CREATE"), &maps));
    assert_eq!((&request["object"]["data"]["a"], &request["oldObject"]), (&json!("b"), &Value::Null));
    assert_eq!((&request["dryRun"], &request["namespace"]), (&json!(false), &json!("default")));
    assert_eq!(request["options"]["fieldManager"], "kubectl-create");
    assert_eq!(request["userInfo"]["groups"], json!(["system:masters", "system:authenticated"]));
    // What is gone is in force no longer, from the answer on.
    cluster.ok(&["delete", "validatingwebhookconfiguration", "v"]);
    cluster.ok(&["create", "configmap", "bad"]);
}

#[test]
fn webhooks_change_objects_in_order_and_see_them_again() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|path, request| {
        let seen = request["object"]["data"].as_object().map_or(0, serde_json::Map::len);
        match path {
            "/first" => patch(&set(&format!("/data/first-{seen}"), "x")),
            "/again" if seen < 5 => patch(&set(&format!("/data/again-{seen}"), "x")),
            "/last" if request["object"]["data"]["last"].is_null() => patch(&set("/data/last", "x")),
            _ => allow(),
        }
    });
    // Configurations are asked by their names, webhooks of one in its order.
    let again = hook.hook("again", &json!({"reinvocationPolicy": "IfNeeded"}));
    cluster.apply(&configuration("Mutating", "b", &[again, hook.hook("last", &json!({}))]));
    cluster.apply(&configuration("Mutating", "a", &[hook.hook("first", &json!({}))]));
    cluster.ok(&["create", "configmap", "m", "--from-literal=own=x"]);
    let fields: Vec<String> = map(&cluster, "m")["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["again-2", "again-4", "first-1", "last", "own"]);
    let calls = ["/first", "/again", "/last"].map(|path| hook.asked(path).len());
    assert_eq!(calls, [1, 2, 1], "only who wants to sees it again");
}

/// What a webhook adds to pods, the server's own plugins see too.
#[test]
fn pods_of_a_deployment_are_changed_before_they_are_made() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    let hook = Webhook::start(|_, request| {
        let name = request["object"]["metadata"]["generateName"].as_str().unwrap_or_default();
        if !name.starts_with("web-") {
            return allow();
        }
        let container = json!({"name": "added", "image": "example.com/added"});
        patch(&json!([{"op": "add", "path": "/spec/initContainers", "value": [container]}]))
    });
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    cluster.apply(&configuration("Mutating", "m", &[hook.hook("pods", &json!({"rules": rules}))]));
    cluster.ok(&["create", "deployment", "web", "--image=example.com/web"]);
    let added = "jsonpath={.items[0].spec.initContainers[0].name}";
    cluster.wait_for("added", &["get", "pods", "-l", "app=web", "-o", added]);
    let pods = cluster.json(&["pods", "-l", "app=web"]);
    let container = &pods["items"][0]["spec"]["initContainers"][0];
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log", "with the defaults of its kind");
    let mount = &container["volumeMounts"][0]["mountPath"];
    assert_eq!(mount, "/var/run/secrets/kubernetes.io/serviceaccount", "and with what pods are given");
    let owners = &pods["items"][0]["metadata"]["ownerReferences"][0]["kind"];
    assert_eq!(owners, "ReplicaSet");
    assert_eq!(hook.asked("/pods")[0]["userInfo"]["username"], "system:kube-controller-manager");
}

#[test]
fn deletions_and_connections_are_admitted() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    let hook = Webhook::start(|_, request| match (request["operation"].as_str(), request["subResource"].as_str()) {
        (Some("DELETE"), _) if request["oldObject"]["data"]["keep"].is_string() => deny("it is kept"),
        (Some("CONNECT"), Some("exec")) => deny("nobody goes in"),
        _ => allow(),
    });
    let rules = json!([
        {"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]},
        {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec", "pods/attach"]},
    ]);
    cluster.apply(&configuration("Validating", "v", &[hook.hook("v", &json!({"rules": rules}))]));
    cluster.ok(&["create", "configmap", "kept", "--from-literal=keep=x"]);
    cluster.ok(&["create", "configmap", "other"]);
    cluster.ok(&["delete", "configmap", "other"]);
    for all in [&["delete", "configmap", "kept"][..], &["delete", "configmaps", "--all"]] {
        let said = cluster.fails(all);
        assert!(said.contains("admission webhook \"v.example.com\" denied the request: it is kept"), "{said}");
    }
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n\
         spec: {nodeName: elsewhere, containers: [{name: c, image: example.com/x}]}\n",
    );
    let said = cluster.fails(&["exec", "p", "--", "ls", "-l"]);
    assert!(said.contains("admission webhook \"v.example.com\" denied the request: nobody goes in"), "{said}");
    let said = cluster.fails(&["attach", "p", "-c", "c"]);
    assert!(!said.contains("denied the request"), "{said}");
    let asked = hook.asked("/v");
    let exec = asked.iter().find(|request| request["subResource"] == "exec").unwrap();
    let options = json!({"apiVersion": "v1", "kind": "PodExecOptions", "command": ["ls", "-l"], "container": "c",
        "stdout": true, "stderr": true});
    assert_eq!((&exec["object"], &exec["kind"]["kind"]), (&options, &json!("PodExecOptions")));
    assert_eq!((&exec["options"], &exec["name"]), (&Value::Null, &json!("p")));
    let deleted: Vec<&Value> = asked.iter().filter(|request| request["operation"] == "DELETE").collect();
    assert!(deleted.iter().all(|request| request["object"].is_null()));
    assert_eq!(deleted[0]["options"]["kind"], "DeleteOptions");
    let whole: Vec<&Value> = deleted.into_iter().filter(|request| request.get("name").is_none()).collect();
    // kubectl deletes one after the other; the API deletes all by itself.
    assert!(whole.is_empty());
    let said = cluster.fails(&["delete", "--raw", "/api/v1/namespaces/default/configmaps"]);
    assert!(said.contains("it is kept"), "{said}");
    assert!(hook.asked("/v").iter().any(|request| request.get("name").is_none()), "the collection has no name");
}

#[test]
fn warnings_reach_the_client_whatever_comes_of_its_request() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|_, request| {
        let denied = request["name"] == "bad";
        Reply::Response(json!({"allowed": !denied, "warnings": ["mind the gap", "mind the gap"]}))
    });
    let rules = json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    cluster.apply(&configuration("Validating", "v", &[hook.hook("v", &json!({"rules": rules}))]));
    for (args, succeeds) in [
        (&["create", "configmap", "good"][..], true),
        (&["create", "configmap", "bad"], false),
        (&["delete", "configmap", "good"], true),
    ] {
        let out = cluster.kubectl(args);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.success(), succeeds, "{said}");
        assert_eq!(said.matches("Warning: mind the gap").count(), 1, "{args:?}: {said}");
    }
}

#[test]
fn a_dry_run_is_no_business_of_who_has_effects() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|_, _| allow());
    let none = hook.hook("none", &json!({"sideEffects": "NoneOnDryRun"}));
    cluster.apply(&configuration("Validating", "v", &[none]));
    cluster.ok(&["create", "configmap", "m", "--dry-run=server"]);
    assert_eq!(hook.asked("/none")[0]["dryRun"], true);
    let some = configuration("Validating", "w", &[hook.hook("some", &json!({"sideEffects": "Some"}))]);
    let file = cluster.file("some.json", &some);
    let said = cluster.fails(&["apply", "-f", file.to_str().unwrap()]);
    let wanted = "Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"";
    assert!(said.contains(wanted), "{said}");
}

/// It asks the server about what the server asks it, and writes what other webhooks are asked about.
#[test]
fn a_webhook_may_ask_the_api_itself() {
    let cluster = TestCluster::control_plane();
    let kubeconfig = cluster.kubeconfig();
    let hook = Webhook::start(move |_, request| {
        let name = request["name"].as_str().unwrap_or_default();
        if name.starts_with("again-") {
            return allow();
        }
        let mut command = Command::new(std::env::var_os("KEDGE_TEST_KUBECTL").unwrap());
        command.arg("--kubeconfig").arg(&kubeconfig).args(["create", "configmap", &format!("again-{name}")]);
        let done = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status().unwrap();
        if done.success() { allow() } else { deny("it could not be written") }
    });
    cluster.apply(&configuration("Validating", "v", &[hook.hook("v", &json!({"timeoutSeconds": 30}))]));
    let started: Vec<_> = (0..8)
        .map(|i| {
            let mut command = cluster.kubectl_command(&["create", "configmap", &format!("m{i}")]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in started {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    assert_eq!(cluster.json(&["configmap", "again-m7"])["metadata"]["name"], "again-m7");
}

/// The webhook runs outside of the cluster; its service has endpoints all the same.
#[test]
fn services_are_found_by_their_endpoints() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|_, _| deny("as it is asked to"));
    let service = json!({"namespace": "default", "name": "hook", "path": "/v", "port": 8443});
    let client = json!({"service": service, "caBundle": hook.bundle()});
    cluster.apply(&configuration("Validating", "v", &[hook.hook("v", &json!({"clientConfig": client}))]));
    let post = "Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: Post \
                \"https://hook.default.svc:8443/v?timeout=10s\"";
    let said = cluster.fails(&["create", "configmap", "m"]);
    assert!(said.contains(&format!("{post}: service \"hook\" not found")), "{said}");
    let ports = format!("ports: [{{name: web, port: 8443, targetPort: {}}}]", hook.port());
    cluster.apply(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: hook}}\nspec: {{{ports}}}\n"));
    let said = cluster.fails(&["create", "configmap", "m"]);
    assert!(said.contains(&format!("{post}: no endpoints available for service \"hook\"")), "{said}");
    let address = cluster.ok(&["get", "endpointslice", "kubernetes", "-o", "jsonpath={.endpoints[0].addresses[0]}"]);
    cluster.apply(&format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: hook-1, labels: {{kubernetes.io/service-name: hook}}}}\n\
         ports: [{{name: web, port: {}}}]\nendpoints: [{{addresses: [{address}]}}]\n",
        hook.port()
    ));
    let said = cluster.fails(&["create", "configmap", "m"]);
    assert!(said.contains("denied the request: as it is asked to"), "{said}");
}

/// What the rules say of one version holds for all of them.
#[test]
fn a_rule_about_one_version_is_about_all() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|path, _| match path {
        "/m" => patch(
            &json!([{"op": "replace", "path": "/spec/metrics/0/resource/target/averageUtilization", "value": 70}]),
        ),
        _ => allow(),
    });
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["horizontalpodautoscalers"]}]);
    let exact = hook.hook("exact", &json!({"rules": rules, "matchPolicy": "Exact"}));
    cluster.apply(&configuration("Mutating", "m", &[hook.hook("m", &json!({"rules": rules})), exact]));
    cluster.apply(
        "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {name: h}\n\
         spec: {maxReplicas: 3, targetCPUUtilizationPercentage: 50, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}}\n",
    );
    let shown = cluster.json(&["horizontalpodautoscalers.v1.autoscaling", "h"]);
    assert_eq!(shown["spec"]["targetCPUUtilizationPercentage"], 70);
    let request = &hook.asked("/m")[0];
    assert_eq!((&request["resource"]["version"], &request["kind"]["version"]), (&json!("v2"), &json!("v2")));
    let asked = (&request["requestResource"]["version"], &request["requestKind"]["version"]);
    assert_eq!(asked, (&json!("v1"), &json!("v1")));
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v2");
    assert!(hook.asked("/exact").is_empty());
}

/// Conditions are looked at as they are now: what one webhook changed, those of the next see.
#[test]
fn webhooks_are_asked_on_their_conditions() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|path, request| match path {
        "/m" => patch(&set("/data/changed", "x")),
        "/changed" if request["object"]["data"]["changed"] == "x" => deny("it was changed"),
        _ => allow(),
    });
    let when = |expressions: &[&str]| {
        let conditions: Vec<Value> = expressions
            .iter()
            .enumerate()
            .map(|(i, text)| json!({"name": format!("c{i}"), "expression": text}))
            .collect();
        json!({ "matchConditions": conditions })
    };
    let named = when(&["object.metadata.name.startsWith('m')", "request.operation == 'CREATE'", "oldObject == null"]);
    cluster.apply(&configuration("Mutating", "m", &[hook.hook("m", &named)]));
    let changed = when(&["has(object.data) && 'changed' in object.data"]);
    let allowed =
        when(&["authorizer.group('').resource('nodes').check('list').allowed()", "request.userInfo.username == 'x'"]);
    let hooks = [hook.hook("changed", &changed), hook.hook("x", &allowed)];
    cluster.apply(&configuration("Validating", "v", &hooks));
    let said = refused_map(&cluster, &json!({"metadata": {"name": "m"}, "data": {"a": "b"}}));
    assert!(said.contains("denied the request: it was changed"), "{said}");
    cluster.ok(&["create", "configmap", "other", "--from-literal=a=b"]);
    assert_eq!((hook.asked("/m").len(), hook.asked("/changed").len(), hook.asked("/x").len()), (1, 1, 0));
    let bad = configuration("Validating", "bad", &[hook.hook("bad", &when(&["... [] bad expression"]))]);
    let file = cluster.file("bad.json", &bad);
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    assert!(said.contains("webhooks[0].matchConditions[0].expression: Invalid value: \"... [] bad expression\": compilation failed: ERROR: "), "{said}");
}

/// Requests that are nobody's business are as fast with webhooks as without: they are not even put off to another task.
#[test]
fn who_is_not_asked_about_is_not_asked() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|_, _| Reply::Silence);
    let hooks: Vec<Value> = (0..50).map(|i| hook.hook(&format!("h{i}"), &json!({"timeoutSeconds": 1}))).collect();
    cluster.apply(&configuration("Validating", "v", &hooks));
    cluster.apply(&configuration("Mutating", "m", &hooks));
    let items: Vec<Value> = (0..500)
        .map(|i| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{i}")}}))
        .collect();
    let list = cluster.file("list.json", &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
    cluster.ok(&["create", "-f", list.to_str().unwrap()]);
    eventually("all of them", || {
        let names = cluster.ok(&["get", "secrets", "-o", "name"]);
        let count = names.lines().filter(|name| name.starts_with("secret/s")).count();
        if count == 500 { Ok(()) } else { Err(format!("{count}")) }
    });
    assert!((0..50).all(|i| hook.asked(&format!("/h{i}")).is_empty()));
    let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
    assert!(!metrics.contains("apiserver_admission_webhook_request_total{"), "nobody was asked");
}
