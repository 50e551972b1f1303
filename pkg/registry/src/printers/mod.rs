//! What `kubectl get` shows: columns and rows, as upstream's, filed by area.
//!
//! Invariant: a row has exactly as many cells as its printer has columns, whatever the object lacks; columns of
//! priority 1 are always rendered, and the client leaves them out.

mod admissionregistration;
mod aggregation;
mod autoscaling;
mod batch;
mod certificates;
mod claim;
mod columns;
mod coordination;
mod core;
mod duration;
mod endpoints;
mod event;
mod flowcontrol;
mod ingress;
mod json_path;
mod metrics;
mod migration;
mod networking;
mod node;
mod pod;
mod policy;
mod quota;
mod rbac;
mod resource;
mod row;
mod scheduling;
mod service;
mod storage;
mod volume;
mod words;
mod workload;

pub use columns::{ColumnDefinition, Columns};
pub use duration::{age, human_duration};
pub use json_path::{JsonPath, PathError};

use std::sync::Arc;

use kedge_meta::Text;
use serde_json::Value;

use row::Row;

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: Text,
    /// `string`, `integer`, `date`, …
    pub kind: Text,
    /// `name` for the column that is the object's name.
    pub format: Text,
    pub description: Text,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

impl Column {
    const fn new(name: &'static str, kind: &'static str) -> Self {
        Self {
            name: Text::of(name),
            kind: Text::of(kind),
            format: Text::of(""),
            description: Text::of(""),
            priority: 0,
        }
    }

    const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

const fn text(name: &'static str) -> Column {
    Column::new(name, "string")
}

const fn wide(name: &'static str) -> Column {
    text(name).wide()
}

const fn integer(name: &'static str) -> Column {
    Column::new(name, "integer")
}

const fn boolean(name: &'static str) -> Column {
    Column::new(name, "boolean")
}

/// A column that is the object's name.
const fn named(name: &'static str, priority: i32) -> Column {
    Column {
        name: Text::of(name),
        kind: Text::of("string"),
        format: Text::of("name"),
        description: Text::of(""),
        priority,
    }
}

const NAME: Column = named("Name", 0);
const AGE: Column = text("Age");

/// Columns and how an object becomes a row of cells.
pub struct Printer {
    pub columns: &'static [Column],
    cells: fn(&Row<'_>) -> Vec<Value>,
}

impl Printer {
    /// The cells of an object, one a column.
    pub fn row(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        (self.cells)(&Row { object, now })
    }
}

/// How objects of a kind become rows of a table.
pub trait Print: Send + Sync {
    /// The columns, with what they are about.
    fn columns(&self) -> Vec<Column>;

    /// The cells of an object, one a column.
    fn row(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value>;
}

/// The printer of a built-in kind, which knows what its columns are about.
struct Described {
    /// With its group.
    resource: String,
    printer: &'static Printer,
}

impl Print for Described {
    fn columns(&self) -> Vec<Column> {
        let described =
            |column: &Column| Column { description: words::of(&self.resource, &column.name), ..column.clone() };
        self.printer.columns.iter().map(described).collect()
    }

    fn row(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        self.printer.row(object, now)
    }
}

/// What kinds without a printer of their own show.
static PLAIN: Printer =
    Printer { columns: &[NAME, Column::new("Created At", "date")], cells: |row| vec![row.name(), row.created()] };

/// Name and age.
static AGED: Printer = Printer { columns: &[NAME, AGE], cells: |row| vec![row.name(), row.age()] };

/// The printer of kinds that came while the server runs and bring none: name and age.
pub fn aged() -> Arc<dyn Print> {
    Arc::new(Described { resource: String::new(), printer: &AGED })
}

/// The printer of a built-in kind.
pub fn of(group: &str, plural: &str) -> Arc<dyn Print> {
    Arc::new(Described { resource: resource(group, plural), printer: printer(group, plural) })
}

/// A resource with its group.
fn resource(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

fn printer(group: &str, plural: &str) -> &'static Printer {
    match group {
        "" | "events.k8s.io" => core::printer(plural),
        "apps" => workload::printer(plural),
        "batch" => batch::printer(plural),
        "autoscaling" => autoscaling::printer(plural),
        "networking.k8s.io" => networking::printer(plural),
        "discovery.k8s.io" => &endpoints::SLICE,
        "policy" => &policy::BUDGET,
        "rbac.authorization.k8s.io" => rbac::printer(plural),
        "storage.k8s.io" => storage::printer(plural),
        "coordination.k8s.io" => &coordination::LEASE,
        "scheduling.k8s.io" => &scheduling::PRIORITY_CLASS,
        "node.k8s.io" => &scheduling::RUNTIME_CLASS,
        "certificates.k8s.io" => &certificates::REQUEST,
        "admissionregistration.k8s.io" => admissionregistration::printer(plural),
        "flowcontrol.apiserver.k8s.io" => flowcontrol::printer(plural),
        "resource.k8s.io" => resource::printer(plural),
        "apiregistration.k8s.io" => &aggregation::SERVICE,
        "metrics.k8s.io" => metrics::printer(plural),
        "storagemigration.k8s.io" => &migration::MIGRATION,
        _ => &PLAIN,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_row_has_a_cell_for_every_column() {
        for info in kedge_schema::resources().iter().chain(kedge_schema::optional_resources()) {
            let printer = printer(&info.group, &info.plural);
            let mut full = json!({"metadata": {"name": "x"}, "spec": {}, "status": {}});
            info.schema.normalize(&mut full);
            for object in [json!({}), json!(null), full] {
                let cells = printer.row(&object, jiff::Timestamp::UNIX_EPOCH);
                assert_eq!(cells.len(), printer.columns.len(), "{} {}", info.group, info.plural);
            }
        }
    }

    fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
        let keys =
            "metadata|spec|status|containers|conditions|type|name|ports|rules|metrics|containerStatuses|state|ingress";
        let leaf = prop_oneof![any::<i64>().prop_map(Value::from), "[a-zé:]{0,20}".prop_map(Value::from)];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(keys, inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_object_makes_a_printer_panic(object in any_json(), at in 0usize..100) {
            let mut infos = kedge_schema::resources().iter().chain(kedge_schema::optional_resources()).cycle().skip(at);
            let info = infos.next().unwrap();
            let printer = printer(&info.group, &info.plural);
            prop_assert_eq!(printer.row(&object, jiff::Timestamp::UNIX_EPOCH).len(), printer.columns.len());
        }
    }
}
