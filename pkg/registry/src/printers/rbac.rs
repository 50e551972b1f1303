//! Role bindings.

use serde_json::json;

use super::{AGE, NAME, PLAIN, Printer, text, wide};
use crate::value::ValueExt;

pub(super) fn printer(plural: &str) -> &'static Printer {
    if plural.ends_with("bindings") { &BINDING } else { &PLAIN }
}

static BINDING: Printer = Printer {
    columns: &[NAME, text("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")],
    cells: |row| {
        let role = format!("{}/{}", row.text(&["roleRef", "kind"]), row.text(&["roleRef", "name"]));
        let subjects = |kind: &str| {
            let of_kind = row.list(&["subjects"]).iter().filter(|subject| subject.text(&["kind"]) == kind);
            let name = |subject: &serde_json::Value| match subject.text(&["namespace"]) {
                namespace if kind == "ServiceAccount" => format!("{namespace}/{}", subject.text(&["name"])),
                _ => subject.text(&["name"]).to_owned(),
            };
            json!(of_kind.map(name).collect::<Vec<_>>().join(", "))
        };
        vec![row.name(), json!(role), row.age(), subjects("User"), subjects("Group"), subjects("ServiceAccount")]
    },
};
