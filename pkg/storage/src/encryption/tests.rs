//! What is sealed can be opened, and nothing else.
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::{Value, json};

fn keys(names: &[(&str, u8)]) -> Value {
    use base64::Engine as _;
    let secret = |byte: u8| base64::engine::general_purpose::STANDARD.encode([byte; 32]);
    let keys: Vec<Value> = names.iter().map(|(n, b)| json!({"name": n, "secret": secret(*b)})).collect();
    json!({"aesgcm": {"keys": keys}})
}

fn config(providers: &[Value]) -> Encryption {
    Encryption::from_value(json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets", "*.apps"], "providers": providers}],
    }))
    .unwrap()
}

const KEY: &str = "/registry/secrets/a/b";

#[test]
fn a_sealed_value_opens_under_its_key_only() {
    let encryption = config(&[keys(&[("k1", 1)]), json!({"identity": {}})]);
    let sealed = encryption.seal("secrets", KEY, Bytes::from_static(b"{}")).unwrap();
    assert!(sealed.starts_with(b"k8s:enc:aesgcm:v1:k1:"));
    let opened = encryption.open("secrets", KEY, sealed.clone()).unwrap();
    assert_eq!(opened, Opened { value: Bytes::from_static(b"{}"), stale: false });
    assert_eq!(encryption.open("secrets", "/registry/secrets/a/c", sealed.clone()), Err(OpenError::NoKey));
    let mut flipped = sealed.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(encryption.open("secrets", KEY, flipped.into()), Err(OpenError::NoKey));
    assert_eq!(Encryption::default().open("secrets", KEY, sealed), Err(OpenError::NotConfigured));
}

#[test]
fn values_of_other_keys_and_plain_ones_are_stale() {
    let old = config(&[keys(&[("k1", 1)])]);
    let sealed = old.seal("secrets", KEY, Bytes::from_static(b"{}")).unwrap();
    let rotated = config(&[keys(&[("k2", 2), ("k1", 1)]), json!({"identity": {}})]);
    assert!(rotated.open("secrets", KEY, sealed).unwrap().stale);
    assert!(rotated.open("secrets", KEY, Bytes::from_static(b"{}")).unwrap().stale);
    assert_eq!(old.open("secrets", KEY, Bytes::from_static(b"{}")), Err(OpenError::Plain));
}

#[test]
fn rules_name_resources_and_groups() {
    let encryption = config(&[keys(&[("k1", 1)])]);
    assert!(encryption.seals("secrets") && encryption.seals("deployments.apps"));
    assert!(!encryption.seals("configmaps") && !encryption.seals("jobs.batch"));
    assert!(config::covers("*.", "pods") && !config::covers("*.", "jobs.batch") && config::covers("*.*", "jobs.batch"));
}

#[test]
fn what_is_wrong_is_said_with_its_path() {
    let bad = |resources: Value| {
        let config = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": resources});
        Encryption::from_value(config).unwrap_err().to_string()
    };
    let one = |provider: Value| bad(json!([{"resources": ["secrets"], "providers": [provider]}]));
    assert!(
        one(json!({"aescbc": {}})).contains("resources[0].providers[0].aescbc: the provider aescbc is not supported")
    );
    assert!(one(json!({"aesgcm": {"keys": [{"name": "a", "secret": "AAAA"}]}})).contains("keys[0].secret"));
    assert!(one(json!({"aesgcm": {"keys": [{"name": "a", "secret": "geheim!"}]}})).contains("base64"));
    assert!(!one(json!({"aesgcm": {"keys": [{"name": "a", "secret": "geheim!"}]}})).contains("geheim"));
    for misplaced in [json!({"aesgcm": "geheim"}), json!({"aesgcm": {"keys": ["geheim"]}}), json!("geheim")] {
        let said = one(misplaced);
        assert!(said.contains("REDACTED") && !said.contains("geheim"), "{said}");
    }
    assert!(one(json!({"identity": {}, "aesgcm": {}})).contains("exactly one provider"));
    assert!(bad(json!([{"resources": [], "providers": []}])).contains("resources[0].resources"));
}
