//! Resource quotas.

use serde_json::json;

use super::row::printed;
use super::{AGE, NAME, Printer, text};
use crate::value::ValueExt;

pub(super) static QUOTA: Printer = Printer {
    columns: &[NAME, text("Request"), text("Limit"), AGE],
    cells: |row| {
        let mut hard: Vec<_> = row.object.map(&["status", "hard"]).into_iter().flatten().collect();
        hard.sort_by_key(|(resource, _)| resource.as_str());
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, amount) in hard {
            let used = printed(row.object.at(&["status", "used", resource]), "0");
            let column = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
            column.push(format!("{resource}: {used}/{}", printed(Some(amount), "0")));
        }
        vec![row.name(), json!(requests.join(", ")), json!(limits.join(", ")), row.age()]
    },
};
