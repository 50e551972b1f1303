//! Hostile expressions and hostile data: nothing panics, and everything ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use kedge_cel::decl::Decl;
use kedge_cel::limits::PER_CALL_LIMIT;
use kedge_cel::{Budget, Env, EvalError, Expressions, Type, Value};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn env() -> Env {
    Env::builder(Expressions::NEW).variable("x", Type::Dyn).variable("l", Type::list(Type::Int)).build()
}

/// Evaluates what compiles, with small budgets, and gives what came out.
fn run(expression: &str, object: &Json) -> Option<Result<String, EvalError>> {
    let program = env().compile(expression, None).ok()?;
    let variables = vec![("x", Value::native(object)), ("l", Value::native(&object["list"]))];
    let budget = Budget::new(200_000).per_call(100_000);
    let outcome = program.run(&variables, &budget);
    assert!(budget.left() <= 200_000);
    Some(outcome.result.map(|value| value.type_name().to_string()))
}

fn object() -> Json {
    json!({"list": [1, 2, 3], "name": "text", "map": {"a": 1, "b": null}, "f": 1.5, "big": u64::MAX})
}

/// Runs on as small a stack as the threads have that serve requests.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn nesting_has_a_limit_and_fits_the_stack() {
    on_a_small_stack(|| {
        let env = env();
        for (open, inner, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{'a': ", "1", "}"),
            ("-(", "1", ")"),
            ("!(", "true", ")"),
            ("x[", "0", "]"),
            ("size([", "1", "])"),
            ("(true ? ", "1", " : 2)"),
            ("[1].map(i, ", "i", ")"),
            ("[1].all(i, [i].exists(j, ", "true", "))"),
            ("optional.of(", "1", ")"),
            ("1 + (2 * (", "1", "))"),
        ] {
            for depth in [10, 60, 120, 248, 249, 250, 1000, 10_000] {
                let text = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
                match env.check(&text) {
                    Ok(checked) => {
                        checked.estimate(&());
                        checked.show();
                        let program = checked.program().unwrap();
                        let object = object();
                        let variables = vec![("x", Value::native(&object))];
                        let _ = program.evaluate(&variables, &Budget::new(PER_CALL_LIMIT));
                        assert!(depth <= 250, "{open}");
                    }
                    Err(errors) => assert!(depth > 30, "{open} {depth}: {errors}"),
                }
            }
        }
    });
}

#[test]
fn long_chains_have_a_limit_and_fits_the_stack() {
    on_a_small_stack(|| {
        let env = env();
        for (start, more) in
            [("1", " + 1"), ("x", ".a"), ("x", "[0]"), ("true", " == true"), ("'a'", ".trim()"), ("x", ".?a")]
        {
            assert!(env.check(&format!("{start}{}", more.repeat(200))).is_ok(), "{more}");
            let errors = env.check(&format!("{start}{}", more.repeat(300))).unwrap_err().to_string();
            assert!(errors.contains("expression recursion limit exceeded: 250"), "{errors}");
        }
        // Logic is balanced: it may be as long as the text.
        assert!(env.check(&format!("true{}", " && true".repeat(5000))).is_ok());
        assert!(env.check(&format!("true{}", " || true".repeat(5000))).is_ok());
    });
}

#[test]
fn macros_that_double_end() {
    let text = format!("optional.of(1){}", ".optMap(v, v)".repeat(60));
    let errors = env().check(&text).unwrap_err().to_string();
    assert!(errors.contains("macros expand to a larger expression than is supported"), "{errors}");
}

#[test]
fn sizes_have_a_limit() {
    let errors = env().check(&"1".repeat(100_001)).unwrap_err().to_string();
    assert!(errors.contains("expression code point size exceeds limit: size: 100001, limit 100000"), "{errors}");
}

