//! Events, in both of their versions.

use serde_json::{Value, json};

use super::duration::age;
use super::row::{Row, or};
use super::{Printer, named, text, wide};
use crate::value::ValueExt;

pub(super) static EVENT: Printer = Printer {
    columns: &[
        text("Last Seen"),
        text("Type"),
        text("Reason"),
        text("Object"),
        wide("Subobject"),
        wide("Source"),
        text("Message"),
        wide("First Seen"),
        wide("Count"),
        named("Name", 1),
    ],
    cells,
};

/// A field under its core or its `events.k8s.io` name.
fn either<'a>(row: &Row<'a>, core: &[&str], new: &[&str]) -> &'a str {
    or(row.text(core), row.text(new))
}

fn cells(row: &Row<'_>) -> Vec<Value> {
    let at = |field: &str, deprecated: &str| either(row, &[field], &[deprecated]);
    let since = |time: &str| age(time, row.now);
    let first = since(or(at("firstTimestamp", "deprecatedFirstTimestamp"), row.text(&["eventTime"])));
    let series = row.object.at(&["series"]).filter(|series| series.is_object());
    let last = match (series, at("lastTimestamp", "deprecatedLastTimestamp")) {
        (Some(series), _) => since(series.text(&["lastObservedTime"])),
        (None, "") => first.clone(),
        (None, time) => since(time),
    };
    let count = match series {
        Some(series) => series.int(&["count"]).unwrap_or_default(),
        None => match row.int(&["count"]).max(row.int(&["deprecatedCount"])) {
            0 => 1,
            count => count,
        },
    };
    let about = |field: &str| either(row, &["involvedObject", field], &["regarding", field]);
    let (kind, name) = (about("kind").to_lowercase(), about("name"));
    let object = if name.is_empty() { kind } else { format!("{kind}/{name}") };
    let component = or(
        either(row, &["source", "component"], &["deprecatedSource", "component"]),
        either(row, &["reportingComponent"], &["reportingController"]),
    );
    let instance =
        or(either(row, &["source", "host"], &["deprecatedSource", "host"]), row.text(&["reportingInstance"]));
    let source = if instance.is_empty() { component.to_owned() } else { format!("{component}, {instance}") };
    vec![
        json!(last),
        row.text_or(&["type"], ""),
        row.text_or(&["reason"], ""),
        json!(object),
        json!(about("fieldPath")),
        json!(source),
        json!(at("message", "note").trim()),
        json!(first),
        json!(count),
        row.name(),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_versions_show_the_same() {
        let core = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Started", "message": "up\n",
            "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:01:00Z", "count": 2});
        let new = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Started", "note": "up\n",
            "regarding": {"kind": "Pod", "name": "p"}, "deprecatedSource": {"component": "kubelet", "host": "n"},
            "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z", "deprecatedLastTimestamp": "2026-01-01T00:01:00Z",
            "deprecatedCount": 2});
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        let cells = EVENT.row(&core, now);
        assert_eq!(
            Value::from(cells.clone()),
            json!(["60s", "Normal", "Started", "pod/p", "", "kubelet, n", "up", "2m", 2, "e"])
        );
        assert_eq!(cells, EVENT.row(&new, now));
    }
}
