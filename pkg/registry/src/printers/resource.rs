//! Dynamic resource allocation.

use serde_json::json;

use super::row::Row;
use super::{AGE, AGED, NAME, Printer, text};
use crate::value::ValueExt;

pub(super) fn printer(plural: &str) -> &'static Printer {
    match plural {
        "resourceclaims" => &CLAIM,
        "resourceslices" => &SLICE,
        _ => &AGED,
    }
}

static CLAIM: Printer =
    Printer { columns: &[NAME, text("State"), AGE], cells: |row| vec![row.name(), json!(state(row)), row.age()] };

fn state(row: &Row<'_>) -> String {
    let allocated = row.object.at(&["status", "allocation"]).is_some_and(|a| a.is_object());
    let reserved = allocated && !row.list(&["status", "reservedFor"]).is_empty();
    let states = [
        (row.is_deleted(), "deleted"),
        (!allocated && !row.is_deleted(), "pending"),
        (allocated, "allocated"),
        (reserved, "reserved"),
    ];
    states.iter().filter(|(is, _)| *is).map(|(_, state)| *state).collect::<Vec<_>>().join(",")
}

static SLICE: Printer = Printer {
    columns: &[NAME, text("Node"), text("Driver"), text("Pool"), AGE],
    cells: |row| {
        vec![
            row.name(),
            row.text_or(&["spec", "nodeName"], ""),
            row.text_or(&["spec", "driver"], ""),
            row.text_or(&["spec", "pool", "name"], ""),
            row.age(),
        ]
    },
};