#[test]
fn bombs_stop_at_the_budget() {
    let object = object();
    for bomb in [
        "lists.range(1000).map(a, lists.range(1000).map(b, lists.range(1000).map(c, a + b + c)))",
        "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, true)))",
        "lists.range(1000000).map(a, 'x').join('yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy')",
        "lists.range(9223372036854775807)",
        "[[1, 1]].map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a)\
         .map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a)\
         .map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a)",
        "lists.range(100000).map(a, lists.range(100)).flatten().distinct()",
        "lists.range(100000).map(a, string(a)).all(a, ('x' + a).matches('(' + a + '){1,100}'))",
        "lists.range(5000).transformMap(k, v, lists.range(5000))",
        "sets.equivalent(lists.range(100000), lists.range(100000))",
        "lists.range(1000).map(a, '%.1000f %.1000f %.1000f'.format([1.0, 1.0, 1.0])).map(a, a.replace('0', 'zzzzzzzzzzzzz'))\
         .map(a, a.replace('z', 'zzzzzzzzzzzzz')).map(a, a.replace('z', 'zzzzzzzzzzzzz'))",
    ] {
        let program = env().compile(bomb, None).unwrap();
        let variables = vec![("x", Value::native(&object))];
        let result = program.evaluate(&variables, &Budget::new(PER_CALL_LIMIT * 10)).map(|value| value.type_name());
        assert_eq!(result, Err(EvalError::CostLimit), "{bomb}");
    }
}

#[test]
fn a_budget_is_shared_and_can_be_interrupted() {
    let program = env().compile("l.map(i, i * 2).sum()", None).unwrap();
    let object = object();
    let variables = vec![("l", Value::native(&object["list"]))];
    let budget = Budget::new(100);
    let first = program.run(&variables, &budget);
    assert!(first.result.is_ok());
    assert_eq!(budget.left(), 100 - first.cost);
    let mut last = Ok(());
    for _ in 0..100 {
        last = program.evaluate(&variables, &budget).map(|_| ());
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last, Err(EvalError::BudgetExhausted));
    assert_eq!(budget.left(), 0);
    let budget = Budget::new(PER_CALL_LIMIT);
    budget.interrupt();
    assert!(matches!(program.evaluate(&variables, &budget), Err(EvalError::Interrupted)));
}

