//! Storage over the embedded store.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::watch::Next;
use crate::write::With;
use kedge_kv::{Embedded, Options};
use serde_json::{Value, json};

pub(crate) const PODS: ResourceConfig = ResourceConfig {
    prefix: "pods",
    resource: String::new(),
    selectable: &["metadata.name", "spec.nodeName"],
    indexed: Some("spec.nodeName"),
    relaxed: false,
};

pub(crate) async fn storage(dir: &std::path::Path) -> Storage {
    let kv = Embedded::open(Options::new(dir.to_owned(), kedge_base::system_clock())).unwrap();
    over(Arc::new(kv), Encryption::default()).await
}

async fn over(kv: Arc<dyn Kv>, encryption: Encryption) -> Storage {
    let secrets = ResourceConfig {
        prefix: "secrets",
        resource: "secrets".into(),
        selectable: &[],
        indexed: None,
        relaxed: false,
    };
    Storage::open(kv, &[PODS, secrets], Arc::new(encryption), kedge_base::system_clock()).await.unwrap()
}

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": {"app": name}},
        "spec": {"nodeName": node}})
}

#[tokio::test]
async fn a_write_is_visible_and_conflicts_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let pods = storage(dir.path()).await.resource("pods").unwrap();
    let made = pods.create("a/x", &pod("x", ""), With::default()).await.unwrap();
    assert_eq!(pods.get("a/x").unwrap().revision, made.revision);
    assert!(matches!(pods.create("a/x", &pod("x", ""), With::default()).await, Err(Error::Exists)));
    let next = pods.update("a/x", &pod("x", "n"), made.revision, With::default()).await.unwrap();
    assert!(matches!(
        pods.update("a/x", &pod("x", ""), made.revision, With::default()).await,
        Err(Error::Conflict(Some(_)))
    ));
    pods.delete("a/x", next.revision, Vec::new()).await.unwrap();
    assert!(matches!(pods.delete("a/x", next.revision, Vec::new()).await, Err(Error::NotFound)));
    assert!(pods.get("a/x").is_none());
}

#[tokio::test]
async fn a_selecting_watch_turns_changes_into_additions_and_deletions() {
    let dir = tempfile::tempdir().unwrap();
    let pods = storage(dir.path()).await.resource("pods").unwrap();
    let fields = kedge_meta::fields::Selector::parse("spec.nodeName=n").unwrap();
    let mut watcher = pods.watch("a/", Matcher { fields, ..Matcher::default() }, pods.revision()).await.unwrap();
    let v1 = pods.create("a/x", &pod("x", ""), With::default()).await.unwrap();
    let v2 = pods.update("a/x", &pod("x", "n"), v1.revision, With::default()).await.unwrap();
    pods.update("a/x", &pod("x", "m"), v2.revision, With::default()).await.unwrap();
    let Next::Event(kind, event) = watcher.next().await else { panic!() };
    assert_eq!((kind, event.revision), (EventKind::Added, v2.revision));
    let Next::Event(kind, event) = watcher.next().await else { panic!() };
    assert_eq!(kind, EventKind::Deleted);
    assert!(event.frame(kind).starts_with(b"{\"type\":\"DELETED\",\"object\":{\"apiVersion\""));
}

#[tokio::test]
async fn a_watcher_behind_the_ring_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let pods = storage(dir.path()).await.resource("pods").unwrap();
    let start = pods.revision();
    let mut last = pods.create("a/x", &pod("x", ""), With::default()).await.unwrap();
    let mut watcher = pods.watch("", Matcher::default(), start).await.unwrap();
    let mut big = pod("x", "");
    big["status"] = json!("y".repeat(1 << 20));
    for _ in 0..20 {
        last = pods.update("a/x", &big, last.revision, With::default()).await.unwrap();
    }
    assert!(matches!(watcher.next().await, Next::TooOld(_)));
    assert!(matches!(pods.watch("", Matcher::default(), start).await, Err(Error::TooOld { .. })));
}

