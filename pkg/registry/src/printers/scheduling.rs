//! Priority classes and runtime classes.

use serde_json::json;

use super::{AGE, NAME, Printer, boolean, integer, text};

pub(super) static PRIORITY_CLASS: Printer = Printer {
    columns: &[NAME, integer("Value"), boolean("Global-Default"), AGE, text("PreemptionPolicy")],
    cells: |row| {
        let (value, default) = (json!(row.int(&["value"])), json!(row.flag(&["globalDefault"])));
        vec![row.name(), value, default, row.age(), row.text_or(&["preemptionPolicy"], "")]
    },
};

pub(super) static RUNTIME_CLASS: Printer = Printer {
    columns: &[NAME, text("Handler"), AGE],
    cells: |row| vec![row.name(), row.text_or(&["handler"], ""), row.age()],
};
