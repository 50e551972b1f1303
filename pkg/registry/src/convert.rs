//! Conversion between the served versions of a kind: events of two groups, and two versions of the autoscaler.

mod autoscaler;

use kedge_meta::Status;
use kedge_schema::ResourceInfo;
use kedge_storage::Object;
use serde_json::Value;

use crate::served::Served;
use crate::value::ValueExt;

/// `(core v1 name, events.k8s.io/v1 name)` of fields that only differ in their name.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The object as `served` shows it.
///
/// # Errors
/// 500 when what is stored cannot be read.
pub fn read(served: &Served, object: &Object) -> Result<Value, Status> {
    let mut value = object.to_value().map_err(Status::internal)?;
    if served.needs_conversion() {
        from_storage(&served.info, &mut value);
    }
    Ok(value)
}

/// From the stored to the served version.
pub fn from_storage(info: &ResourceInfo, value: &mut Value) {
    match (&*info.group, &*info.version, &*info.plural) {
        ("events.k8s.io", "v1", "events") => rename(value, |(core, new)| (core, new)),
        ("autoscaling", "v1", _) => autoscaler::to_v1(value),
        _ => {}
    }
    value.set("apiVersion", info.api_version());
    info.schema.normalize(value);
}

/// The versions differ in what they write when it is empty.
fn normalize(group: &str, version: &str, kind: &str, value: &mut Value) {
    if let Some(ty) = kedge_schema::kind(group, version, kind) {
        kedge_schema::normalize(ty, value);
    }
}

/// From the served to the stored version.
pub fn to_storage(info: &ResourceInfo, value: &mut Value) {
    match (&*info.group, &*info.version, &*info.plural) {
        ("events.k8s.io", "v1", "events") => rename(value, |(core, new)| (new, core)),
        ("autoscaling", "v1", _) => autoscaler::to_v2(value),
        _ => {}
    }
    let stored = kedge_meta::GroupVersion::new(&info.storage_group, &info.storage_version);
    value.set("apiVersion", stored.to_string());
    normalize(&info.storage_group, &info.storage_version, &info.kind, value);
}

fn rename(value: &mut Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Value::Object(map) = value else { return };
    for pair in EVENT_FIELDS {
        let (from, to) = direction(pair);
        if let Some(field) = map.remove(from) {
            map.insert(to.into(), field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_converts_there_and_back() {
        let Some(info) = kedge_schema::resource("events.k8s.io", "v1", "events") else { panic!() };
        let mut stored =
            json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "x"}, "message": "m", "count": 2});
        normalize("", "v1", "Event", &mut stored);
        // The core version writes these even when they are empty, the other does not.
        assert_eq!((&stored["reportingComponent"], &stored["reportingInstance"]), (&json!(""), &json!("")));
        let mut value = stored.clone();
        from_storage(info, &mut value);
        assert_eq!(value["regarding"]["name"], "x");
        assert_eq!((&value["note"], &value["apiVersion"]), (&json!("m"), &json!("events.k8s.io/v1")));
        assert_eq!((value.get("reportingController"), value.get("reportingInstance")), (None, None));
        to_storage(info, &mut value);
        assert_eq!(value, stored);
    }
}