#[tokio::test]
async fn state_survives_opening_again_and_pages_are_consistent() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(Embedded::open(Options::new(dir.path().to_owned(), kedge_base::system_clock())).unwrap());
    let storage = over(kv.clone(), Encryption::default()).await;
    let pods = storage.resource("pods").unwrap();
    for name in ["x", "y", "z"] {
        pods.create(&format!("a/{name}"), &pod(name, ""), With::default()).await.unwrap();
    }
    let first = pods.list("a/", &Matcher::default(), 2);
    assert_eq!((first.objects.len(), first.remaining, first.more), (2, 1, true));
    let z = pods.get("a/z").unwrap();
    pods.delete("a/z", z.revision, Vec::new()).await.unwrap();
    let rest = pods.list_at("a/", "a/y\0", &Matcher::default(), 2, first.revision).await.unwrap();
    assert_eq!(&*rest.objects[0].0, "a/z", "the page shows the state of the first page");
    kv.close().await;
    drop((storage, pods, kv));
    let again = self::storage(dir.path()).await.resource("pods").unwrap();
    assert_eq!(again.list("", &Matcher::default(), 0).objects.len(), 2);
}

#[tokio::test]
async fn lists_by_the_indexed_field_follow_its_changes() {
    let dir = tempfile::tempdir().unwrap();
    let pods = storage(dir.path()).await.resource("pods").unwrap();
    let on = |node: &str| {
        let fields = kedge_meta::fields::Selector::parse(&format!("spec.nodeName={node}")).unwrap();
        let listing = pods.list("", &Matcher { fields, ..Matcher::default() }, 0);
        listing.objects.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    let x = pods.create("a/x", &pod("x", ""), With::default()).await.unwrap();
    pods.create("a/y", &pod("y", "n"), With::default()).await.unwrap();
    assert_eq!((on("n"), on("")), (vec!["a/y".into()], vec!["a/x".into()]));
    let x = pods.update("a/x", &pod("x", "n"), x.revision, With::default()).await.unwrap();
    assert_eq!((on("n"), on("")), (vec!["a/x".into(), "a/y".into()], Vec::new()));
    pods.delete("a/x", x.revision, Vec::new()).await.unwrap();
    assert_eq!(on("n"), ["a/y"]);
}

#[tokio::test]
async fn a_claim_is_taken_once_and_given_back_with_its_object() {
    let dir = tempfile::tempdir().unwrap();
    let pods = storage(dir.path()).await.resource("pods").unwrap();
    let claim = || With { claims: vec![("/registry/claims/1".into(), Bytes::from_static(b"x"))], ..With::default() };
    let x = pods.create("a/x", &pod("x", ""), claim()).await.unwrap();
    let refused = pods.create("a/y", &pod("y", ""), claim()).await;
    assert!(matches!(refused, Err(Error::Claimed(key)) if key == "/registry/claims/1"));
    assert!(pods.current("a/y").await.unwrap().is_none());
    assert!(matches!(pods.create("a/x", &pod("x", ""), claim()).await, Err(Error::Exists)));
    pods.delete("a/x", x.revision, vec!["/registry/claims/1".into()]).await.unwrap();
    pods.create("a/y", &pod("y", ""), claim()).await.unwrap();
}

fn aes(names: &[(&str, u8)]) -> Encryption {
    use base64::Engine as _;
    let keys: Vec<Value> = names
        .iter()
        .map(|(n, b)| json!({"name": n, "secret": base64::engine::general_purpose::STANDARD.encode([*b; 32])}))
        .collect();
    Encryption::from_value(json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [{"aesgcm": {"keys": keys}}, {"identity": {}}]}],
    }))
    .unwrap()
}

