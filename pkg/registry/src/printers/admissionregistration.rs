//! Webhook configurations, admission policies and their bindings.

use serde_json::{Value, json};

use super::row::Row;
use super::{AGE, NAME, Printer, integer, text};
use crate::value::ValueExt;

pub(super) fn printer(plural: &str) -> &'static Printer {
    match plural {
        "validatingadmissionpolicies" => &VALIDATING,
        "mutatingadmissionpolicies" => &MUTATING,
        "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => &BINDING,
        _ => &WEBHOOKS,
    }
}

static WEBHOOKS: Printer = Printer {
    columns: &[NAME, integer("Webhooks"), AGE],
    cells: |row| vec![row.name(), json!(row.list(&["webhooks"]).len()), row.age()],
};

static VALIDATING: Printer = Printer {
    columns: &[NAME, integer("Validations"), text("ParamKind"), AGE],
    cells: |row| policy(row, "validations"),
};

static MUTATING: Printer =
    Printer { columns: &[NAME, integer("Mutations"), text("ParamKind"), AGE], cells: |row| policy(row, "mutations") };

fn policy(row: &Row<'_>, rules: &str) -> Vec<Value> {
    let kind = row.object.at(&["spec", "paramKind"]).filter(|kind| kind.is_object());
    let kind = kind.map_or("<unset>".into(), |k| format!("{}/{}", k.text(&["apiVersion"]), k.text(&["kind"])));
    vec![row.name(), json!(row.list(&["spec", rules]).len()), json!(kind), row.age()]
}

static BINDING: Printer = Printer {
    columns: &[NAME, text("PolicyName"), text("ParamRef"), AGE],
    cells: |row| {
        let (name, namespace) = (row.text(&["spec", "paramRef", "name"]), row.text(&["spec", "paramRef", "namespace"]));
        let parameter = match (name, namespace) {
            ("", _) if row.object.at(&["spec", "paramRef", "selector"]).is_some() => {
                row.selector(&["spec", "paramRef", "selector"])
            }
            ("", _) => json!("<unset>"),
            (name, "") => json!(format!("*/{name}")),
            (name, namespace) => json!(format!("{namespace}/{name}")),
        };
        vec![row.name(), row.text_or(&["spec", "policyName"], ""), parameter, row.age()]
    },
};
