//! Built-in kinds that are served in several versions: events of two groups, and two versions of the autoscaler. All others differ in
//! nothing but their names.

use std::sync::Arc;

use serde_json::Value;

use super::{Conversed, Conversion, Renamed, autoscaler};
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

/// The conversion of what is stored in `group` under this name.
pub fn of(group: &str, plural: &str) -> Arc<dyn Conversion> {
    match (group, plural) {
        ("" | "events.k8s.io", "events") => Arc::new(Events),
        ("autoscaling", "horizontalpodautoscalers") => Arc::new(Autoscaler),
        _ => Arc::new(Renamed),
    }
}

struct Events;

impl Conversion for Events {
    fn convert<'a>(&'a self, objects: &'a mut [Value], to: &'a str) -> Conversed<'a> {
        each(objects, to, |event| match to {
            "v1" => rename(event, |(core, new)| (new, core)),
            _ => rename(event, |(core, new)| (core, new)),
        })
    }
}

struct Autoscaler;

impl Conversion for Autoscaler {
    fn convert<'a>(&'a self, objects: &'a mut [Value], to: &'a str) -> Conversed<'a> {
        each(objects, to, |object| match to {
            "autoscaling/v1" => autoscaler::to_v1(object),
            _ => autoscaler::to_v2(object),
        })
    }
}

/// Converts those objects that are not of the version yet.
fn each<'a>(objects: &mut [Value], to: &str, convert: impl Fn(&mut Value)) -> Conversed<'a> {
    for object in objects.iter_mut().filter(|object| object.text(&["apiVersion"]) != to) {
        convert(object);
        object.set("apiVersion", to);
    }
    Conversed::Done(Ok(()))
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
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::at_once;
    use super::*;

    #[test]
    fn an_event_converts_there_and_back() {
        let info = |group| kedge_schema::resource(group, "v1", "events").unwrap();
        let (core, newer) = (info(""), info("events.k8s.io"));
        let mut stored =
            json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "x"}, "message": "m", "count": 2});
        at_once(&Events, core, &mut stored).unwrap();
        // The core version writes these even when they are empty, the other does not.
        assert_eq!((&stored["reportingComponent"], &stored["reportingInstance"]), (&json!(""), &json!("")));
        let mut value = stored.clone();
        at_once(&Events, newer, &mut value).unwrap();
        assert_eq!(value["regarding"]["name"], "x");
        assert_eq!((&value["note"], &value["apiVersion"]), (&json!("m"), &json!("events.k8s.io/v1")));
        assert_eq!((value.get("reportingController"), value.get("reportingInstance")), (None, None));
        at_once(&Events, core, &mut value).unwrap();
        assert_eq!(value, stored);
    }
}
