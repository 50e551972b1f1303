//! Events go by themselves after an hour.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use kedge_storage::Durability;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy, masked};
use crate::value::ValueExt;

const SECONDS: u64 = 3_600;
const DEFAULT_NAMESPACE: &str = "default";

pub(crate) struct Event {
    /// Whether its name must be one as others have; the old group takes whatever fits into a path.
    pub named: bool,
}

impl Strategy for Event {
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        if self.named { names::is_dns1123_subdomain(&masked(name, prefix)) } else { names::is_path_segment_name(name) }
    }

    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn has_dependents(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate(&self, ctx: &Context<'_>, event: &Value) -> ErrorList {
        let new_form = is_new_form(ctx);
        let mut errors = common(event, new_form);
        if new_form {
            only_new_fields(event, &mut errors);
            series(event, &mut errors);
        }
        errors
    }

    /// Who updates an event by the newer group counts it in its series, and changes nothing else.
    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let new_form = is_new_form(ctx);
        let mut errors = common(new, new_form);
        if !new_form {
            return errors;
        }
        if differ(new.get("series"), old.get("series")) {
            series(new, &mut errors);
        }
        for (field, stored) in FIXED {
            if differ(new.get(field), old.get(field)) {
                // Texts that are not there are empty ones upstream.
                let shown = new.get(field).cloned().or_else(|| old.get(field)?.as_str().map(|_| Value::from("")));
                errors.push(Error::invalid(&Path::new(stored), shown, "field is immutable"));
            }
        }
        errors
    }

    fn time_to_live(&self) -> Option<u64> {
        Some(SECONDS)
    }

    fn durability(&self, _old: Option<&Value>, _new: Option<&Value>) -> Durability {
        Durability::Relaxed
    }
}

/// What cannot be changed by the newer group, and how errors call it: upstream judges the stored form.
const FIXED: [(&str, &str); 13] = [
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

fn is_new_form(ctx: &Context<'_>) -> bool {
    ctx.resource.group == "events.k8s.io"
}

/// Whether two fields differ, where what is empty is as good as absent.
fn differ(new: Option<&Value>, old: Option<&Value>) -> bool {
    let said = |field: Option<&Value>| {
        field.cloned().filter(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Number(number) => number.as_i64() != Some(0),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        })
    };
    said(new) != said(old)
}

/// What holds for every event: those with a time of their own say who reports what, others are where their object is.
fn common(event: &Value, new_form: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let about = if new_form { "regarding" } else { "involvedObject" };
    let (object, namespace) = (event.text(&[about, "namespace"]), event.namespace());
    let timed = !event.text(&["eventTime"]).is_empty();
    let fits = match (timed, object) {
        // Components with a namespace of their own file events on what has none there.
        (true, "") => matches!(namespace, DEFAULT_NAMESPACE | "kube-system"),
        (true, _) => true,
        (false, "") => matches!(namespace, "" | DEFAULT_NAMESPACE),
        (false, object) => object == namespace,
    };
    if !fits {
        let path = Path::new("involvedObject").child("namespace");
        errors.push(Error::invalid(&path, object, "does not match event.namespace"));
    }
    if !timed {
        return errors;
    }
    let reporter = At::field(event, if new_form { "reportingController" } else { "reportingComponent" });
    errors.need_text(&reporter);
    let complaints = names::is_qualified_name(reporter.text());
    errors.extend(complaints.into_iter().map(|complaint| Error::invalid(&reporter.path, reporter.text(), complaint)));
    for field in ["reportingInstance", "action", "reason"] {
        let at = At::field(event, field);
        errors.need_text(&at);
        at_most(&at, field, 128, &mut errors);
    }
    at_most(&At::field(event, if new_form { "note" } else { "message" }), "message", 1024, &mut errors);
    errors
}

/// Lengths are of bytes.
fn at_most(at: &At<'_>, name: &str, limit: usize, errors: &mut ErrorList) {
    if at.text().len() > limit {
        errors.push(Error::invalid(&Path::new(name), "", format!("can have at most {limit} characters")));
    }
}

/// What `events.k8s.io/v1` demands of a new event.
fn only_new_fields(event: &Value, errors: &mut ErrorList) {
    errors.need_text(&At::field(event, "eventTime"));
    let kind = At::field(event, "type").text();
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(Error::invalid(&Path::new("type"), "", format!("has invalid value: {kind}")));
    }
    for (field, stored) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        if differ(event.get(field), None) {
            errors.push(Error::invalid(&Path::new(stored), "", "needs to be unset"));
        }
    }
}

fn series(event: &Value, errors: &mut ErrorList) {
    let series = At::field(event, "series");
    if !series.is_set() {
        return;
    }
    if series.child("count").int().unwrap_or_default() < 2 {
        errors.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
    }
    errors.need_text(&series.child("lastObservedTime"));
}
