//! Columns of kinds that come while the server runs: each says where in an object its cell is.

use kedge_meta::Text;
use kedge_patch::{go_json, go_text};
use serde_json::Value;

use super::json_path::JsonPath;
use super::{Column, NAME, Print, age, words};

/// A column as a definition has it.
#[derive(Debug, Clone)]
pub struct ColumnDefinition {
    pub name: Text,
    /// `integer`, `number`, `string`, `boolean`, `date`.
    pub kind: Text,
    pub format: Text,
    /// Nothing for that of every object's age.
    pub description: Text,
    pub priority: i32,
    pub json_path: Text,
}

/// A printer of such columns, behind the name.
pub struct Columns {
    columns: Vec<Column>,
    paths: Vec<Option<JsonPath>>,
}

impl Columns {
    /// From the columns of one version. One whose path is not understood is empty.
    pub fn new(definitions: &[ColumnDefinition]) -> Self {
        let column = |d: &ColumnDefinition| Column {
            name: d.name.clone(),
            kind: d.kind.clone(),
            format: d.format.clone(),
            description: d.description.clone(),
            priority: d.priority,
        };
        let columns = std::iter::once(NAME).chain(definitions.iter().map(column)).collect();
        let paths = definitions.iter().map(|d| JsonPath::parse(&d.json_path).ok()).collect();
        Self { columns, paths }
    }
}

impl Print for Columns {
    fn columns(&self) -> Vec<Column> {
        let mut columns = self.columns.clone();
        for (at, column) in columns.iter_mut().enumerate().filter(|(_, column)| column.description.is_empty()) {
            column.description = if at == 0 { words::name() } else { words::created() };
        }
        columns
    }

    fn row(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().into();
        let kinds = self.columns.iter().skip(1).map(|column| column.kind.as_str());
        let cells =
            self.paths.iter().zip(kinds).map(|(path, kind)| match path.as_ref().and_then(|path| path.first(object)) {
                Some(value) => cell(kind, value, now),
                None => Value::Null,
            });
        std::iter::once(name).chain(cells).collect()
    }
}

/// As upstream: what is not of the column's kind is not shown.
fn cell(kind: &str, value: &Value, now: jiff::Timestamp) -> Value {
    match (kind, value) {
        ("string", Value::Array(_) | Value::Object(_)) => go_json(value).into(),
        ("string", value) => go_text(value).into(),
        // What is behind the point is cut off.
        ("integer", Value::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)).map_or(Value::Null, Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match kedge_base::time::parse(text) {
            Ok(_) => age(text, now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn column(name: &'static str, kind: &'static str, path: &'static str) -> ColumnDefinition {
        ColumnDefinition {
            name: Text::of(name),
            kind: Text::of(kind),
            format: Text::default(),
            description: Text::default(),
            priority: 0,
            json_path: Text::of(path),
        }
    }

    #[test]
    fn cells_are_what_the_paths_lead_to_and_of_the_columns_kind() {
        let definitions = [
            column("Replicas", "integer", ".spec.replicas"),
            column("Ratio", "number", ".spec.ratio"),
            column("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#),
            column("Done", "boolean", ".status.done"),
            column("Since", "date", ".metadata.creationTimestamp"),
            column("Labels", "string", ".metadata.labels"),
            column("Wrong", "integer", ".status.done"),
            column("Broken", "date", ".spec.ratio"),
            column("Never", "date", ".spec.text"),
        ];
        let printer = Columns::new(&definitions);
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z", "labels": {"x": "y"}},
            "spec": {"replicas": 2.9, "ratio": 0.5, "text": "soon"},
            "status": {"done": true, "conditions": [{"type": "Ready", "status": "True"}]}});
        let now = jiff::Timestamp::from_second(100).unwrap();
        let row = printer.row(&object, now);
        assert_eq!(
            row,
            [
                json!("a"),
                json!(2),
                json!(0.5),
                json!("True"),
                json!(true),
                json!("100s"),
                json!(r#"{"x":"y"}"#),
                Value::Null,
                Value::Null,
                json!("<invalid>")
            ]
        );
        assert_eq!(printer.columns().len(), row.len());
        assert_eq!(printer.row(&json!(null), now).len(), row.len());
        let lame = Columns::new(&[column("Bad", "string", "spec["), column("Good", "string", ".spec.text")]);
        assert_eq!(lame.row(&object, now), [json!("a"), Value::Null, json!("soon")]);
    }
}
