//! What callers do with it: authorizers, variables that are found late, objects that expressions make.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kedge_cel::authorizer::{Answer, Authorizer, Check, Decision, ResourceTarget, Subject, Target};
use kedge_cel::limits::{PER_CALL_LIMIT, RUNTIME_COST_BUDGET};
use kedge_cel::{
    Activation, Budget, Env, EvalError, Evaluated, Expressions, Library, Map, MapHost, Program, Type, Value, Variables,
    Version,
};
use serde_json::json;

fn authorizer_env() -> Env {
    Env::builder(Expressions::NEW)
        .variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
        .variable("authorizer.requestResource", Type::object("kubernetes.authorization.ResourceCheck"))
        .build()
}

/// Knows what it was told.
#[derive(Default)]
struct Known(Mutex<Vec<(Check, Decision)>>);

impl Authorizer for Known {
    fn check(&self, check: &Check) -> Answer {
        let known = self.0.lock().unwrap();
        known
            .iter()
            .find(|(own, _)| own == check)
            .map_or(Answer::Pending, |(_, decision)| Answer::Decided(decision.clone()))
    }
}

#[test]
fn what_an_authorizer_does_not_know_yet_is_asked_and_evaluated_again() {
    let text = "authorizer.group('apps').resource('deployments').namespace('ns').check('create').allowed() \
                && authorizer.serviceAccount('ns', 'sa').path('/healthz').check('get').reason() == 'why'";
    let program = authorizer_env().compile(text, Some(&Type::Bool)).unwrap();
    let known = Known::default();
    let variables = vec![("authorizer", Value::authorizer(&known))];
    let budget = Budget::new(RUNTIME_COST_BUDGET);
    let mut questions = Vec::new();
    let result = loop {
        let trial = budget.clone();
        match program.evaluate(&variables, &trial) {
            Err(EvalError::Pending(check)) => {
                let decision = Decision { allowed: true, reason: "why".into(), error: None };
                known.0.lock().unwrap().push(((*check).clone(), decision));
                questions.push(*check);
            }
            result => break (result, trial.left()),
        }
    };
    assert!(matches!(result.0, Ok(Value::Bool(true))));
    // Two checks cost 350,000 each, with what leads to them and what is asked of the answer; asking again cost nothing.
    assert_eq!(RUNTIME_COST_BUDGET - result.1, 700_010);
    let target = ResourceTarget {
        group: "apps".into(),
        resource: "deployments".into(),
        namespace: "ns".into(),
        ..ResourceTarget::default()
    };
    assert_eq!(questions.len(), 2);
    assert_eq!(
        questions[0],
        Check { subject: Subject::Requester, target: Target::Resource(Box::new(target)), verb: "create".into() }
    );
    let account = Subject::ServiceAccount { namespace: "ns".into(), name: "sa".into() };
    assert_eq!(questions[1], Check { subject: account, target: Target::Path("/healthz".into()), verb: "get".into() });
}

#[test]
fn checks_are_refused_as_upstream_refuses_them() {
    let known = Known::default();
    let target = ResourceTarget { resource: "pods".into(), ..ResourceTarget::default() };
    let variables = vec![
        ("authorizer", Value::authorizer(&known)),
        ("authorizer.requestResource", Value::resource_check(&known, target.clone())),
    ];
    let run = |text: &str| {
        let program = authorizer_env().compile(text, None).unwrap();
        program.evaluate(&variables, &Budget::new(RUNTIME_COST_BUDGET)).map(|value| value.show())
    };
    assert_eq!(run("authorizer.path('').check('get').allowed()"), Err(EvalError::new("path must not be empty")));
    assert_eq!(
        run("authorizer.group('').resource(' ').check('get').allowed()"),
        Err(EvalError::new("resource must not be empty"))
    );
    let bad = "authorizer.serviceAccount('ns', 'A').path('/').check('get').allowed()";
    assert_eq!(run(bad), Err(EvalError::new("Invalid service account name")));
    let bad = "authorizer.serviceAccount('a.b', 'a').path('/').check('get').allowed()";
    assert_eq!(run(bad), Err(EvalError::new("Invalid service account namespace")));
    // Pending is final: nothing absorbs it.
    assert!(matches!(run("authorizer.path('/x').check('get').allowed() || true"), Err(EvalError::Pending(_))));
    let selected = "authorizer.requestResource.fieldSelector('a=b').labelSelector('!c').subresource('log').name('n').check('get').errored()";
    let Err(EvalError::Pending(check)) = run(selected) else { panic!("not asked") };
    let target = ResourceTarget {
        field_selector: "a=b".into(),
        label_selector: "!c".into(),
        subresource: "log".into(),
        name: "n".into(),
        ..target
    };
    assert_eq!(check.target, Target::Resource(Box::new(target)));
}

