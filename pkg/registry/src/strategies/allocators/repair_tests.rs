//! What the repair thinks of claims.
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::json;

const RANGE: (u16, u16) = (30_000, 30_100);

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": "a", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
}

fn services(all: &[Value]) -> Services {
    Services(all.iter().map(|one| (format!("a/{}", one.name()), one.clone())).collect())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn claim(name: &str, created: &str) -> Value {
    let (ip, owner) = ("10.43.0.9".parse().unwrap(), service(name, json!({})));
    Addresses::claim(ip, &owner, at(created))
}

#[test]
fn the_claim_on_an_address_is_its_services() {
    let ip: IpAddr = "10.43.0.9".parse().unwrap();
    let with = |name: &str| service(name, json!({"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"]}));
    let web = with("web");
    let all = services(&[web.clone(), with("twin"), service("headless", json!({"clusterIP": "None"}))]);
    let judge = |claim: Option<&Value>| judge(ip, claim, &web, &all);
    assert_eq!(judge(None), Verdict::Missing);
    assert_eq!(judge(Some(&claim("web", "2026-01-01T00:00:00Z"))), Verdict::Right);
    assert_eq!(judge(Some(&claim("twin", "2026-01-01T00:00:00Z"))), Verdict::Duplicate);
    assert_eq!(judge(Some(&claim("gone", "2026-01-01T00:00:00Z"))), Verdict::Replace { tell: true });
    // Once that was left to who gives leaked claims back, and somebody else could take the address in between.
    assert_eq!(judge(Some(&claim("headless", "2026-01-01T00:00:00Z"))), Verdict::Replace { tell: true });
    let mut others = claim("web", "2026-01-01T00:00:00Z");
    others["spec"]["parentRef"] = json!({"group": "gateway.example", "resource": "gateways", "name": "g"});
    assert_eq!(judge(Some(&others)), Verdict::Replace { tell: true });
    let mut unmarked = claim("web", "2026-01-01T00:00:00Z");
    unmarked["metadata"]["labels"][FAMILY] = json!("IPv6");
    assert_eq!(judge(Some(&unmarked)), Verdict::Replace { tell: false });
}

#[test]
fn a_claim_without_a_service_is_given_back_in_time() {
    let all = services(&[
        service("web", json!({"type": "ClusterIP", "clusterIPs": ["10.43.0.8"]})),
        service("name", json!({"type": "ExternalName"})),
    ]);
    let why = |claim: &Value, now: &str| leaked(claim.name(), claim, &all, at(now)).map(|(reason, _)| reason);
    let of = |owner: &str| claim(owner, "2026-01-01T01:00:00Z");
    assert_eq!(why(&of("gone"), "2026-01-01T01:00:50Z"), None);
    assert_eq!(why(&of("gone"), "2026-01-01T01:01:10Z"), Some("IPAddressNotAllocated"));
    assert_eq!(why(&of("web"), "2026-01-01T01:00:03Z"), None, "somebody may be about to give it back");
    assert_eq!(why(&of("web"), "2026-01-01T01:00:09Z"), Some("IPAddressWrongReference"));
    assert_eq!(why(&of("name"), "2026-01-01T01:00:50Z"), None);
    assert_eq!(why(&of("name"), "2026-01-01T01:01:10Z"), Some("IPAddressWrongReference"));
    let mut modified = of("web");
    modified["spec"]["parentRef"]["resource"] = json!("gateways");
    assert_eq!(why(&modified, "2026-01-01T01:00:01Z"), Some("IPAddressNotAllocated"));
    modified["metadata"]["labels"][MANAGED_BY] = json!("another");
    assert_eq!(why(&modified, "2026-01-02T00:00:00Z"), None);
}

#[test]
fn the_record_is_that_of_the_services_and_leaks_are_given_time() {
    let port = |port: u32| json!({"port": 80, "nodePort": port});
    let all = services(&[
        service("a", json!({"type": "NodePort", "ports": [port(30_001), port(30_001)]})),
        service("b", json!({"type": "NodePort", "ports": [port(30_001), port(30_002), port(40_000)]})),
        service("c", json!({"type": "ClusterIP", "ports": [port(30_003)]})),
    ]);
    let mut leaks = Leaks::new();
    let mut record = RangeAllocation::new(RANGE, [30_001, 30_050]);
    let (rebuilt, findings) = rebuild(RANGE, Some(&record), &all, &mut leaks);
    let told: Vec<(&str, &str)> = findings.iter().map(|f| (f.object.name.as_str(), f.reason)).collect();
    assert_eq!(told, [("b", "PortAlreadyAllocated"), ("b", "PortNotAllocated"), ("b", "PortOutOfRange")]);
    record = rebuilt;
    for _ in 1..SIGHTINGS {
        assert!(record.ports().eq([30_001, 30_002, 30_050]));
        record = rebuild(RANGE, Some(&record), &all, &mut leaks).0;
    }
    record = rebuild(RANGE, Some(&record), &all, &mut leaks).0;
    assert!(record.ports().eq([30_001, 30_002]));
    // One that is used meanwhile has not leaked, and a new one is counted from the start.
    record = RangeAllocation::new(RANGE, [30_060]);
    rebuild(RANGE, Some(&record), &all, &mut leaks);
    rebuild(RANGE, Some(&RangeAllocation::new(RANGE, [])), &all, &mut leaks);
    assert!(leaks.is_empty());
    assert!(rebuild(RANGE, None, &all, &mut leaks).1.iter().all(|f| f.reason != "PortNotAllocated"));
}
