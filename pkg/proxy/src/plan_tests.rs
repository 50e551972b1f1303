//! Tests of the planner: a Service and its slices in, nft text out.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::render;
use crate::ruleset::Shape;
use crate::state::Desired;
use kedge_meta::ObjectKey;
use serde_json::{Value as Json, json};

fn service(spec: Json, status: Json) -> Service {
    let metadata = json!({"name": "web", "namespace": "default"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn cluster_ip(extra: Json) -> Service {
    let mut spec = json!({
        "type": "ClusterIP", "clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    });
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    service(spec, json!({}))
}

fn slices(endpoints: Json) -> Vec<Arc<EndpointSlice>> {
    let value = json!({
        "metadata": {"name": "web-1", "namespace": "default"}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
    });
    vec![Arc::new(serde_json::from_value(value).unwrap())]
}

fn two() -> Vec<Arc<EndpointSlice>> {
    slices(json!([
        {"addresses": ["10.42.0.5"], "nodeName": "n1"},
        {"addresses": ["10.42.1.5"], "nodeName": "n2"},
    ]))
}

fn remote() -> Vec<Arc<EndpointSlice>> {
    slices(json!([{"addresses": ["10.42.1.5"], "nodeName": "n2"}]))
}

fn script(service: &Service, slices: &[Arc<EndpointSlice>]) -> String {
    let place = Place { node: "n1".into(), zone: String::new() };
    let context = Context { place, node_ips: vec![Ipv4Addr::new(192, 168, 1, 2)] };
    let mut desired = Desired::default();
    desired.replace(&ObjectKey::new("default", "web"), plan_service(service, slices, &context));
    render::incremental(&render::Kernel::default(), &desired.changes()).script
}

fn assert_has(script: &str, line: &str) {
    assert!(script.lines().any(|l| l == line), "no line {line:?} in\n{script}");
}

const ELEMENT: &str = "add element ip kedge-proxy";

#[test]
fn a_cluster_ip_with_two_endpoints() {
    let got = script(&cluster_ip(json!({})), &two());
    assert_has(&got, &format!("{ELEMENT} cluster-ips {{ 10.43.0.10 }}"));
    assert_has(&got, &format!("{ELEMENT} service-ips {{ 10.43.0.10 . tcp . 80 : goto ip-ep2-dnat }}"));
    assert_has(
        &got,
        &format!(
            "{ELEMENT} ip-ep2 {{ 10.43.0.10 . tcp . 80 . 0 : 10.42.0.5 . 8080, 10.43.0.10 . tcp . 80 . 1 : 10.42.1.5 . 8080 }}"
        ),
    );
    assert_has(&got, &format!("{ELEMENT} hairpin-connections {{ 10.42.0.5 . 10.42.0.5 . tcp . 8080 }}"));
    assert_has(
        &got,
        "add map ip kedge-proxy ip-ep2 { typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport; }",
    );
}

#[test]
fn no_endpoints_is_a_reject() {
    let got = script(&cluster_ip(json!({})), &slices(json!([])));
    assert_has(&got, &format!("{ELEMENT} no-endpoint-services {{ 10.43.0.10 . tcp . 80 : goto reject-chain }}"));
    assert!(!got.contains("service-ips {"), "{got}");
}

#[test]
fn headless_external_name_and_foreign_services_are_left_alone() {
    for extra in [json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!({"type": "ExternalName"})] {
        assert_eq!(script(&cluster_ip(extra), &two()), "");
    }
    let mut foreign = cluster_ip(json!({}));
    foreign.metadata.labels.insert(crate::objects::LABEL_PROXY_NAME, "other");
    assert_eq!(script(&foreign, &two()), "");
}

#[test]
fn internal_local_without_a_local_endpoint_drops() {
    let local = cluster_ip(json!({"internalTrafficPolicy": "Local"}));
    let got = script(&local, &remote());
    assert_has(&got, &format!("{ELEMENT} no-endpoint-services {{ 10.43.0.10 . tcp . 80 : drop }}"));
    let got = script(&local, &two());
    assert_has(&got, &format!("{ELEMENT} ip-ep1 {{ 10.43.0.10 . tcp . 80 : 10.42.0.5 . 8080 }}"));
}

fn node_port(extra: Json) -> Service {
    let mut spec = json!({
        "type": "LoadBalancer", "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
        "externalIPs": ["203.0.113.9"],
    });
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let mut service = cluster_ip(spec);
    let status =
        json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"ip": "198.51.100.8", "ipMode": "Proxy"}]}});
    service.status = serde_json::from_value(status).unwrap();
    service
}

#[test]
fn external_traffic_is_masqueraded_under_the_cluster_policy() {
    let got = script(&node_port(json!({})), &remote());
    assert_has(
        &got,
        &format!(
            "{ELEMENT} service-ips {{ 10.43.0.10 . tcp . 80 : goto ip-ep1-dnat, 198.51.100.7 . tcp . 80 : goto ip-ep1-masq-dnat, 203.0.113.9 . tcp . 80 : goto ip-ep1-masq-dnat }}"
        ),
    );
    assert_has(&got, &format!("{ELEMENT} service-nodeports {{ tcp . 30080 : goto np-ep1-masq-dnat }}"));
    assert_has(&got, &format!("{ELEMENT} np-ep1 {{ tcp . 30080 : 10.42.1.5 . 8080 }}"));
}