#[test]
fn three_checks_are_more_than_an_expression_can_pay() {
    let known = Known::default();
    let check = Check { subject: Subject::Requester, target: Target::Path("/".into()), verb: "get".into() };
    known.0.lock().unwrap().push((check, Decision { allowed: true, ..Decision::default() }));
    let variables = vec![("authorizer", Value::authorizer(&known))];
    let one = "authorizer.path('/').check('get').allowed()";
    let program = authorizer_env().compile(&[one; 3].join(" && "), None).unwrap();
    assert_eq!(program.evaluate(&variables, &Budget::new(RUNTIME_COST_BUDGET)).map(|_| ()), Err(EvalError::CostLimit));
    let estimate = authorizer_env().check(&[one; 2].join(" && ")).unwrap().estimate(&());
    assert_eq!((estimate.min, estimate.max), (350_003, 700_006));
}

/// Counts how often it is asked.
struct Counting<'v> {
    inner: Vec<(&'v str, Value<'v>)>,
    asked: AtomicUsize,
}

impl Activation for Counting<'_> {
    fn resolve<'s>(&'s self, name: &str) -> Option<Evaluated<'s>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.resolve(name)
    }
}

fn variables_env() -> Env {
    Env::builder(Expressions::NEW).variable("object", Type::Dyn).variable("variables", Type::Dyn).build()
}

#[test]
fn variables_are_evaluated_once_and_only_if_they_are_asked_for() {
    let env = variables_env();
    let compile = |text: &str| env.compile(text, None).unwrap();
    let expressions: Vec<(String, Program)> = [
        ("spec", "object.spec"),
        ("count", "variables.spec.items.filter(i, i > 1).size()"),
        ("bad", "object.nope"),
        ("itself", "variables.itself"),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), compile(text)))
    .collect();
    let object = json!({"spec": {"items": [1, 2, 3]}});
    let outer = Counting { inner: vec![("object", Value::native(&object))], asked: AtomicUsize::new(0) };
    let budget = Budget::new(RUNTIME_COST_BUDGET);
    let variables = Variables::new(&outer, &expressions, &budget);
    let scope = variables.scope();
    let run = |text: &str| compile(text).evaluate(&scope, &budget).map(|value| value.show());
    assert_eq!(run("variables.count + variables.count"), Ok("4".to_owned()));
    assert_eq!(outer.asked.load(Ordering::Relaxed), 1);
    let spent = RUNTIME_COST_BUDGET - budget.left();
    assert_eq!(run("variables.count"), Ok("2".to_owned()));
    // What it is made of is not paid for again: only looking at it is.
    assert_eq!(RUNTIME_COST_BUDGET - budget.left(), spent + 2);
    assert_eq!(run("variables.bad"), Err(EvalError::new("no such key: nope")));
    assert_eq!(run("variables.bad == 1 || true"), Ok("true".to_owned()));
    // No variable sees itself.
    assert_eq!(run("variables.itself"), Err(EvalError::new("no such key: itself")));
    assert_eq!(run("has(variables.spec) && !has(variables.other)"), Ok("true".to_owned()));
}

/// Domains that are not there are empty, as in selectors of devices.
struct Attributes(serde_json::Value, serde_json::Value);

impl MapHost for Attributes {
    fn get<'s>(&'s self, key: &str) -> Option<Evaluated<'s>> {
        Some(Ok(Value::native(self.0.get(key).unwrap_or(&self.1))))
    }

    fn keys(&self) -> Vec<&str> {
        self.0.as_object().unwrap().keys().map(String::as_str).collect()
    }
}

