//! Objects of built-in kinds, made up from what the table says of their types: they come back from each encoding as they were.
#![allow(clippy::unwrap_used)]

use kedge_schema::decode::{Format, decode_object};
use kedge_schema::encode::{write_json, write_protobuf};
use kedge_schema::{FieldType, Limits, TypeId, conform, to_yaml};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

/// How deep objects are made up.
const LEVELS: usize = 7;

/// Draws values of types. It is a walk over the table, since a strategy for each of its types would not end.
struct Drawer<'r>(&'r mut TestRunner);

impl Drawer<'_> {
    fn draw<T: std::fmt::Debug>(&mut self, strategy: impl Strategy<Value = T>) -> T {
        strategy.new_tree(self.0).unwrap().current()
    }

    fn object(&mut self, ty: TypeId, level: usize) -> Value {
        let mut map = Map::new();
        for field in &ty.def().fields {
            // A few fields of each structure, and fewer the deeper.
            let odds = 1.0 / (1.0 + level as f64);
            if !matches!(field.name, "apiVersion" | "kind") && self.draw(prop::bool::weighted(odds)) {
                map.insert(field.name.to_owned(), self.value(field.ty, level + 1));
            }
        }
        Value::Object(map)
    }

    fn value(&mut self, ty: FieldType, level: usize) -> Value {
        match ty {
            FieldType::String => self.draw("[a-zA-Z0-9 é\"<&:~#-]{0,8}").into(),
            FieldType::Bool => self.draw(any::<bool>()).into(),
            FieldType::Int32 => self.draw(any::<i32>()).into(),
            FieldType::Int64 => self.draw(any::<i64>()).into(),
            FieldType::Double => self.draw(any::<f32>().prop_filter("a number", |n| n.is_finite())).into(),
            FieldType::Bytes => self.draw(prop::sample::select(vec!["", "AA==", "aGk=", "AAEC"])).into(),
            FieldType::Quantity => self.draw("[0-9]{1,5}(\\.[0-9]{1,3})?(m|k|M|Ki|Gi|e2)?").into(),
            FieldType::Time => {
                self.draw("20[0-9][0-9]-0[1-9]-1[0-9]T0[0-9]:0[0-9]:0[0-9](\\.5)?(Z|[+-]0[0-9]:30)").into()
            }
            FieldType::MicroTime => self.draw("20[0-9][0-9]-0[1-9]-1[0-9]T0[0-9]:0[0-9]:0[0-9]\\.[0-9]{6}Z").into(),
            FieldType::Duration => self.draw("-?[0-9]{1,4}(ns|us|ms|s|m|h)([0-9]{1,3}s)?").into(),
            FieldType::IntOrString => {
                let both = prop_oneof![any::<i32>().prop_map(Value::from), "[a-z0-9%]{0,4}".prop_map(Value::from)];
                self.draw(both)
            }
            FieldType::FieldsV1 => json!({"f:a": {}}),
            FieldType::Raw | FieldType::Json => json!({"b": [1, null, {"a": "x"}]}),
            FieldType::SchemaOrArray | FieldType::SchemaOrBool | FieldType::SchemaOrStrings => {
                json!({"type": "string"})
            }
            FieldType::Object(_) if level >= LEVELS => json!({}),
            FieldType::Object(ty) => self.object(ty, level),
            FieldType::List(inner) => (0..self.draw(0..3_usize)).map(|_| self.value(*inner, level + 1)).collect(),
            FieldType::Map(inner) => {
                let keys = self.draw(prop::collection::btree_set("[a-z./]{0,5}", 0..3));
                Value::Object(keys.into_iter().map(|key| (key, self.value(*inner, level + 1))).collect())
            }
        }
    }
}

fn settled(ty: TypeId, mut value: Value) -> Value {
    conform(ty, &mut value, &mut Vec::new()).unwrap_or_else(|err| panic!("{}: {err}: {value}", ty.def().name));
    value
}

/// Every kind, several times: JSON, protobuf, JSON again and YAML.
#[test]
fn objects_of_all_kinds_come_back() {
    let mut runner = TestRunner::deterministic();
    let all = kedge_schema::resources().iter().chain(kedge_schema::optional_resources());
    let mut count = 0;
    for info in all {
        let ty = info.schema.builtin().unwrap();
        for _ in 0..24 {
            let drawn = Drawer(&mut runner).object(ty, 0);
            comes_back(ty, settled(ty, drawn));
            count += 1;
        }
    }
    assert!(count > 1_000, "{count} objects");
}

fn empty_is_null(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) if items.is_empty() => value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(|item| *item = empty_is_null(item.take())),
        Value::Object(map) if map.is_empty() => value = Value::Null,
        Value::Object(map) => map.values_mut().for_each(|field| *field = empty_is_null(field.take())),
        _ => {}
    }
    value
}

fn comes_back(ty: TypeId, mut value: Value) {
    let name = ty.def().name;
    let mut raw = Vec::new();
    write_protobuf(ty, &value, &mut raw).unwrap_or_else(|err| panic!("{name}: {err}: {value}"));
    let read = settled(ty, kedge_schema::protobuf::decode(ty, &raw).unwrap());
    kedge_schema::normalize(ty, &mut value);
    // Protobuf does not tell a list or map without items from none.
    let read_of_none = empty_is_null(read.clone());
    assert_eq!(read_of_none, empty_is_null(value.clone()), "{name} comes back from protobuf otherwise");
    value = read.clone();
    let mut text = Vec::new();
    write_json(Some(ty), &read, &mut text).unwrap();
    let decode = |format, bytes: &[u8]| decode_object(format, bytes, Some(ty), &Limits::default()).unwrap();
    let again = decode(Format::Json, &text);
    assert_eq!((&again.value, again.strict.len()), (&value, 0), "{name} comes back from JSON otherwise");
    let yaml = to_yaml(&value);
    assert_eq!(decode(Format::Yaml, yaml.as_bytes()).value, value, "{name} comes back from YAML otherwise:\n{yaml}");
}
