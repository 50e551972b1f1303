//! Storage over the embedded store.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::attributes::Field;
use crate::watch::Next;
use crate::write::{Amend, Taken, With};
use kedge_kv::{Embedded, Options};
use serde_json::{Value, json};

fn pods_config() -> ResourceConfig {
    let field = |path| Field { path: Text::of(path), zero: Text::default() };
    ResourceConfig {
        fields: Arc::new(["metadata.name", "spec.nodeName"].map(field).into_iter().collect()),
        indexed: Some(Text::of("spec.nodeName")),
        ..ResourceConfig::new("pods", "")
    }
}

pub(crate) async fn storage(dir: &std::path::Path) -> Storage {
    let kv = Embedded::open(Options::new(dir.to_owned(), kedge_base::system_clock())).unwrap();
    over(Arc::new(kv), Encryption::default()).await
}

async fn over(kv: Arc<dyn Kv>, encryption: Encryption) -> Storage {
    let resources = [pods_config(), config("secrets")];
    Storage::open(kv, &resources, Arc::new(encryption), kedge_base::system_clock()).await.unwrap()
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
    assert_eq!(pods.get("a/x").unwrap().unwrap().revision, made.revision);
    assert!(matches!(pods.create("a/x", &pod("x", ""), With::default()).await, Err(Error::Exists)));
    let next = pods.update("a/x", &pod("x", "n"), made.revision, With::default()).await.unwrap();
    assert!(matches!(
        pods.update("a/x", &pod("x", ""), made.revision, With::default()).await,
        Err(Error::Conflict(Some(_)))
    ));
    pods.delete("a/x", next.revision, With::default()).await.unwrap();
    assert!(matches!(pods.delete("a/x", next.revision, With::default()).await, Err(Error::NotFound)));
    assert!(pods.get("a/x").unwrap().is_none());
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
    assert!(matches!(watcher.next().await, Next::Failed(Error::TooOld { .. })));
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
    let first = pods.list("a/", &Matcher::default(), 2).unwrap();
    assert_eq!((first.objects.len(), first.remaining, first.more), (2, 1, true));
    let z = pods.get("a/z").unwrap().unwrap();
    pods.delete("a/z", z.revision, With::default()).await.unwrap();
    let rest = pods.list_at("a/", "a/y\0", &Matcher::default(), 2, first.revision).await.unwrap();
    assert_eq!(&*rest.objects[0].0, "a/z", "the page shows the state of the first page");
    kv.close().await;
    drop((storage, pods, kv));
    let again = self::storage(dir.path()).await.resource("pods").unwrap();
    assert_eq!(again.list("", &Matcher::default(), 0).unwrap().objects.len(), 2);
}

#[tokio::test]
async fn lists_by_the_indexed_field_follow_its_changes() {
    let dir = tempfile::tempdir().unwrap();
    let pods = storage(dir.path()).await.resource("pods").unwrap();
    let on = |node: &str| {
        let fields = kedge_meta::fields::Selector::parse(&format!("spec.nodeName={node}")).unwrap();
        let listing = pods.list("", &Matcher { fields, ..Matcher::default() }, 0).unwrap();
        listing.objects.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    let x = pods.create("a/x", &pod("x", ""), With::default()).await.unwrap();
    pods.create("a/y", &pod("y", "n"), With::default()).await.unwrap();
    assert_eq!((on("n"), on("")), (vec!["a/y".into()], vec!["a/x".into()]));
    let x = pods.update("a/x", &pod("x", "n"), x.revision, With::default()).await.unwrap();
    assert_eq!((on("n"), on("")), (vec!["a/x".into(), "a/y".into()], Vec::new()));
    pods.delete("a/x", x.revision, With::default()).await.unwrap();
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
    pods.delete("a/x", x.revision, With { releases: vec!["/registry/claims/1".into()], ..With::default() })
        .await
        .unwrap();
    pods.create("a/y", &pod("y", ""), claim()).await.unwrap();
}

#[tokio::test]
async fn a_write_is_refused_when_what_it_depends_on_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let pods = storage(dir.path()).await.resource("pods").unwrap();
    let range = pods.create("a/range", &pod("range", ""), With::default()).await.unwrap();
    let key = pods.full_key("a/range");
    let with = |revision| With { unchanged: vec![(key.clone(), revision)], ..With::default() };
    pods.create("a/x", &pod("x", ""), with(range.revision)).await.unwrap();
    let changed = pods.update("a/range", &pod("range", "n"), range.revision, With::default()).await.unwrap();
    let refused = pods.create("a/y", &pod("y", ""), with(range.revision)).await;
    assert!(matches!(refused, Err(Error::Claimed(taken)) if taken == key));
    pods.create("a/y", &pod("y", ""), with(changed.revision)).await.unwrap();
}

