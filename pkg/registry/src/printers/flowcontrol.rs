//! Flow schemas and priority levels.

use serde_json::{Value, json};

use super::row::condition;
use super::{AGE, NAME, Printer, text};
use crate::value::ValueExt;

pub(super) fn printer(plural: &str) -> &'static Printer {
    if plural == "flowschemas" { &SCHEMA } else { &LEVEL }
}

static SCHEMA: Printer = Printer {
    columns: &[
        NAME,
        text("PriorityLevel"),
        text("MatchingPrecedence"),
        text("DistinguisherMethod"),
        AGE,
        text("MissingPL"),
    ],
    cells: |row| {
        let dangling = condition(row.list(&["status", "conditions"]), "Dangling").map_or("?", |c| c.text(&["status"]));
        vec![
            row.name(),
            row.text_or(&["spec", "priorityLevelConfiguration", "name"], ""),
            json!(row.int(&["spec", "matchingPrecedence"])),
            row.text_or(&["spec", "distinguisherMethod", "type"], "<none>"),
            row.age(),
            json!(dangling),
        ]
    },
};

static LEVEL: Printer = Printer {
    columns: &[
        NAME,
        text("Type"),
        text("NominalConcurrencyShares"),
        text("Queues"),
        text("HandSize"),
        text("QueueLengthLimit"),
        AGE,
    ],
    cells: |row| {
        let number = |path: &[&str]| row.object.int(path).map_or_else(|| json!("<none>"), Value::from);
        let queuing = |field: &str| number(&["spec", "limited", "limitResponse", "queuing", field]);
        vec![
            row.name(),
            row.text_or(&["spec", "type"], ""),
            number(&["spec", "limited", "nominalConcurrencyShares"]),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            row.age(),
        ]
    },
};
