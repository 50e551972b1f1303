//! Validating admission policies: what they let pass, and in which words they do not.

use serde_json::{Value, json};

use crate::support::{TestCluster, eventually};

const GROUP: &str = "admissionregistration.k8s.io/v1";

/// A policy about config maps with these fields.
fn policy(name: &str, fields: &Value) -> String {
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]);
    let mut spec = json!({"matchConstraints": {"resourceRules": rules}});
    fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
    json!({"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

/// A binding of the policy of this name, for the namespace `default`.
fn binding(name: &str, fields: &Value) -> String {
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": "default"}});
    let mut spec =
        json!({"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": selector}});
    fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
    json!({"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

fn map(cluster: &TestCluster, name: &str, data: &[&str]) -> Result<String, String> {
    let literals: Vec<String> = data.iter().map(|pair| format!("--from-literal={pair}")).collect();
    let mut args = vec!["create", "configmap", name];
    args.extend(literals.iter().map(String::as_str));
    let output = cluster.kubectl(&args);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

#[test]
fn a_policy_denies_or_warns_as_its_binding_says() {
    let cluster = TestCluster::control_plane();
    let rule = json!({"expression": "object.data.level != 'high'", "message": "level is high"});
    let forbidden = json!({"expression": "object.data.size() < 3", "reason": "Forbidden",
        "messageExpression": "string(object.data.size()) + ' entries in ' + namespaceObject.metadata.name"});
    cluster.apply(&policy("p", &json!({"validations": [rule, forbidden]})));
    map(&cluster, "unbound", &["level=high"]).unwrap();
    cluster.apply(&binding("p", &json!({})));
    let denied = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: ";
    assert_eq!(
        map(&cluster, "a", &["level=high"]).unwrap_err().trim(),
        format!("error: failed to create configmap: configmaps \"a\" is forbidden: {denied}level is high")
    );
    let file = cluster.file(
        "a.json",
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"level": "high"}})
            .to_string(),
    );
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    assert_eq!(said.trim(), format!("The configmaps \"a\" is invalid: : {denied}level is high"));
    let said = map(&cluster, "a", &["level=low", "x=1", "y=2"]).unwrap_err();
    assert!(said.contains(&format!("{denied}3 entries in default")), "{said}");
    // What a rule cannot say is a failure of the policy.
    let said = map(&cluster, "a", &["x=1"]).unwrap_err();
    let told = "expression 'object.data.level != 'high'' resulted in error: no such key: level";
    assert!(said.contains(&format!("{denied}{told}")), "{said}");
    map(&cluster, "a", &["level=low"]).unwrap();
    cluster.fails(&["patch", "configmap", "a", "--type=merge", "-p", r#"{"data": {"level": "high"}}"#]);
    // Elsewhere it is not bound.
    cluster.ok(&["create", "configmap", "a", "-n", "kube-public", "--from-literal=level=high"]);
    cluster.apply(&binding("p", &json!({"validationActions": ["Warn", "Audit"]})));
    let said = map(&cluster, "warned", &["level=high"]).unwrap();
    assert!(
        said.contains("Warning: Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p': level is high"),
        "{said}"
    );
    assert!(said.contains("configmap/warned created"), "{said}");
    let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
    for action in ["warn", "audit"] {
        let counter = format!(
            "apiserver_validating_admission_policy_check_total{{policy=\"p\",policy_binding=\"p\",error_type=\"invalid_error\",enforcement_action=\"{action}\"}} 1\n"
        );
        assert!(metrics.contains(&counter), "{counter}");
    }
    cluster.apply(&binding("p", &json!({})));
    map(&cluster, "b", &["level=high"]).unwrap_err();
    cluster.ok(&[
        "patch",
        "validatingadmissionpolicy",
        "p",
        "--type=merge",
        "-p",
        r#"{"spec": {"failurePolicy": "Ignore"}}"#,
    ]);
    map(&cluster, "b", &["x=1"]).unwrap();
    // What is gone is in force no longer, from the answer on.
    cluster.ok(&["delete", "validatingadmissionpolicybinding", "p"]);
    map(&cluster, "c", &["level=high"]).unwrap();
}

#[test]
fn parameters_are_maps_or_objects_of_kinds_of_ones_own() {
    let cluster = TestCluster::control_plane();
    let kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let variables = json!([{"name": "max", "expression": "int(params.data.max)"}, {"name": "double", "expression": "variables.max * 2"}]);
    let rule = json!({"expression": "object.data.size() * 2 <= variables.double", "messageExpression": "'at most ' + string(variables.max)"});
    let conditions = json!([{"name": "no-limits", "expression": "!('max' in object.data)"}]);
    let fields =
        json!({"paramKind": kind, "variables": variables, "matchConditions": conditions, "validations": [rule]});
    cluster.apply(&policy("p", &fields));
    cluster.apply(&binding("p", &json!({"paramRef": {"name": "lim", "parameterNotFoundAction": "Deny"}})));
    let none = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert!(map(&cluster, "a", &["x=1"]).unwrap_err().contains(none));
    // They cannot be made where they are needed to be made; elsewhere they can be.
    cluster.ok(&["create", "configmap", "lim", "-n", "kube-public", "--from-literal=max=1"]);
    cluster.apply(&binding(
        "p",
        &json!({"paramRef": {"name": "lim", "namespace": "kube-public", "parameterNotFoundAction": "Deny"}}),
    ));
    map(&cluster, "a", &["x=1"]).unwrap();
    assert!(map(&cluster, "b", &["x=1", "y=2"]).unwrap_err().contains("denied request: at most 1"));
    cluster.ok(&["patch", "configmap", "lim", "-n", "kube-public", "--type=merge", "-p", r#"{"data": {"max": "2"}}"#]);
    map(&cluster, "b", &["x=1", "y=2"]).unwrap();
    let selector = json!({"matchLabels": {"set": "x"}});
    cluster.apply(&binding(
        "p",
        &json!({"paramRef": {"selector": selector, "namespace": "kube-public", "parameterNotFoundAction": "Allow"}}),
    ));
    map(&cluster, "c", &["x=1", "y=2", "z=3"]).unwrap();
    cluster.ok(&["label", "configmap", "lim", "-n", "kube-public", "set=x"]);
    assert!(map(&cluster, "d", &["x=1", "y=2", "z=3"]).unwrap_err().contains("at most 2"));
    // The kind may come after the policy.
    let limit = json!({"apiVersion": "policies.example.com/v1", "kind": "Limit"});
    let rule = json!({"expression": "object.data.size() <= params.spec.max", "message": "beyond the limit"});
    cluster.apply(&policy(
        "p",
        &json!({"paramKind": limit, "variables": null, "matchConditions": null, "validations": [rule]}),
    ));
    cluster.apply(&binding("p", &json!({"paramRef": {"name": "lim", "parameterNotFoundAction": "Deny"}})));
    let said = map(&cluster, "e", &["x=1"]).unwrap_err();
    let none = "denied request: failed to configure policy: failed to find resource referenced by paramKind: \
                'policies.example.com/v1, Kind=Limit'";
    assert!(said.contains(none), "{said}");
    let spec = json!({"type": "object", "properties": {"max": {"type": "integer"}}});
    let version = json!({"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}});
    let names = json!({"plural": "limits", "singular": "limit", "kind": "Limit", "listKind": "LimitList"});
    cluster.apply(
        &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "limits.policies.example.com"},
            "spec": {"group": "policies.example.com", "scope": "Namespaced", "names": names, "versions": [version]}})
        .to_string(),
    );
    cluster.ok(&["wait", "--for=condition=Established", "crd/limits.policies.example.com", "--timeout=30s"]);
    assert!(map(&cluster, "e", &["x=1"]).unwrap_err().contains("no params found"));
    cluster.apply(
        &json!({"apiVersion": "policies.example.com/v1", "kind": "Limit", "metadata": {"name": "lim", "namespace": "default"},
            "spec": {"max": 1}})
        .to_string(),
    );
    map(&cluster, "e", &["x=1"]).unwrap();
    assert!(map(&cluster, "f", &["x=1", "y=2"]).unwrap_err().contains("beyond the limit"));
}

#[test]
fn what_configures_policies_is_not_subject_to_them() {
    let cluster = TestCluster::control_plane();
    let rules = json!([{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}]);
    let fields = json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "false", "message": "nothing"}]});
    cluster.apply(&policy("p", &fields));
    cluster.apply(&binding("p", &json!({"matchResources": null})));
    assert!(map(&cluster, "a", &["x=1"]).unwrap_err().contains("nothing"));
    cluster.ok(&["label", "validatingadmissionpolicy", "p", "a=b"]);
    cluster.ok(&["auth", "can-i", "create", "pods"]);
    cluster.ok(&["auth", "whoami"]);
    cluster.ok(&["delete", "validatingadmissionpolicybinding", "p"]);
    map(&cluster, "a", &["x=1"]).unwrap();
}

#[test]
fn expressions_are_checked_when_they_are_stored_and_against_types_later() {
    let cluster = TestCluster::control_plane();
    let file = |fields: &Value| cluster.file("p.json", &policy("p", fields));
    let bad = json!({"validations": [{"expression": "object..a"}]});
    let said = cluster.fails(&["create", "-f", file(&bad).to_str().unwrap()]);
    let told = "spec.validations[0].expression: Invalid value: \"object..a\": compilation failed: ERROR: <input>:1:8: Syntax error";
    assert!(said.contains(told), "{said}");
    let rules =
        json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]);
    let constraints = json!({"resourceRules": rules});
    let typo = json!({"matchConstraints": constraints, "validations": [
        {"expression": "object.spec.replicas > 1", "messageExpression": "'more than ' + object.spec.replicas"},
        {"expression": "object.spec.replicsa > 1"}]});
    cluster.apply(&policy("p", &typo));
    let status = || cluster.json(&["validatingadmissionpolicy", "p"])["status"].clone();
    let warnings = eventually("types are checked", || {
        let status = status();
        let warnings = status["typeChecking"]["expressionWarnings"].clone();
        if status["observedGeneration"] == 1 { Ok(warnings) } else { Err(status.to_string()) }
    });
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[0].messageExpression");
    assert_eq!(warnings[1]["fieldRef"], "spec.validations[1].expression");
    let text = "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replicsa'\n | object.spec.replicsa > 1\n | ...........^\n";
    assert_eq!(warnings[1]["warning"], text);
    let good = json!({"matchConstraints": constraints, "validations": [{"expression": "object.spec.replicas > 1"}]});
    cluster.apply(&policy("p", &good));
    eventually("the warnings go", || {
        let status = status();
        let done = status["observedGeneration"] == 2 && status["typeChecking"] == json!({});
        if done { Ok(()) } else { Err(status.to_string()) }
    });
}