/// A list of letters that others add to as well.
#[derive(Debug)]
struct Letter(u8);

impl Amend for Letter {
    fn key(&self) -> &str {
        "/registry/others/letters"
    }

    fn amend(&self, current: Option<&[u8]>) -> Result<Option<Bytes>, Taken> {
        let current = current.unwrap_or_default();
        if current.contains(&self.0) {
            return Err(Taken);
        }
        Ok(Some([current, &[self.0]].concat().into()))
    }
}

#[tokio::test]
async fn what_others_change_too_is_changed_with_the_write_or_neither_is() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(dir.path()).await;
    let pods = storage.resource("pods").unwrap();
    let writes = (0..20u8).map(|n| {
        let (pods, key) = (pods.clone(), format!("a/p{n}"));
        let with = With { amend: Some(Arc::new(Letter(b'a' + n))), ..With::default() };
        async move { pods.create(&key, &pod(&key[2..], ""), with).await }
    });
    for written in futures::future::join_all(writes).await {
        written.unwrap();
    }
    let (letters, _) = pods.value_of("/registry/others/letters").await.unwrap().unwrap();
    assert_eq!(letters.len(), 20, "{letters:?}");
    let with = |letter| With { amend: Some(Arc::new(Letter(letter))), ..With::default() };
    let refused = pods.create("a/again", &pod("again", ""), with(b'c')).await;
    assert!(matches!(refused, Err(Error::Claimed(key)) if key == "/registry/others/letters"));
    assert!(pods.current("a/again").await.unwrap().is_none());
    assert!(matches!(pods.create("a/p1", &pod("p1", ""), with(b'z')).await, Err(Error::Exists)));
    let (unchanged, _) = pods.value_of("/registry/others/letters").await.unwrap().unwrap();
    assert_eq!(unchanged, letters);
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
    storage.set_encryption(Arc::new(aes(&[("k1", 1)])), None);
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
    assert_eq!(secrets.list("", &Matcher::default(), 0).unwrap().objects.len(), 2);

    storage.set_encryption(Arc::new(aes(&[("k2", 2), ("k1", 1)])), None);
    assert!(secrets.reseal("a/new").await.unwrap());
    assert!(raw("new").await.starts_with(b"k8s:enc:aesgcm:v1:k2:"));
    drop((secrets, storage));
    // Without its key, a secret cannot be read, nor a list of it; the others can.
    let storage = over(kv, aes(&[("k2", 2)])).await;
    let again = storage.resource("secrets").unwrap();
    assert!(again.get("a/new").unwrap().is_some());
    assert!(is_unreadable(&again.get("a/plain"), "a/plain"));
    assert!(is_unreadable(&again.list("", &Matcher::default(), 0), "a/plain"));
    assert_eq!(again.readable("", &Matcher::default()).objects.len(), 1);
    // With the key it is there again, and watchers of what was there before list again.
    let mut watcher = again.watch("", Matcher::default(), again.revision()).await.unwrap();
    storage.go_on(0).await.unwrap();
    assert!(watcher.try_next().unwrap().is_none(), "nothing has changed, so nobody need list again");
    storage.set_encryption(Arc::new(aes(&[("k2", 2), ("k1", 1)])), None);
    storage.go_on(0).await.unwrap();
    assert!(again.get("a/plain").unwrap().is_some());
    assert!(matches!(watcher.try_next(), Err(Error::TooOld { .. })));
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
    let read = secrets.get("a/p").unwrap().unwrap().to_value().unwrap();
    assert_eq!((&read["kind"], &read["metadata"]["name"]), (&json!("Secret"), &json!("p")));
}

