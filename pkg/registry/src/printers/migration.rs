//! Migrations of storage versions.

use serde_json::json;

use super::{Printer, text};
use crate::value::ValueExt;

pub(super) static MIGRATION: Printer = Printer {
    columns: &[text("Name"), text("Resource"), text("Status")],
    cells: |row| {
        let (group, plural) = (row.text(&["spec", "resource", "group"]), row.text(&["spec", "resource", "resource"]));
        let resource = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let holds = row.list(&["status", "conditions"]).iter().filter(|c| c.text(&["status"]) == "True");
        // As upstream, the last one that holds.
        let mut status =
            holds.map(|c| c.text(&["type"])).filter(|kind| ["Running", "Failed", "Succeeded"].contains(kind));
        vec![row.name(), json!(resource), json!(status.next_back().unwrap_or("Unknown"))]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_condition_that_holds_is_shown() {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
        let mut migration = json!({"metadata": {"name": "m"},
            "spec": {"resource": {"group": "example.com", "resource": "crontabs"}}});
        let now = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(MIGRATION.row(&migration, now), [json!("m"), json!("crontabs.example.com"), json!("Unknown")]);
        migration["status"]["conditions"] = json!([condition("Running", "False"), condition("Succeeded", "True")]);
        assert_eq!(MIGRATION.row(&migration, now)[2], "Succeeded");
        migration["spec"]["resource"] = json!({"group": "", "resource": "secrets"});
        assert_eq!(MIGRATION.row(&migration, now)[1], "secrets");
    }
}