#[test]
fn external_local_tells_inside_from_outside() {
    let got = script(&node_port(json!({"externalTrafficPolicy": "Local"})), &two());
    assert_has(&got, &format!("{ELEMENT} service-nodeports {{ tcp . 30080 : goto external-nodeports }}"));
    assert_has(&got, &format!("{ELEMENT} inside-nodeports {{ tcp . 30080 : goto np-ep2-dnat }}"));
    assert_has(&got, &format!("{ELEMENT} outside-nodeports {{ tcp . 30080 : goto np-local-ep1-dnat }}"));
    let got = script(&node_port(json!({"externalTrafficPolicy": "Local"})), &remote());
    assert_has(&got, &format!("{ELEMENT} no-endpoint-nodeports {{ tcp . 30080 : drop }}"));
    assert_has(&got, &format!("{ELEMENT} inside-nodeports {{ tcp . 30080 : goto np-ep1-dnat }}"));
}

#[test]
fn source_ranges_guard_the_load_balancer_address() {
    let ranges = json!(["10.0.0.0/8", "10.1.0.0/16", "192.168.1.0/24", "2001:db8::/32"]);
    let got = script(&node_port(json!({"loadBalancerSourceRanges": ranges})), &two());
    // The node's own address is in a range, so the load balancer's address is a source as well.
    assert!(got.contains("ip saddr != { 10.0.0.0/8, 192.168.1.0/24, 198.51.100.7 } drop"), "{got}");
    assert!(got.contains("firewall-ips { 198.51.100.7 . tcp . 80 : goto fw-"), "{got}");
}

#[test]
fn affinity_has_a_set_and_a_chain_for_each_endpoint() {
    let sticky = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    let got = script(&cluster_ip(sticky), &two());
    assert_eq!(got.matches("flags dynamic, timeout; timeout 60s").count(), 2, "{got}");
    assert_eq!(got.matches("dnat ip to 10.42.").count(), 2, "{got}");
    assert!(got.contains("numgen random mod 2 vmap { 0 : goto ep-"), "{got}");
    assert!(got.contains("service-ips { 10.43.0.10 . tcp . 80 : goto svc-"), "{got}");
}

#[test]
fn an_endpoint_more_moves_the_service_to_the_next_slot_map() {
    let context = Context { place: Place { node: "n1".into(), ..Place::default() }, ..Context::default() };
    let key = ObjectKey::new("default", "web");
    let web = cluster_ip(json!({}));
    let mut desired = Desired::default();
    desired.replace(&key, plan_service(&web, &remote(), &context));
    let first = render::full(&Shape::default(), &desired.everything());
    desired.applied();
    desired.replace(&key, plan_service(&web, &two(), &context));
    let got = render::incremental(&first.kernel, &desired.changes()).script;
    assert_has(&got, "delete element ip kedge-proxy service-ips { 10.43.0.10 . tcp . 80 }");
    assert_has(&got, "delete element ip kedge-proxy ip-ep1 { 10.43.0.10 . tcp . 80 }");
    assert_has(&got, &format!("{ELEMENT} service-ips {{ 10.43.0.10 . tcp . 80 : goto ip-ep2-dnat }}"));
    assert!(!got.contains("cluster-ips"), "an untouched element is not written again: {got}");
}

#[test]
fn a_stale_chain_is_emptied_first_and_deleted_later() {
    let context = Context::default();
    let key = ObjectKey::new("default", "web");
    let sticky = cluster_ip(json!({"sessionAffinity": "ClientIP"}));
    let mut desired = Desired::default();
    desired.replace(&key, plan_service(&sticky, &remote(), &context));
    let first = render::full(&Shape::default(), &desired.everything());
    desired.applied();
    desired.replace(&key, Fragment::new());
    let second = render::incremental(&first.kernel, &desired.changes());
    assert_eq!(second.script.matches("flush chain").count(), 3, "{}", second.script);
    assert_eq!(second.script.matches("delete set").count(), 1);
    assert_eq!(second.script.matches("delete chain").count(), 0);
    desired.applied();
    desired.replace(&key, plan_service(&cluster_ip(json!({})), &remote(), &context));
    let third = render::incremental(&second.kernel, &desired.changes());
    assert_eq!(third.script.matches("delete chain").count(), 3, "{}", third.script);
}

/// A node whose services had all gone kept their chains until something else changed: for good, on a quiet node.
#[tokio::test]
async fn what_is_left_over_goes_with_a_sync_of_its_own() {
    let nft = Arc::new(kedge_nft::RecordingNft::default());
    let mut syncer = crate::syncer::Syncer::new(nft.clone(), Shape::default(), Context::default());
    let key = ObjectKey::new("default", "web");
    let sticky = cluster_ip(json!({"sessionAffinity": "ClientIP"}));
    for (service, left) in [(Some(&sticky), false), (None, true)] {
        syncer.update(&key, service, &remote());
        syncer.sync().await.unwrap();
        assert_eq!(syncer.has_leftovers(), left);
    }
    nft.take();
    syncer.sync().await.unwrap();
    assert_eq!(nft.take().concat().matches("delete chain").count(), 3);
    assert!(!syncer.has_leftovers());
    syncer.sync().await.unwrap();
    assert!(nft.take().is_empty(), "nothing is left to do");
}

#[test]
fn names_cannot_smuggle_rules() {
    let mut odd = cluster_ip(json!({"sessionAffinity": "ClientIP"}));
    odd.metadata.name = "x }\nflush ruleset; #".into();
    let got = script(&odd, &two());
    assert!(!got.contains("flush ruleset"), "{got}");
}
