//! What nodes and pods use, in metrics-server's columns.

use kedge_meta::Text;
use kedge_meta::quantity::Quantity;
use serde_json::{Value, json};

use super::row::Row;
use super::{Column, Printer};
use crate::value::ValueExt;

const fn column(name: &'static str, format: &'static str, description: &'static str) -> Column {
    Column {
        name: Text::of(name),
        kind: Text::of("string"),
        format: Text::of(format),
        description: Text::of(description),
        priority: 0,
    }
}

static COLUMNS: [Column; 4] = [
    column("Name", "name", "Name of the resource"),
    column("cpu", "quantity", ""),
    column("memory", "quantity", ""),
    column("Window", "duration", ""),
];

static NODE: Printer = Printer { columns: &COLUMNS, cells: |row| cells(row, std::slice::from_ref(row.object)) };
static POD: Printer = Printer { columns: &COLUMNS, cells: |row| cells(row, row.list(&["containers"])) };

pub(super) fn printer(plural: &str) -> &'static Printer {
    if plural == "nodes" { &NODE } else { &POD }
}

/// The sums of what has a usage.
fn cells(row: &Row<'_>, used: &[Value]) -> Vec<Value> {
    let sum = |resource: &str| {
        let amounts = used.iter().filter_map(|one| Quantity::parse(one.text(&["usage", resource])).ok());
        json!(amounts.fold(Quantity::ZERO, |sum, amount| sum.add(&amount)).to_string())
    };
    vec![row.name(), sum("cpu"), sum("memory"), row.text_or(&["window"], "0s")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let usage = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        let pod = json!({"metadata": {"name": "web"}, "window": "15.062s",
            "containers": [usage("123456n", "1024Ki"), usage("1m", "512Ki")]});
        let cells = POD.row(&pod, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells, [json!("web"), json!("1123456n"), json!("1536Ki"), json!("15.062s")]);
        let node = json!({"metadata": {"name": "n"}, "window": "10s", "usage": {"cpu": "0", "memory": "4Ki"}});
        let cells = NODE.row(&node, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells, [json!("n"), json!("0"), json!("4Ki"), json!("10s")]);
    }
}
