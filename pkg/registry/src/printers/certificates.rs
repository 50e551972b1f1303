//! Certificate signing requests.

use serde_json::json;

use super::duration::human_duration;
use super::row::{Row, condition};
use super::{AGE, NAME, Printer, text};
use crate::value::ValueExt;

pub(super) static REQUEST: Printer = Printer {
    columns: &[NAME, AGE, text("SignerName"), text("Requestor"), text("RequestedDuration"), text("Condition")],
    cells: |row| {
        let duration = row.object.int(&["spec", "expirationSeconds"]).map_or("<none>".into(), human_duration);
        vec![
            row.name(),
            row.age(),
            row.text_or(&["spec", "signerName"], "<none>"),
            row.text_or(&["spec", "username"], ""),
            json!(duration),
            json!(state(row)),
        ]
    },
};

fn state(row: &Row<'_>) -> String {
    let has = |kind: &str| condition(row.list(&["status", "conditions"]), kind).is_some();
    let mut state = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !row.text(&["status", "certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    state
}