#[test]
fn callers_answer_for_maps() {
    let attributes = Attributes(json!({"dra.example.com": {"model": "a100", "cores": [1, 2]}}), json!({}));
    let of = Type::map(Type::String, Type::map(Type::String, Type::Dyn));
    let env = Env::builder(Expressions::Stored)
        .variable("attributes", of)
        .library(Library::Bindings)
        .library(Library::Includes)
        .build();
    let variables = vec![("attributes", Value::Map(Map::Host(&attributes)))];
    for (text, wanted) in [
        ("attributes['dra.example.com'].model == 'a100'", Ok("true")),
        ("'model' in attributes['other.example.com']", Ok("false")),
        ("cel.bind(d, attributes['dra.example.com'], d.model == 'a100' && d.cores.includes(2))", Ok("true")),
        ("attributes['dra.example.com'].model.includes('a100')", Ok("true")),
        ("attributes['dra.example.com'].cores.includes(3)", Ok("false")),
        ("attributes['other'].model", Err("no such key: model")),
        ("attributes.map(k, k)", Ok("[\"dra.example.com\"]")),
    ] {
        let result = env
            .compile(text, None)
            .unwrap()
            .evaluate(&variables, &Budget::new(PER_CALL_LIMIT))
            .map(|value| value.show());
        assert_eq!(result.as_deref().map_err(ToString::to_string), wanted.map_err(str::to_owned), "{text}");
    }
}

#[test]
fn objects_and_patches_become_json() {
    let env = Env::builder(Expressions::NEW).variable("object", Type::Dyn).library(Library::Mutation).build();
    let object = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 2}});
    let variables = vec![("object", Value::native(&object))];
    let run = |text: &str| {
        let program = env.compile(text, None).unwrap();
        let value = program.evaluate(&variables, &Budget::new(PER_CALL_LIMIT)).unwrap();
        (value.to_json(), value.type_name_errors())
    };
    let (json, errors) =
        run("Object{spec: Object.spec{replicas: object.spec.replicas + 1, paused: true}, ?kind: optional.none()}");
    assert_eq!(json.unwrap(), json!({"spec": {"replicas": 3, "paused": true}}));
    assert!(errors.is_empty());
    let (_, errors) = run("Object{spec: Object.other{x: [Object.spec.x{}]}}");
    let wrong = "unexpected type name \"Object.other\", expected \"Object.spec\", which matches field name path from root Object type";
    assert_eq!(errors, [wrong]);
    let (json, _) = run(
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x/y'), value: object.metadata.labels}]",
    );
    assert_eq!(json.unwrap(), json!([{"op": "add", "path": "/metadata/labels/x~1y", "value": {"a": "b"}}]));
    let (json, _) = run(
        "[dyn(duration('90m')), dyn(timestamp('2023-01-01T00:00:00Z')), dyn(b'hello'), dyn(1.5), dyn(null), dyn(7u), dyn(quantity('1Gi'))]",
    );
    assert_eq!(json.unwrap(), json!(["5400s", "2023-01-01T00:00:00Z", "aGVsbG8=", 1.5, null, 7, "1Gi"]));
    assert!(run("{1: 2}").0.is_err());
}

#[test]
fn a_result_has_the_type_that_is_wanted() {
    let env = Env::builder(Expressions::NEW).variable("x", Type::Dyn).build();
    assert!(env.compile("1 == 1", Some(&Type::Bool)).is_ok());
    let errors = env.compile("1 + 1", Some(&Type::Bool)).unwrap_err();
    assert!(errors.is_instantiation());
    assert_eq!(errors.to_string(), "must evaluate to bool");
    let program = env.compile("false && x.y == 1", Some(&Type::Bool)).unwrap();
    assert!(program.uses("x") && !program.uses("y"));
}

#[test]
fn environments_extend_each_other() {
    let base = Env::builder(Expressions::New(Version::new(1, 36))).variable("a", Type::Int).build();
    let more = base.extend().variable("b", Type::Int).build();
    assert!(more.check("a + b").is_ok());
    assert!(base.check("a + b").is_err());
    assert!(base.check("cel.bind(x, 1, x)").is_err());
    assert!(base.extend().library(Library::Bindings).build().check("cel.bind(x, 1, x)").is_ok());
    assert!(base.extend().library(Library::EscapedFields).build().check("{'a-b': 1}.`a-b`").is_ok());
}

#[test]
fn programs_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Program>();
    shared::<Env>();
    shared::<Budget>();
    shared::<Value<'static>>();
}