#[tokio::test]
async fn secrets_are_sealed_in_the_store_and_open_in_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(Embedded::open(Options::new(dir.path().to_owned(), kedge_base::system_clock())).unwrap());
    let storage = over(kv.clone(), Encryption::default()).await;
    let secrets = storage.resource("secrets").unwrap();
    let secret =
        |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "a"}});
    secrets.create("a/plain", &secret("plain"), With::default()).await.unwrap();
    storage.set_encryption(Arc::new(aes(&[("k1", 1)])));
    secrets.create("a/new", &secret("new"), With::default()).await.unwrap();
    let raw = |name: &'static str| {
        let kv = kv.clone();
        async move { kv.get(format!("/registry/secrets/a/{name}").as_bytes()).await.unwrap().unwrap().value }
    };
    assert!(raw("new").await.starts_with(b"k8s:enc:aesgcm:v1:k1:"));
    assert!(raw("plain").await.starts_with(b"{"));
    assert!(secrets.reseal("a/plain").await.unwrap());
    assert!(!secrets.reseal("a/plain").await.unwrap());
    assert!(raw("plain").await.starts_with(b"k8s:enc:"));
    assert_eq!(secrets.list("", &Matcher::default(), 0).objects.len(), 2);

    storage.set_encryption(Arc::new(aes(&[("k2", 2), ("k1", 1)])));
    assert!(secrets.reseal("a/new").await.unwrap());
    assert!(raw("new").await.starts_with(b"k8s:enc:aesgcm:v1:k2:"));
    drop((secrets, storage));
    // Without its key, a secret is left out; the others are there.
    let again = over(kv, aes(&[("k2", 2)])).await;
    let keys = again.resource("secrets").unwrap().list("", &Matcher::default(), 0).objects;
    assert_eq!(keys.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["a/new"]);
}

/// As a stock API server writes it: enveloped protobuf.
#[tokio::test]
async fn protobuf_values_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(Embedded::open(Options::new(dir.path().to_owned(), kedge_base::system_clock())).unwrap());
    // Unknown{typeMeta{v1, Secret}, raw: Secret{metadata{name: "p", namespace: "a"}}}
    let mut value = b"k8s\0".to_vec();
    value.extend_from_slice(b"\x0a\x0c\x0a\x02v1\x12\x06Secret\x12\x08\x0a\x06\x0a\x01p\x1a\x01a");
    let put = kedge_kv::Op::Put { key: "/registry/secrets/a/p".into(), value: value.into(), lease: 0 };
    kv.txn(kedge_kv::Txn { success: vec![put], ..Default::default() }).await.unwrap();
    let secrets = over(kv, Encryption::default()).await.resource("secrets").unwrap();
    let read = secrets.get("a/p").unwrap().to_value().unwrap();
    assert_eq!((&read["kind"], &read["metadata"]["name"]), (&json!("Secret"), &json!("p")));
}

fn config(prefix: &'static str) -> ResourceConfig {
    ResourceConfig { prefix, resource: prefix.into(), selectable: &[], indexed: None, relaxed: false }
}

/// As a stock API server writes JSON: the kind first, a newline at the end.
fn stock(kind: &str, api_version: &str, rest: &Value) -> Vec<u8> {
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",{}\n", &rest.to_string()[1..]).into()
}

