//! Expressions in CEL: what compiles is estimated and evaluated within its budget, twice with the same outcome.

use std::sync::{Arc, LazyLock};

use kedge_cel::decl::Decl;
use kedge_cel::{Budget, Env, Expressions, Type, Value};
use serde_json::{Value as Json, json};

use crate::input;

const TOTAL: u64 = 200_000;
const EACH: u64 = 100_000;

static DECL: LazyLock<Arc<Decl>> = LazyLock::new(|| {
    let schema = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "maxLength": 20}, "n": {"type": "integer"}, "x": {"type": "number"}, "on": {"type": "boolean"},
        "at": {"type": "string", "format": "date-time"}, "lasts": {"type": "string", "format": "duration"},
        "any": {"x-kubernetes-preserve-unknown-fields": true}, "port": {"x-kubernetes-int-or-string": true},
        "list": {"type": "array", "items": {"type": "string"}, "maxItems": 10, "x-kubernetes-list-type": "set"},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
            {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}}}});
    Arc::new(Decl::from_schema(&schema, "self", false))
});

static ENV: LazyLock<Env> = LazyLock::new(|| {
    let builder = Env::builder(Expressions::NEW).typed_variable("self", &DECL);
    builder.variable("x", Type::Dyn).variable("l", Type::list(Type::Int)).build()
});

fn usual() -> Json {
    json!({"name": "text", "n": 5, "x": 1.5, "on": true, "at": "2026-01-02T03:04:05Z", "lasts": "1h", "any": {"a": [1, null, "b"]},
        "port": "80", "list": ["a", "b"], "keyed": [{"k": "a", "v": 1}], "map": {"a": 1, "b": 2}})
}

/// An expression and, behind a zero byte, the object that it is about.
pub fn cel(data: &[u8]) {
    let (expression, object) = input::halves(data);
    let Some(expression) = input::text(expression) else { return };
    let Ok(checked) = ENV.check(expression) else { return };
    let estimate = checked.estimate(&());
    assert!(estimate.min <= estimate.max, "{expression:?}");
    let shown = checked.show();
    // Comprehensions have no text of their own.
    if !shown.contains("fold(") {
        match ENV.check(&shown) {
            Ok(again) => assert_eq!(again.show(), shown),
            Err(errors) => panic!("{expression:?} is shown as {shown:?}: {errors}"),
        }
    }
    let Ok(program) = checked.program() else { return };
    let object = input::json(object).unwrap_or_else(usual);
    let Ok(own) = Value::typed(&object, &DECL) else { return };
    let list = json!([1, 2, 3]);
    let variables = vec![("self", own), ("x", Value::native(&object)), ("l", Value::native(&list))];
    let outcome = || {
        let budget = Budget::new(TOTAL).per_call(EACH);
        let outcome = program.run(&variables, &budget);
        let spent = TOTAL - budget.left();
        assert!(
            outcome.cost >= spent || outcome.result.is_err(),
            "{expression:?} costs {}, and {spent} is spent",
            outcome.cost
        );
        let result = outcome.result.map(|value| (value.show(), value.type_name().to_string(), value.to_json().ok()));
        (result.map_err(|err| err.to_string()), outcome.cost)
    };
    assert_eq!(outcome(), outcome(), "{expression:?}");
}
