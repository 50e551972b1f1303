//! API services.

use serde_json::json;

use super::row::condition;
use super::{AGE, NAME, Printer, text};
use crate::value::ValueExt;

pub(super) static SERVICE: Printer = Printer {
    columns: &[NAME, text("Service"), text("Available"), AGE],
    cells: |row| {
        let service = row.object.at(&["spec", "service"]).filter(|service| service.is_object());
        let service = service.map_or("Local".into(), |s| format!("{}/{}", s.text(&["namespace"]), s.text(&["name"])));
        let available = condition(row.list(&["status", "conditions"]), "Available");
        let available = match available.map(|c| (c.text(&["status"]), c.text(&["reason"]))) {
            None => "Unknown".into(),
            Some(("True", _)) => "True".into(),
            Some((status, reason)) => format!("{status} ({reason})"),
        };
        vec![row.name(), json!(service), json!(available), row.age()]
    },
};