/// What a stock server's values under the keys are read as, in the same order.
async fn read_stock(values: Vec<(&'static str, &str, Vec<u8>)>) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(Embedded::open(Options::new(dir.path().to_owned(), kedge_base::system_clock())).unwrap());
    let put = |(prefix, key, value): &(_, &str, Vec<u8>)| kedge_kv::Op::Put {
        key: format!("/registry/{prefix}/{key}").into(),
        value: value.clone().into(),
        lease: 0,
    };
    let success = values.iter().map(put).collect();
    kv.txn(kedge_kv::Txn { success, ..Default::default() }).await.unwrap();
    let configs: Vec<_> = values.iter().map(|(prefix, ..)| config(prefix)).collect();
    let encryption = Arc::new(Encryption::default());
    let storage = Storage::open(kv, &configs, encryption, kedge_base::system_clock()).await.unwrap();
    values.iter().map(|(prefix, key, _)| storage.resource(prefix).unwrap().get(key).unwrap().to_json()).collect()
}

#[tokio::test]
async fn json_of_stock_servers_is_completed_and_one_line() {
    let claim = json!({"metadata": {"name": "c", "namespace": "a"}, "spec": {}, "status": {}});
    let definition = json!({"metadata": {"name": "xs.y.org"}, "spec": {"group": "y.org", "version": "v1",
        "names": {"plural": "xs", "kind": "X"}, "scope": "Cluster",
        "validation": {"openAPIV3Schema": {"type": "object"}},
        "versions": [{"name": "v1", "served": true, "storage": true}]}});
    let custom = b"{\"apiVersion\":\"y.org/v1\",\"kind\":\"X\",\"metadata\":{\"name\":\"x\"}}\n".to_vec();
    let read = read_stock(vec![
        ("persistentvolumeclaims", "a/c", stock("PersistentVolumeClaim", "v1", &claim)),
        (
            "apiextensions.k8s.io/customresourcedefinitions",
            "xs.y.org",
            stock("CustomResourceDefinition", "apiextensions.k8s.io/v1beta1", &definition),
        ),
        ("y.org/xs", "x", custom),
    ])
    .await;
    assert!(read.iter().all(|json| !json.contains(&b'\n')), "a watch event is one line");
    let read: Vec<Value> = read.iter().map(|json| serde_json::from_slice(json).unwrap()).collect();
    assert_eq!(read[0]["status"], json!({"phase": "Pending"}));
    assert_eq!(read[1]["apiVersion"], "apiextensions.k8s.io/v1");
    assert_eq!(read[1]["spec"]["versions"][0]["schema"], json!({"openAPIV3Schema": {"type": "object"}}));
    assert_eq!(read[1]["spec"].get("validation"), None);
}

/// Stock servers sort all fields of a custom resource. Those before the metadata were lost in lists, and what looked like
/// metadata in them got the version.
#[tokio::test]
async fn fields_before_the_metadata_are_kept() {
    let sorted =
        r#"{"apiVersion":"y.org/v1","data":{"metadata":{"a":"b"}},"kind":"X","metadata":{"name":"x"},"spec":1}"#;
    let spaced = format!("{:#}\n", serde_json::from_str::<Value>(sorted).unwrap());
    let kv = Arc::new(Embedded::memory(kedge_base::system_clock()).unwrap());
    let xs =
        Storage::open(kv.clone(), &[config("y.org/xs")], Arc::default(), kedge_base::system_clock()).await.unwrap();
    let xs = xs.resource("y.org/xs").unwrap();
    for value in [format!("{sorted}\n"), spaced] {
        let put = kedge_kv::Op::Put { key: "/registry/y.org/xs/x".into(), value: value.into(), lease: 0 };
        let revision = kv.txn(kedge_kv::Txn { success: vec![put], ..Default::default() }).await.unwrap().revision;
        let mut expected: Value = serde_json::from_str(sorted).unwrap();
        expected["metadata"]["resourceVersion"] = revision.to_string().into();
        let listed = xs.list("", &Matcher::default(), 0).objects;
        assert_eq!(serde_json::from_slice::<Value>(&listed[0].1.to_json()).unwrap(), expected);
        assert!(!listed[0].1.to_json().contains(&b'\n'), "a watch event is one line");
        let mut item = Vec::new();
        listed[0].1.write_item(&mut item);
        expected.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
        assert_eq!(serde_json::from_slice::<Value>(&item).unwrap(), expected);
    }
}

/// An object keeps the version in which it was written last, however often the cluster has been upgraded.
#[tokio::test]
async fn former_versions_are_read_as_those_of_now() {
    let rest = json!({"metadata": {"name": "x"}, "value": 5});
    let field =
        |number: u8, content: &[u8]| [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat();
    let meta = [field(1, b"scheduling.k8s.io/v1beta1"), field(2, b"PriorityClass")].concat();
    let class = [field(1, &field(1, b"y")), vec![2 << 3, 6]].concat();
    let proto = [b"k8s\0".to_vec(), field(1, &meta), field(2, &class)].concat();
    let json = stock("PriorityClass", "scheduling.k8s.io/v1beta1", &rest);
    for (key, stored, value) in [("x", json, 5), ("y", proto, 6)] {
        let read = read_stock(vec![("priorityclasses", key, stored)]).await;
        let read: Value = serde_json::from_slice(&read[0]).unwrap();
        assert_eq!((&read["apiVersion"], &read["value"]), (&json!("scheduling.k8s.io/v1"), &json!(value)));
        assert_eq!(read["preemptionPolicy"], "PreemptLowerPriority", "it is completed: {read}");
    }
}

/// A newer server stores what this one serves.
#[tokio::test]
async fn a_version_that_is_served_and_not_yet_stored_is_read() {
    let rest = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p"}});
    let binding = stock("MutatingAdmissionPolicyBinding", "admissionregistration.k8s.io/v1", &rest);
    let read = read_stock(vec![("mutatingadmissionpolicybindings", "b", binding)]).await;
    assert_eq!(serde_json::from_slice::<Value>(&read[0]).unwrap()["spec"]["policyName"], "p");
}

/// Served in a version whose fields it does not have, an object would lose them with the next update.
#[tokio::test]
async fn versions_that_would_have_to_be_converted_are_left_out() {
    let kv = Arc::new(Embedded::memory(kedge_base::system_clock()).unwrap());
    let rest = json!({"metadata": {"name": "x", "namespace": "a"}});
    for version in ["autoscaling/v1", "autoscaling/v2beta2", "autoscaling/v2", "extensions/v1beta1"] {
        let key = format!("/registry/horizontalpodautoscalers/a/{}", version.replace('/', "-"));
        let value = stock("HorizontalPodAutoscaler", version, &rest).into();
        let put = kedge_kv::Op::Put { key: key.into(), value, lease: 0 };
        kv.txn(kedge_kv::Txn { success: vec![put], ..Default::default() }).await.unwrap();
    }
    let configs = [config("horizontalpodautoscalers")];
    let storage = Storage::open(kv, &configs, Arc::default(), kedge_base::system_clock()).await.unwrap();
    let list = storage.resource("horizontalpodautoscalers").unwrap().list("", &Matcher::default(), 0).objects;
    assert_eq!(list.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["a/autoscaling-v2"]);
}

/// A version that is stored but not served has no type of its own.
#[tokio::test]
async fn protobuf_of_a_version_that_is_not_served_is_read() {
    let (version, kind) = ("admissionregistration.k8s.io/v1beta1", "MutatingAdmissionPolicyBinding");
    let field =
        |number: u8, content: &[u8]| [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat();
    let meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
    let binding = [field(1, &field(1, b"b")), field(2, &field(1, b"p"))].concat();
    let value = [b"k8s\0".to_vec(), field(1, &meta), field(2, &binding)].concat();
    let read = read_stock(vec![("mutatingadmissionpolicybindings", "b", value)]).await;
    let read: Value = serde_json::from_slice(&read[0]).unwrap();
    assert_eq!((&read["kind"], &read["spec"]["policyName"]), (&json!(kind), &json!("p")));
}

#[tokio::test]
async fn a_page_that_cannot_be_read_does_not_end_a_list() {
    let kv = Arc::new(Embedded::memory(kedge_base::system_clock()).unwrap());
    let pods = over(kv.clone(), Encryption::default()).await.resource("pods").unwrap();
    for name in ["b", "c"] {
        pods.create(&format!("a/{name}"), &pod(name, ""), With::default()).await.unwrap();
    }
    let put = kedge_kv::Op::Put { key: "/registry/pods/a/a".into(), value: "no object".into(), lease: 0 };
    let revision = kv.txn(kedge_kv::Txn { success: vec![put], ..Default::default() }).await.unwrap().revision;
    let page = pods.list_at("a/", "a/", &Matcher::default(), 1, revision).await.unwrap();
    let names: Vec<&str> = page.objects.iter().map(|(key, _)| &**key).collect();
    assert_eq!((names, page.more, page.remaining), (vec!["a/b"], true, 1));
}
