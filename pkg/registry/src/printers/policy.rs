//! Pod disruption budgets.

use serde_json::json;

use super::row::printed;
use super::{AGE, NAME, Printer, integer, text};
use crate::value::ValueExt;

pub(super) static BUDGET: Printer = Printer {
    columns: &[NAME, text("Min Available"), text("Max Unavailable"), integer("Allowed Disruptions"), AGE],
    cells: |row| {
        let limit = |field: &str| json!(printed(row.object.at(&["spec", field]), "N/A"));
        let allowed = json!(row.int(&["status", "disruptionsAllowed"]));
        vec![row.name(), limit("minAvailable"), limit("maxUnavailable"), allowed, row.age()]
    },
};
