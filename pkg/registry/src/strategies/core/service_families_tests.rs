//! Families of services on clusters of one family and of two.

use super::*;

const V4: &[Family] = &[Family::IPv4];
const V6: &[Family] = &[Family::IPv6];
const V4_V6: &[Family] = &[Family::IPv4, Family::IPv6];
const V6_V4: &[Family] = &[Family::IPv6, Family::IPv4];

fn service(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["type"] = json!("ClusterIP");
    if spec["clusterIP"].is_null() && !spec["clusterIPs"].is_null() {
        spec["clusterIP"] = spec["clusterIPs"][0].clone();
    }
    json!({ "spec": spec })
}

/// Policy and families, or what is wrong.
fn of(cluster: &[Family], spec: &Value, old: Option<&Value>) -> String {
    let (mut service, old) = (service(spec), old.map(service));
    match decide(&mut service, old.as_ref(), cluster) {
        Ok(()) => {
            let names: Vec<&str> = families(&service).into_iter().map(Family::name).collect();
            format!("{} {}", policy(&service), names.join(","))
        }
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

#[test]
fn a_new_service_gets_the_families_that_it_asks_for() {
    let new = |cluster, spec: Value| of(cluster, &spec, None);
    let with = |policy: &str| json!({"selector": {"a": "b"}, "ipFamilyPolicy": policy});
    for (cluster, first, both) in [(V4_V6, "IPv4", "IPv4,IPv6"), (V6_V4, "IPv6", "IPv6,IPv4")] {
        assert_eq!(new(cluster, json!({})), format!("SingleStack {first}"));
        assert_eq!(new(cluster, with("PreferDualStack")), format!("PreferDualStack {both}"));
        assert_eq!(new(cluster, with("RequireDualStack")), format!("RequireDualStack {both}"));
    }
    for (cluster, only) in [(V4, "IPv4"), (V6, "IPv6")] {
        assert_eq!(new(cluster, json!({})), format!("SingleStack {only}"));
        assert_eq!(new(cluster, with("PreferDualStack")), format!("PreferDualStack {only}"));
        assert_eq!(
            new(cluster, with("RequireDualStack")),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
        );
    }
    assert_eq!(new(V4_V6, json!({"ipFamilies": ["IPv6"]})), "SingleStack IPv6");
    let second = json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"});
    assert_eq!(new(V4_V6, second), "PreferDualStack IPv6,IPv4");
    assert_eq!(
        new(V4, json!({"ipFamilies": ["IPv6"]})),
        "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"
    );
    assert_eq!(
        new(V4_V6, json!({"ipFamilies": ["IPv4", "IPv6"]})),
        "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple \
         IP families are specified"
    );
}

#[test]
fn addresses_that_are_asked_for_say_their_family() {
    let new = |cluster, spec: Value| of(cluster, &spec, None);
    assert_eq!(new(V4_V6, json!({"clusterIPs": ["fd00::7"]})), "SingleStack IPv6");
    let both = json!({"clusterIPs": ["fd00::7", "10.0.0.7"], "ipFamilyPolicy": "RequireDualStack"});
    assert_eq!(new(V4_V6, both), "RequireDualStack IPv6,IPv4");
    assert_eq!(
        new(V4, json!({"clusterIPs": ["fd00::7"]})),
        "spec.clusterIPs[0]: Invalid value: [\"fd00::7\"]: IPv6 is not configured on this cluster"
    );
    assert_eq!(
        new(V4_V6, json!({"clusterIPs": ["fd00::7"], "ipFamilies": ["IPv4"]})),
        "spec.clusterIPs[0]: Invalid value: \"fd00::7\": expected an IPv4 value as indicated by `ipFamilies[0]`"
    );
}

#[test]
fn a_headless_service_without_a_selector_may_have_both_families_anywhere() {
    let headless = |more: Value| {
        let mut spec = json!({"clusterIPs": ["None"]});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        spec
    };
    assert_eq!(of(V4, &headless(json!({})), None), "RequireDualStack IPv4,IPv6");
    assert_eq!(of(V6_V4, &headless(json!({})), None), "RequireDualStack IPv6,IPv4");
    assert_eq!(of(V4, &headless(json!({"ipFamilyPolicy": "SingleStack"})), None), "SingleStack IPv4");
    let selects = json!({"selector": {"a": "b"}});
    assert_eq!(of(V4, &headless(selects.clone()), None), "SingleStack IPv4");
    assert_eq!(of(V4_V6, &headless(selects), None), "SingleStack IPv4");
}

#[test]
fn a_service_gains_and_gives_up_its_second_family() {
    let one = json!({"clusterIPs": ["10.0.0.7"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
    let two = json!({"clusterIPs": ["10.0.0.7", "fd00::7"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"});
    let change = |spec: &Value, field: &str, value: Value| {
        let mut spec = spec.clone();
        spec[field] = value;
        spec
    };
    let up = change(&one, "ipFamilyPolicy", json!("PreferDualStack"));
    assert_eq!(of(V4_V6, &up, Some(&one)), "PreferDualStack IPv4,IPv6");
    assert_eq!(of(V4, &up, Some(&one)), "PreferDualStack IPv4");
    let down = change(&two, "ipFamilyPolicy", json!("SingleStack"));
    assert_eq!(of(V4_V6, &down, Some(&two)), "SingleStack IPv4");
    let without = change(&two, "clusterIPs", json!(["10.0.0.7"]));
    assert_eq!(
        of(V4_V6, &without, Some(&two)),
        "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP"
    );
    let silent = change(&two, "ipFamilyPolicy", Value::Null);
    assert_eq!(of(V4_V6, &silent, Some(&two)), "RequireDualStack IPv4,IPv6", "what it does not say stays");
    // What was given when the cluster had one family stays so when it has two.
    let prefers = change(&one, "ipFamilyPolicy", json!("PreferDualStack"));
    assert_eq!(of(V4_V6, &prefers, Some(&prefers)), "PreferDualStack IPv4");
}