#[test]
fn what_is_over_the_limit_is_not_absorbed() {
    let program = env().compile("lists.range(1000000).all(i, i >= 0) || true", None).unwrap();
    assert_eq!(program.evaluate(&(), &Budget::new(u64::MAX)).map(|_| ()), Err(EvalError::CostLimit));
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("x".to_owned()),
        Just("x.list".to_owned()),
        Just("x.name".to_owned()),
        Just("x.map".to_owned()),
        Just("x.nope".to_owned()),
        Just("l".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("optional.none()".to_owned()),
        Just("duration('1h')".to_owned()),
        Just("timestamp('9999-12-31T23:59:59Z')".to_owned()),
        Just("quantity('1Gi')".to_owned()),
        Just("ip('::1')".to_owned()),
        any::<i64>().prop_map(|n| format!("({n})")),
        any::<u64>().prop_map(|n| format!("{n}u")),
        any::<f64>().prop_filter("a number", |n| n.is_finite()).prop_map(|n| format!("({n:e})")),
        "[a-zäöü%.{}()\\[\\]*+ ]{0,12}".prop_map(|text| format!("r'{text}'")),
    ];
    leaf.prop_recursive(6, 64, 4, |inner| {
        let operator =
            prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"]);
        let unary = prop::sample::select(vec![
            "size",
            "string",
            "int",
            "uint",
            "double",
            "bytes",
            "bool",
            "type",
            "dyn",
            "duration",
            "timestamp",
            "optional.of",
            "optional.ofNonZeroValue",
            "lists.range",
            "isIP",
            "url",
            "semver",
            "quantity",
            "cidr",
            "!",
            "-",
        ]);
        let member = prop::sample::select(vec![
            "size",
            "sum",
            "min",
            "max",
            "isSorted",
            "sort",
            "reverse",
            "distinct",
            "flatten",
            "join",
            "trim",
            "lowerAscii",
            "first",
            "last",
            "value",
            "hasValue",
            "getHours",
            "getFullYear",
            "asInteger",
            "family",
            "unwrapOpt",
        ]);
        let with = prop::sample::select(vec![
            "contains",
            "startsWith",
            "matches",
            "find",
            "findAll",
            "indexOf",
            "lastIndexOf",
            "split",
            "join",
            "charAt",
            "substring",
            "format",
            "orValue",
            "or",
            "flatten",
            "isGreaterThan",
            "add",
            "getHours",
            "containsIP",
        ]);
        let fold = prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter", "sortBy"]);
        let fold_two = prop::sample::select(vec![
            "all",
            "exists",
            "existsOne",
            "transformList",
            "transformMap",
            "transformMapEntry",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("(dyn({a}) {o} dyn({b}))")),
            (unary, inner.clone()).prop_map(|(f, a)| format!("{f}(dyn({a}))")),
            (inner.clone(), member).prop_map(|(a, f)| format!("dyn({a}).{f}()")),
            (inner.clone(), with, inner.clone()).prop_map(|(a, f, b)| format!("dyn({a}).{f}(dyn({b}))")),
            (inner.clone(), fold, inner.clone()).prop_map(|(a, f, b)| format!("dyn({a}).{f}(x, dyn({b}))")),
            (inner.clone(), fold_two, inner.clone()).prop_map(|(a, f, b)| format!("dyn({a}).{f}(k, x, dyn({b}))")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("(dyn({a}) ? dyn({b}) : dyn({c}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[dyn({a}), dyn({b})]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{dyn({a}): dyn({b})}}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("dyn({a})[dyn({b})]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("dyn({a})[?dyn({b})]")),
            inner.clone().prop_map(|a| format!("dyn({a}).?a")),
            inner.clone().prop_map(|a| format!("has(dyn({a}).a)")),
            inner.prop_map(|a| format!("dyn({a}).optMap(v, v)")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = env().check(&text);
    }

    #[test]
    fn no_likely_text_makes_it_panic(text in "[a-c0-9'\"(){}\\[\\].,?:!&|=<>+*/% \\\\rbx`\n-]{0,60}") {
        let _ = env().check(&text);
    }

    #[test]
    fn no_expression_makes_it_panic_or_go_on_for_ever(text in expression()) {
        run(&text, &object());
    }

    #[test]
    fn what_is_shown_means_the_same(text in expression()) {
        // Comprehensions have no text of their own.
        if let Ok(checked) = env().check(&text) {
            let shown = checked.show();
            if !shown.contains("fold(") {
                let again = env().check(&shown);
                prop_assert!(again.is_ok(), "{text} is shown as {shown}: {}", again.unwrap_err());
                prop_assert_eq!(again.unwrap().show(), shown);
            }
        }
    }

    #[test]
    fn the_cost_is_below_the_estimate(text in expression()) {
        if let Ok(checked) = env().check(&text) {
            let estimate = checked.estimate(&());
            prop_assert!(estimate.min <= estimate.max, "{text}");
        }
    }

    #[test]
    fn no_schema_makes_it_panic(kind in "object|array|string|integer|number|boolean|what", format in "date|date-time|duration|byte|x", json in "[a-z0-9:TZ.-]{0,24}") {
        let schema = json!({"type": kind, "format": format, "items": {"type": "string", "format": format}, "maxLength": -1});
        let decl = Arc::new(Decl::from_schema(&schema, "self", true));
        let value = Json::from(json);
        let _ = Value::typed(&value, &decl).map(|value| value.show());
    }

    #[test]
    fn no_pattern_makes_it_panic(pattern in "[a-c(){}\\[\\]\\\\*+?|^$.,0-9:dwsbpPQExUi-]{0,24}") {
        let object = json!({"list": [], "p": pattern});
        run("'abcabc'.matches(x.p)", &object);
        run("'abcabc'.findAll(x.p)", &object);
    }
}