/// As a registry would have it, when it is a resource of Kubernetes itself.
fn config(prefix: &'static str) -> ResourceConfig {
    let info = kedge_schema::resources().iter().find(|info| info.storage_prefix == prefix);
    let form = info.map(|info| Arc::new(StoredForm::built_in(info)));
    ResourceConfig { form, ..ResourceConfig::new(prefix, prefix) }
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
    values
        .iter()
        .map(|(prefix, key, _)| storage.resource(prefix).unwrap().get(key).unwrap().unwrap().to_json())
        .collect()
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
        let listed = xs.list("", &Matcher::default(), 0).unwrap().objects;
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
async fn versions_that_would_have_to_be_converted_are_not_read() {
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
    let autoscalers = storage.resource("horizontalpodautoscalers").unwrap();
    assert!(autoscalers.get("a/autoscaling-v2").unwrap().is_some());
    for version in ["autoscaling-v1", "autoscaling-v2beta2", "extensions-v1beta1"] {
        assert!(matches!(autoscalers.get(&format!("a/{version}")), Err(Error::Unreadable { .. })), "{version}");
    }
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

fn is_unreadable<T>(answer: &Result<T, Error>, wanted: &str) -> bool {
    matches!(answer, Err(Error::Unreadable { key, .. }) if key.ends_with(wanted))
}

/// Pods `a/b` and `a/d`, and what is no object as `a/c`.
async fn with_garbage(garbage: &'static str) -> (Arc<Embedded>, ResourceStore) {
    let kv = Arc::new(Embedded::memory(kedge_base::system_clock()).unwrap());
    let pods = over(kv.clone(), Encryption::default()).await.resource("pods").unwrap();
    for name in ["b", "d"] {
        pods.create(&format!("a/{name}"), &pod(name, ""), With::default()).await.unwrap();
    }
    put(&kv, "a/c", garbage).await;
    (kv, pods)
}

async fn put(kv: &Embedded, key: &str, value: &'static str) -> u64 {
    let put = kedge_kv::Op::Put { key: format!("/registry/pods/{key}").into(), value: value.into(), lease: 0 };
    kv.txn(kedge_kv::Txn { success: vec![put], ..Default::default() }).await.unwrap().revision
}

#[tokio::test]
async fn what_is_no_object_is_neither_shown_nor_taken_for_nothing() {
    for garbage in [
        "no object",
        "",
        "{}",
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"},"spec":{"#,
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"c"},"spec":{"#,
        "k8s\0\n\u{ff}",
    ] {
        let (kv, pods) = with_garbage(garbage).await;
        assert!(is_unreadable(&pods.get("a/c"), "a/c"), "{garbage}");
        assert!(is_unreadable(&pods.current("a/c").await, "a/c"));
        assert!(pods.get("a/b").unwrap().is_some() && pods.get("a/x").unwrap().is_none());
        // What there is must not be written over.
        assert!(matches!(pods.create("a/c", &pod("c", ""), With::default()).await, Err(Error::Exists)));
        assert!(is_unreadable(&pods.update("a/c", &pod("c", ""), 1, With::default()).await, "a/c"));
        assert!(is_unreadable(&pods.delete("a/c", 1, With::default()).await, "a/c"));
        assert_eq!(kv.get(b"/registry/pods/a/c").await.unwrap().unwrap().value, garbage);
    }
}

#[tokio::test]
async fn only_lists_that_cover_what_cannot_be_read_fail() {
    let (kv, pods) = with_garbage("no object").await;
    let everything = Matcher::default();
    let named = |name: &str| {
        let fields = kedge_meta::fields::Selector::parse(&format!("metadata.name={name}")).unwrap();
        Matcher { fields, ..Matcher::default() }
    };
    let labelled = Matcher { labels: kedge_meta::labels::Selector::parse("x=y").unwrap(), ..Matcher::default() };
    for covering in [&everything, &labelled, &named("c")] {
        assert!(is_unreadable(&pods.list("a/", covering, 0), "a/c"));
        assert!(is_unreadable(&pods.list_at("a/", "a/", covering, 0, pods.revision()).await, "a/c"));
        assert!(is_unreadable(&pods.watch_with_state("", covering.clone()), "a/c"));
    }
    assert!(pods.list("b/", &everything, 0).unwrap().objects.is_empty());
    assert_eq!(pods.list("a/", &named("b"), 0).unwrap().objects.len(), 1);
    assert_eq!(pods.watch_with_state("a/", named("d")).unwrap().0.len(), 1);
    // A page before it is one as any other; the one that it is in cannot be had, and the one after it can.
    let first = pods.list("", &everything, 1).unwrap();
    assert_eq!((&*first.objects[0].0, first.more), ("a/b", true));
    assert!(is_unreadable(&pods.list_at("", "a/b\0", &everything, 1, first.revision).await, "a/c"));
    let last = pods.list_at("", "a/c\0", &everything, 1, first.revision).await.unwrap();
    assert_eq!((&*last.objects[0].0, last.more), ("a/d", false));
    // Once it has been replaced, the page is history that cannot be read.
    let object = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}"#;
    put(&kv, "a/c", object).await;
    let page = pods.list_at("", "a/b\0", &everything, 1, first.revision).await;
    assert!(matches!(page, Err(Error::TooOld { .. })));
    assert_eq!(pods.list("", &everything, 0).unwrap().objects.len(), 3);
}

#[tokio::test]
async fn watchers_of_what_becomes_unreadable_are_told_so_and_not_that_it_is_gone() {
    let kv = Arc::new(Embedded::memory(kedge_base::system_clock()).unwrap());
    let storage = over(kv.clone(), Encryption::default()).await;
    let pods = storage.resource("pods").unwrap();
    pods.create("a/c", &pod("c", "n"), With::default()).await.unwrap();
    let from = pods.revision();
    let mut watchers = Vec::new();
    for (scope, query) in [("", ""), ("a/", "spec.nodeName=n"), ("a/", "metadata.name=c")] {
        let fields = kedge_meta::fields::Selector::parse(query).unwrap();
        watchers.push(pods.watch(scope, Matcher { fields, ..Matcher::default() }, from).await.unwrap());
    }
    let elsewhere = kedge_meta::fields::Selector::parse("metadata.name=b").unwrap();
    let mut others = [
        pods.watch("b/", Matcher::default(), from).await.unwrap(),
        pods.watch("", Matcher { fields: elsewhere, ..Matcher::default() }, from).await.unwrap(),
    ];
    let broken = put(&kv, "a/c", "no object").await;
    for watcher in &mut watchers {
        assert!(is_unreadable(&watcher.try_next(), "a/c"));
    }
    assert!(others.iter_mut().all(|watcher| watcher.try_next().unwrap().is_none()));
    assert_eq!(storage.check().await.unwrap(), [], "the cache knows what it holds");
    // Who had it before learns that it goes, though nobody can read what went.
    let mut watcher = pods.watch("", Matcher::default(), broken).await.unwrap();
    let range = kedge_kv::KeyRange::key("/registry/pods/a/c");
    kv.txn(kedge_kv::Txn { success: vec![kedge_kv::Op::Delete(range)], ..Default::default() }).await.unwrap();
    let (kind, event) = watcher.try_next().unwrap().unwrap();
    assert_eq!((kind, &*event.key), (EventKind::Deleted, "a/c"));
    assert!(pods.get("a/c").unwrap().is_none());
    assert!(pods.list("", &Matcher::default(), 0).unwrap().objects.is_empty());
}

/// Another server changes the encryption while this one writes.
#[tokio::test]
async fn nothing_is_written_with_an_encryption_that_has_been_changed() {
    const SOURCE: &str = "/encryption";
    let kv = Arc::new(Embedded::memory(kedge_base::system_clock()).unwrap());
    let storage = Arc::new(over(kv.clone(), aes(&[("k1", 1)])).await);
    let change = || async {
        let put = kedge_kv::Op::Put { key: SOURCE.into(), value: "x".into(), lease: 0 };
        kv.txn(kedge_kv::Txn { success: vec![put], ..Default::default() }).await.unwrap().revision
    };
    let source = |revision| Some(Source { key: SOURCE, revision, resources: &["secrets"] });
    storage.set_encryption(Arc::new(aes(&[("k1", 1)])), source(change().await));
    let secrets = storage.resource("secrets").unwrap();
    let secret =
        |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "a"}});
    secrets.create("a/old", &secret("old"), With::default()).await.unwrap();
    let changed = change().await;
    // Others are written as ever.
    storage.resource("pods").unwrap().create("a/x", &pod("x", ""), With::default()).await.unwrap();
    let learning = async {
        storage.key_missing().await;
        assert!(kv.get(b"/registry/secrets/a/new").await.unwrap().is_none());
        storage.set_encryption(Arc::new(aes(&[("k2", 2), ("k1", 1)])), source(changed));
    };
    let new = secret("new");
    let (made, ()) = tokio::join!(secrets.create("a/new", &new, With::default()), learning);
    made.unwrap();
    let stored = kv.get(b"/registry/secrets/a/new").await.unwrap().unwrap().value;
    assert!(stored.starts_with(b"k8s:enc:aesgcm:v1:k2:"));
}

