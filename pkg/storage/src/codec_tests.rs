//! What is stored is read as what its resource holds.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn read(resource: &str, stored: &Value) -> Value {
    let bytes = Object::encode(stored).unwrap();
    let read = Codec::default().read(resource, "/registry/x", bytes, 7).ok().unwrap();
    read.object.to_value().unwrap()
}

/// Patches could once write another kind into an object, and so it was shown to everybody who lists or watches.
#[test]
fn an_object_that_calls_itself_another_kind_is_of_its_resources_kind() {
    for info in kedge_schema::resources().iter().filter(|info| info.is_stored()) {
        let version = GroupVersion::new(&info.storage_group, &info.storage_version).to_string();
        let resource = GroupResource::new(&info.storage_group, &info.plural).to_string();
        let metadata = json!({"name": "x", "resourceVersion": "7"});
        let good = json!({"apiVersion": version, "kind": info.kind, "metadata": metadata, "spec": {"a": 1}});
        assert_eq!(read(&resource, &good), good);
        for (wrong_version, kind) in [("v1", "Nonsense"), ("nowhere/v7", &*info.kind), (&*version, "Nonsense")] {
            let wrong = json!({"apiVersion": wrong_version, "kind": kind, "metadata": metadata, "spec": {"a": 1}});
            assert_eq!(read(&resource, &wrong), good, "{resource}");
        }
    }
}

/// What somebody else keeps in the store is left alone.
#[test]
fn what_is_no_built_in_resource_keeps_its_kind() {
    let own = json!({"apiVersion": "y.org/v1", "kind": "X", "metadata": {"name": "x", "resourceVersion": "7"}});
    assert_eq!(read("xs.y.org", &own), own);
}
