//! Jobs and cron jobs.

use serde_json::json;

use super::duration::human_duration;
use super::row::{Row, printed};
use super::{AGE, NAME, Printer, boolean, integer, text, wide};
use crate::value::ValueExt;

pub(super) fn printer(plural: &str) -> &'static Printer {
    if plural == "jobs" { &JOB } else { &CRON_JOB }
}

static JOB: Printer = Printer {
    columns: &[
        NAME,
        text("Status"),
        text("Completions"),
        text("Duration"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |row| {
        let [names, images] = row.containers(&["spec", "template", "spec", "containers"]);
        let selector = row.selector(&["spec", "selector"]);
        let (status, completions, duration) = (status(row), completions(row), duration(row));
        vec![row.name(), json!(status), json!(completions), json!(duration), row.age(), names, images, selector]
    },
};

fn status(row: &Row<'_>) -> &'static str {
    match () {
        () if row.has_condition("Complete") => "Complete",
        () if row.has_condition("Failed") => "Failed",
        () if row.is_deleted() => "Terminating",
        () if row.has_condition("Suspended") => "Suspended",
        () if row.has_condition("FailureTarget") => "FailureTarget",
        () if row.has_condition("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(row: &Row<'_>) -> String {
    let succeeded = row.int(&["status", "succeeded"]);
    let parallelism = row.int(&["spec", "parallelism"]);
    match row.object.int(&["spec", "completions"]) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(row: &Row<'_>) -> String {
    let time = |field: &str| kedge_base::time::parse(row.text(&["status", field])).ok();
    let end = time("completionTime").unwrap_or(row.now);
    time("startTime").map_or(String::new(), |start| human_duration(end.as_second() - start.as_second()))
}

static CRON_JOB: Printer = Printer {
    columns: &[
        NAME,
        text("Schedule"),
        text("Timezone"),
        boolean("Suspend"),
        integer("Active"),
        text("Last Schedule"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |row| {
        let last = match row.text(&["status", "lastScheduleTime"]) {
            "" => "<none>".into(),
            _ => row.since(&["status", "lastScheduleTime"]),
        };
        let [names, images] = row.containers(&["spec", "jobTemplate", "spec", "template", "spec", "containers"]);
        // Upstream prints this one as text although the column is boolean.
        let suspend = printed(row.object.at(&["spec", "suspend"]), "<unset>");
        let suspend = match suspend.as_str() {
            "true" => "True",
            "false" => "False",
            other => other,
        };
        vec![
            row.name(),
            row.text_or(&["spec", "schedule"], ""),
            row.text_or(&["spec", "timeZone"], "<none>"),
            json!(suspend),
            json!(row.list(&["status", "active"]).len()),
            json!(last),
            row.age(),
            names,
            images,
            row.selector(&["spec", "jobTemplate", "spec", "selector"]),
        ]
    },
};