#[tokio::test]
async fn more_claims_than_a_transaction_takes_are_refused_and_more_releases_are_cut() {
    let kv = Arc::new(Embedded::memory(kedge_base::system_clock()).unwrap());
    let pods = over(kv.clone(), Encryption::default()).await.resource("pods").unwrap();
    let keys = |numbers: std::ops::Range<usize>| numbers.map(|n| format!("/registry/claims/{n:03}"));
    let claims = |numbers| {
        let claims = keys(numbers).map(|key| (key, Bytes::from_static(b"x"))).collect();
        With { claims, ..With::default() }
    };
    let refused = pods.create("a/x", &pod("x", ""), claims(0..128)).await;
    assert!(matches!(refused, Err(Error::Kv(kedge_kv::Error::TooManyOps { limit: 128, .. }))));
    assert!(pods.get("a/x").unwrap().is_none());
    // In steps there may be more.
    let x = pods.create("a/x", &pod("x", ""), claims(0..127)).await.unwrap();
    let x = pods.update("a/x", &pod("x", "n"), x.revision, claims(127..200)).await.unwrap();
    pods.delete("a/x", x.revision, With { releases: keys(0..200).collect(), ..With::default() }).await.unwrap();
    let left = kv.range(Range::prefix(b"/registry/claims/")).await.unwrap().kvs.len();
    assert_eq!((pods.get("a/x").unwrap().is_none(), left), (true, 200 - 127));
}

/// As upstream: who knows of a version that has not come here yet is told of nothing before it.
#[tokio::test]
async fn a_watch_from_a_version_to_come_begins_with_what_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let pods = storage(dir.path()).await.resource("pods").unwrap();
    let at = pods.revision();
    let mut watcher = pods.watch("a/", Matcher::default(), at + 2).await.unwrap();
    for name in ["x", "y", "z"] {
        pods.create(&format!("a/{name}"), &pod(name, ""), With::default()).await.unwrap();
    }
    let Next::Event(EventKind::Added, event) = watcher.next().await else { panic!("no event") };
    assert_eq!((&*event.key, event.revision), ("a/z", at + 3));
}
