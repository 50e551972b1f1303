//! What is stored is read as what its resource holds.
#![allow(clippy::unwrap_used)]

use kedge_meta::GroupVersion;
use serde_json::json;

use super::*;

fn read(form: Option<&StoredForm>, stored: &Value) -> Value {
    let bytes = Object::encode(None, stored).unwrap();
    let read = Codec::default().read("x", form, "/registry/x", bytes, 7).ok().unwrap();
    read.object.to_value().unwrap()
}

/// Patches could once write another kind into an object, and so it was shown to everybody who lists or watches.
#[test]
fn an_object_that_calls_itself_another_kind_is_of_its_resources_kind() {
    for info in kedge_schema::resources().iter().filter(|info| info.is_stored()) {
        let version = GroupVersion::new(&info.storage_group, &info.storage_version).to_string();
        let form = StoredForm::built_in(info);
        let metadata = json!({"name": "x", "resourceVersion": "7"});
        let good = json!({"apiVersion": version, "kind": info.kind, "metadata": metadata, "spec": {"a": 1}});
        assert_eq!(read(Some(&form), &good), good);
        for (wrong_version, kind) in [("v1", "Nonsense"), ("nowhere/v7", &*info.kind), (&*version, "Nonsense")] {
            let wrong = json!({"apiVersion": wrong_version, "kind": kind, "metadata": metadata, "spec": {"a": 1}});
            assert_eq!(read(Some(&form), &wrong), good, "{}", info.plural);
        }
    }
}

/// What somebody else keeps in the store is left alone.
#[test]
fn what_is_no_built_in_resource_keeps_its_kind() {
    let own = json!({"apiVersion": "y.org/v1", "kind": "X", "metadata": {"name": "x", "resourceVersion": "7"}});
    assert_eq!(read(None, &own), own);
}

/// A custom kind may have the name of a built-in one, or be kept where no table says what it is.
#[test]
fn only_the_kind_of_the_resource_itself_counts() {
    let read = |form: &StoredForm, json: String| {
        let read = Codec::default().read("x", Some(form), "/registry/x", json.into(), 7)?;
        read.object.to_value()
    };
    // As stock servers write it, with a newline at the end.
    let stock = |version: &str, kind: &str| {
        let object = format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{{"name":"x"}},"spec":{{}}}}"#);
        object + "\n"
    };
    let custom = |others: &[&str]| {
        let other = |version: &&str| crate::OtherVersion { api_version: (**version).into(), schema: None, same: true };
        let others: Vec<_> = others.iter().map(other).collect();
        StoredForm::new("y.org/v1".into(), "Pod".into(), None, false, others)
    };
    let pod = read(&custom(&[]), stock("y.org/v1", "Pod")).unwrap();
    assert_eq!(pod["spec"], json!({}), "it has no defaults of others");
    assert_eq!(read(&custom(&["y.org/v2"]), stock("y.org/v2", "Pod")).unwrap()["apiVersion"], "y.org/v2");
    for (version, kind) in [("y.org/v2", "Pod"), ("v1", "Pod"), ("y.org/v1", "Other")] {
        let refused = read(&custom(&[]), stock(version, kind));
        assert!(matches!(refused, Err(Error::Unreadable { .. })), "{version} {kind}");
    }
    let pods = kedge_schema::resources().iter().find(|info| info.storage_prefix == "pods").unwrap();
    let built_in = StoredForm::built_in(pods);
    assert_eq!(read(&built_in, stock("v1", "Pod")).unwrap()["spec"]["restartPolicy"], "Always");
    assert!(read(&built_in, stock("v1", "Secret")).is_err());
}

/// Events are kept in fewer bytes; whoever reads them gets what was written.
#[test]
fn what_is_packed_is_read_as_it_was_and_kept_packed() {
    let event = kedge_schema::kind("", "v1", "Event").unwrap();
    let value = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "a"},
        "involvedObject": {"kind": "Pod"}, "message": "back-off ".repeat(100)});
    let plain = Object::encode(Some(event), &value).unwrap();
    let codec = Codec::default();
    let stored = codec.write("events", "/registry/events/a/e", plain.clone(), true).unwrap().value;
    assert!(stored.len() < plain.len() / 2);
    let object = codec.read("events", None, "/registry/events/a/e", stored.clone(), 7).unwrap().object;
    assert_eq!((object.held(), &object.stored()[..]), (stored.len(), &plain[..]));
    let same = Object::from_stored("e", plain.clone(), 7).unwrap();
    assert_eq!((object.to_json(), object.item_len()), (same.to_json(), same.item_len()));
    let (mut item, mut metadata) = (Vec::new(), Vec::new());
    object.write_item(&mut item);
    object.write_metadata(&mut metadata).unwrap();
    assert_eq!(item.len(), object.item_len());
    assert_eq!(metadata, br#"{"name":"e","namespace":"a","resourceVersion":"7"}"#);
    assert_eq!(object.at(9).to_value().unwrap()["metadata"]["resourceVersion"], "9");
    // Cut short on a card that dies: an error that names the key, and not another object.
    let cut = stored.slice(..stored.len() - 1);
    let err = codec.read("events", None, "/registry/events/a/e", cut, 7).err().unwrap();
    assert!(err.to_string().contains("/registry/events/a/e"), "{err}");
}
