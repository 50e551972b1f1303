//! Tests of the zone: objects in, records out.
#![allow(clippy::unwrap_used)]

use super::*;
use kedge_meta::ObjectKey;
use serde_json::{Value, json};
use std::sync::Arc;

fn cluster() -> (Zone, Records) {
    let mut records = Records::default();
    let services = json!([
        {"metadata": {"name": "kubernetes", "namespace": "default"},
         "spec": {"clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"],
                  "ports": [{"name": "https", "protocol": "TCP", "port": 443}]}},
        {"metadata": {"name": "dual", "namespace": "default"},
         "spec": {"clusterIP": "10.43.0.2", "clusterIPs": ["10.43.0.2", "fd43::2"],
                  "ports": [{"name": "dns", "protocol": "UDP", "port": 53}, {"name": "dns-tcp", "protocol": "TCP", "port": 53}]}},
        {"metadata": {"name": "db", "namespace": "prod"},
         "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]}},
        {"metadata": {"name": "idle", "namespace": "prod"}, "spec": {"clusterIP": "None"}},
        {"metadata": {"name": "out", "namespace": "prod"},
         "spec": {"type": "ExternalName", "externalName": "example.com"}},
    ]);
    for value in services.as_array().unwrap() {
        let service: Service = serde_json::from_value(value.clone()).unwrap();
        records.set_service(&service.metadata.key(), Some(Arc::new(service)));
    }
    let slice = json!({
        "metadata": {"name": "db-1", "namespace": "prod", "labels": {"kubernetes.io/service-name": "db"}},
        "ports": [{"name": "sql", "protocol": "TCP", "port": 5432}],
        "endpoints": [
            {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.42.0.6"], "conditions": {}},
            {"addresses": ["10.42.0.7"], "hostname": "db-2", "conditions": {"ready": false}},
        ],
    });
    let key = ObjectKey::new("prod", "db-1");
    records.set_slice(&key, Some(Arc::new(serde_json::from_value(slice).unwrap())));
    for name in ["default", "prod"] {
        records.set_namespace(name, Some(&Default::default()));
    }
    let zone = Zone::new("cluster.local", 5, vec!["10.42.0.1".parse().unwrap()]).unwrap();
    (zone, records)
}

fn find(name: &str, qtype: u16) -> Found {
    let (zone, records) = cluster();
    zone.find(&records, &Name::parse(name).unwrap(), qtype)
}

fn texts(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| match &record.data {
        Data::Address(ip) => ip.to_string(),
        Data::Ptr(name) | Data::Cname(name) | Data::Ns(name) => name.to_string(),
        Data::Srv { weight, port, target } => format!("{weight} {port} {target}"),
        Data::Txt(text) => (*text).to_owned(),
        Data::Soa { server, .. } => server.to_string(),
    };
    records.iter().map(text).collect()
}

fn answers(name: &str, qtype: u16) -> Vec<String> {
    match find(name, qtype) {
        Found::Records { answers, .. } => texts(&answers),
        other => panic!("{name}: {other:?}"),
    }
}

const NONE: [&str; 0] = [];

#[test]
fn cluster_addresses_of_both_families() {
    assert_eq!(answers("kubernetes.default.svc.cluster.local", code::A), ["10.43.0.1"]);
    assert_eq!(answers("KUBERNETES.Default.svc.CLUSTER.local.", code::A), ["10.43.0.1"]);
    assert_eq!(answers("kubernetes.default.svc.cluster.local", code::AAAA), NONE);
    assert_eq!(answers("dual.default.svc.cluster.local", code::AAAA), ["fd43::2"]);
}

#[test]
fn headless_services_answer_with_ready_endpoints() {
    assert_eq!(answers("db.prod.svc.cluster.local", code::A), ["10.42.0.5", "10.42.0.6"]);
    assert_eq!(answers("db-0.db.prod.svc.cluster.local", code::A), ["10.42.0.5"]);
    assert_eq!(answers("10-42-0-6.db.prod.svc.cluster.local", code::A), ["10.42.0.6"]);
    for missing in ["db-2.db", "10-42-0-5.db", "idle", "nobody"] {
        assert_eq!(find(&format!("{missing}.prod.svc.cluster.local"), code::A), Found::Missing, "{missing}");
    }
}

#[test]
fn srv_records_with_their_addresses() {
    let name = "_https._tcp.kubernetes.default.svc.cluster.local";
    assert_eq!(answers(name, code::SRV), ["100 443 kubernetes.default.svc.cluster.local."]);
    assert_eq!(answers(name, code::A), ["10.43.0.1"]);
    let Found::Records { answers, additionals } = find("_sql._tcp.db.prod.svc.cluster.local", code::SRV) else {
        panic!("no records");
    };
    let wanted = ["50 5432 db-0.db.prod.svc.cluster.local.", "50 5432 10-42-0-6.db.prod.svc.cluster.local."];
    assert_eq!(texts(&answers), wanted);
    assert_eq!(texts(&additionals), ["10.42.0.5", "10.42.0.6"]);
    for missing in ["_sql._udp.db.prod", "_x._tcp.db.prod", "sql._tcp.db.prod", "_https.kubernetes.default"] {
        assert_eq!(find(&format!("{missing}.svc.cluster.local"), code::SRV), Found::Missing, "{missing}");
    }
}

#[test]
fn a_service_asked_for_srv_without_a_port_gives_all_of_them() {
    let got = answers("dual.default.svc.cluster.local", code::SRV);
    assert_eq!(got.len(), 1, "the same port over UDP and TCP is one place: {got:?}");
    assert_eq!(answers("db.prod.svc.cluster.local", code::SRV).len(), 2);
}

#[test]
fn external_names_are_aliases() {
    let target = Name::parse("example.com").unwrap();
    assert_eq!(find("out.prod.svc.cluster.local", code::A), Found::Alias(target));
    assert_eq!(find("x.out.prod.svc.cluster.local", code::A), Found::Missing);
}

#[test]
fn pods_by_address_in_namespaces_that_exist() {
    assert_eq!(answers("10-42-0-9.prod.pod.cluster.local", code::A), ["10.42.0.9"]);
    assert_eq!(answers("fd42--9.prod.pod.cluster.local", code::AAAA), ["fd42::9"]);
    assert_eq!(answers("10-42-0-9.prod.pod.cluster.local", code::AAAA), NONE);
    for missing in ["10-42-0-999.prod", "web.prod", "10-42-0-9.nowhere"] {
        assert_eq!(find(&format!("{missing}.pod.cluster.local"), code::A), Found::Missing, "{missing}");
    }
}

#[test]
fn addresses_have_names() {
    assert_eq!(answers("1.0.43.10.in-addr.arpa", code::PTR), ["kubernetes.default.svc.cluster.local."]);
    assert_eq!(answers("5.0.42.10.in-addr.arpa", code::PTR), ["db-0.db.prod.svc.cluster.local."]);
    let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa";
    assert_eq!(answers(v6, code::PTR), ["dual.default.svc.cluster.local."]);
    for foreign in ["8.8.8.8.in-addr.arpa", "7.0.42.10.in-addr.arpa", "1.in-addr.arpa"] {
        assert_eq!(find(foreign, code::PTR), Found::Foreign, "{foreign}");
    }
}

#[test]
fn the_zone_itself() {
    assert_eq!(answers("dns-version.cluster.local", code::TXT), ["1.1.0"]);
    assert_eq!(answers("cluster.local", code::SOA), ["ns.dns.cluster.local."]);
    assert_eq!(answers("cluster.local", code::NS), ["ns.dns.cluster.local."]);
    assert_eq!(answers("ns.dns.cluster.local", code::A), ["10.42.0.1"]);
    for empty in ["cluster.local", "svc.cluster.local", "prod.svc.cluster.local", "default.pod.cluster.local"] {
        assert_eq!(answers(empty, code::A), NONE, "{empty}");
    }
}

#[test]
fn what_a_search_path_makes_of_foreign_names_does_not_exist() {
    for missing in ["example.com.default.svc", "example.com.svc", "example.com", "nowhere.svc", "a.b.c.d.svc"] {
        assert_eq!(find(&format!("{missing}.cluster.local"), code::A), Found::Missing, "{missing}");
    }
    for foreign in ["example.com", "xcluster.local", "local", "."] {
        assert_eq!(find(foreign, code::A), Found::Foreign, "{foreign}");
    }
}

#[test]
fn odd_bytes_stay_in_the_cluster() {
    let (zone, records) = cluster();
    let odd = Name::from_labels([b"\xff".as_slice(), b"svc", b"cluster", b"local"]).unwrap();
    assert_eq!(zone.find(&records, &odd, code::A), Found::Missing);
    let foreign = Name::from_labels([b"\xff".as_slice(), b"org"]).unwrap();
    assert_eq!(zone.find(&records, &foreign, code::A), Found::Foreign);
}

#[test]
fn the_number_of_records_is_limited() {
    let (zone, mut records) = cluster();
    let endpoints: Vec<Value> =
        (0..1500).map(|i| json!({"addresses": [format!("10.42.{}.{}", i / 250 + 1, i % 250 + 1)]})).collect();
    let slice = json!({
        "metadata": {"name": "big", "namespace": "prod", "labels": {"kubernetes.io/service-name": "db"}},
        "endpoints": endpoints,
    });
    records.set_slice(&ObjectKey::new("prod", "big"), Some(Arc::new(serde_json::from_value(slice).unwrap())));
    let found = zone.find(&records, &Name::parse("db.prod.svc.cluster.local").unwrap(), code::A);
    assert!(matches!(found, Found::Records { answers, .. } if answers.len() == MAX_RECORDS));
}
