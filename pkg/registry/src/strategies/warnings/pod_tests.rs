//! Pods that are accepted and odd.

use super::*;
use serde_json::json;

fn of(spec: Value) -> Vec<String> {
    let mut warnings = Vec::new();
    pod(&json!({"metadata": {"name": "p"}, "spec": spec}), &mut warnings);
    warnings
}

fn of_container(container: Value) -> Vec<String> {
    of(json!({"containers": [container]}))
}

/// A value that builds on the former one was once called a mistake, and one in an init container was not seen.
#[test]
fn variables_hide_each_other_in_every_container_unless_they_build_on_each_other() {
    let hides = |list: &str, name: &str| {
        format!("spec.{list}[0].env[1]: hides previous definition of {name:?}, which may be dropped when using apply")
    };
    let twice = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "1"}]);
    let warned = of(json!({"initContainers": [{"env": twice}], "containers": [{"env": twice}]}));
    assert_eq!(warned, [hides("initContainers", "A"), hides("containers", "A")]);
    let second = |second: Value| of_container(json!({"env": [{"name": "A", "value": "1"}, second]})).len();
    assert_eq!(second(json!({"name": "A", "value": "$(A):2"})), 0);
    assert_eq!(second(json!({"name": "A", "value": "$(A)"})), 1);
    assert_eq!(second(json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})), 1);
}

#[test]
fn templates_are_warned_about_at_their_place() {
    let made = json!({"spec": {"template": {"metadata": {"annotations": {"security.alpha.kubernetes.io/sysctls": "x",
        "container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}, "spec": {
        "nodeSelector": {"beta.kubernetes.io/os": "linux"}, "containers": [{"name": "c", "resources": {"limits":
            {"memory": "1181116006400m"}}}]}}}});
    let mut warnings = Vec::new();
    template(&At::field(&made, "spec").child("template"), &mut warnings);
    assert_eq!(
        warnings,
        [
            "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.template.metadata.annotations[security.alpha.kubernetes.io/sysctls]: non-functional in v1.11+; use the \
             \"sysctls\" field instead",
            "spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; \
             use the \"appArmorProfile\" field instead",
            "spec.template.spec.containers[0].resources.limits[memory]: fractional byte value \"1181116006400m\" is \
             invalid, must be an integer",
        ]
    );
}

#[test]
fn ports_that_get_in_each_others_way_are_named() {
    let of_ports =
        |first: Value, second: Value| of(json!({"containers": [{"ports": [first]}, {"ports": [second]}]})).join("; ");
    let port = json!({"containerPort": 80, "protocol": "TCP"});
    let with = |host: i64, ip: &str| json!({"containerPort": 80, "protocol": "TCP", "hostPort": host, "hostIP": ip});
    let place = "spec.containers[1].ports[0]: ";
    let other = "port definition with spec.containers[0].ports[0]";
    assert_eq!(of_ports(port.clone(), port.clone()), format!("{place}duplicate {other}"));
    assert_eq!(of_ports(port.clone(), with(80, "")), format!("{place}overlapping {other}"));
    assert_eq!(of_ports(with(80, ""), with(80, "1.2.3.4")), format!("{place}dangerously ambiguous {other}"));
    assert_eq!(of_ports(with(80, "1.2.3.5"), with(80, "1.2.3.4")), "");
    let alone = of_container(json!({"ports": [{"containerPort": 80, "protocol": "TCP", "hostIP": "1.2.3.4"}]}));
    let printed = "{Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:1.2.3.4}";
    assert_eq!(alone, [format!("spec.containers[0].ports[0]: hostIP set without hostPort: {printed}")]);
    let named = |port: i64| json!({"containerPort": port, "protocol": "TCP", "name": "web"});
    assert!(of_ports(named(80), named(81)).contains("duplicate port name \"web\""));
}

#[test]
fn volumes_selectors_and_lists_that_do_nothing_are_named() {
    let warned = of(json!({
        "volumes": [{"name": "g", "gitRepo": {}}, {"name": "s", "storageos": {}},
            {"name": "c", "configMap": {"name": "m", "items": [{"key": "a", "path": "x"}, {"key": "b", "path": "x/y"}]}}],
        "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}],
        "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}],
        "hostAliases": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.4"}],
        "terminationGracePeriodSeconds": -1,
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "x"}]}},
    }));
    for part in [
        "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled",
        "spec.volumes[1].storageOS: deprecated in v1.22",
        "volume \"c\" (ConfigMap \"m\"): overlapping paths: \"x/y\" with \"x\"",
        "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated",
        "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector",
        "spec.imagePullSecrets[1].name: duplicate name \"a\"",
        "spec.imagePullSecrets[2].name: invalid empty name",
        "spec.hostAliases[1].ip: duplicate ip",
        "spec.terminationGracePeriodSeconds: must be >= 0",
        "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null",
    ] {
        assert!(warned.iter().any(|warning| warning.starts_with(part)), "{part}: {warned:?}");
    }
    assert_eq!(warned.len(), 10, "{warned:?}");
}

#[test]
fn an_ordinary_pod_is_not_warned_about() {
    let ordinary = json!({"containers": [{"name": "c", "env": [{"name": "A"}, {"name": "B"}], "resources":
        {"limits": {"memory": "1Gi", "cpu": "100m"}}, "ports": [{"containerPort": 80}, {"containerPort": 81}]}],
        "volumes": [{"name": "e", "emptyDir": {}}], "nodeSelector": {"kubernetes.io/os": "linux"},
        "terminationGracePeriodSeconds": 30});
    assert_eq!(of(ordinary), Vec::<String>::new());
}
