//! What expressions are evaluated over.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use kedge_cel::admission::{
    AUTHORIZER, NAMESPACE_OBJECT, OBJECT, OLD_OBJECT, PARAMS, REQUEST, REQUEST_RESOURCE, VARIABLES, VARIABLES_TYPE,
};
use kedge_cel::{Activation, Budget, EvalError, Evaluated, Map, MapHost, Type, Value as Expressed};
use kedge_registry::Attributes;
use serde_json::Value;

use super::judge::{Judge, target};
use super::{Expression, Variable};

/// The data of an evaluation.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub object: &'a Value,
    pub old: &'a Value,
    pub request: &'a Value,
    pub params: &'a Value,
    pub namespace: &'a Value,
    /// Without it rights cannot be asked for.
    pub judge: Option<(&'a Judge<'a>, &'a Attributes<'a>)>,
}

impl Given<'_> {
    pub(crate) const NOTHING: Self = Self {
        object: &Value::Null,
        old: &Value::Null,
        request: &Value::Null,
        params: &Value::Null,
        namespace: &Value::Null,
        judge: None,
    };
}

/// Data, and variables over it, whose values are kept.
pub(crate) struct Scope<'a> {
    given: Given<'a>,
    variables: &'a [Variable],
    values: Box<[Slot<'a>]>,
    budget: &'a Budget,
    /// Values of variables live as long as what they are kept in: the scope knows itself for as long.
    own: OnceLock<&'a Scope<'a>>,
}

/// The value of a variable, once there is one.
#[derive(Default)]
struct Slot<'a> {
    value: OnceLock<Evaluated<'a>>,
    /// Whether it is being found: a variable that has the name of one before it may name itself.
    busy: AtomicBool,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(given: &Given<'a>, variables: &'a [Variable], budget: &'a Budget) -> Self {
        let values = variables.iter().map(|_| Slot::default()).collect();
        Self { given: *given, variables, values, budget, own: OnceLock::new() }
    }

    /// The same, ready for evaluating.
    pub(crate) fn closed(&'a self) -> &'a Self {
        self.own.get_or_init(|| self)
    }

    /// What an expression comes to, or why it comes to nothing.
    ///
    /// # Errors
    /// Nothing is left of the budget, for any other expression as well.
    pub(crate) fn evaluate(&'a self, expression: &Expression) -> Result<Result<Expressed<'a>, String>, EvalError> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        match program.evaluate(self, self.budget) {
            Err(err @ (EvalError::BudgetExhausted | EvalError::Interrupted)) => Err(err),
            done => Ok(done.map_err(|err| format!("expression '{}' resulted in error: {err}", expression.text))),
        }
    }

    fn variable(&'a self, at: usize) -> Evaluated<'a> {
        let (Variable { name, program }, slot) = (&self.variables[at], &self.values[at]);
        if let Some(known) = slot.value.get() {
            return known.clone();
        }
        let failed =
            |why: &dyn std::fmt::Display| EvalError::new(format!("composited variable {name:?} fails to {why}"));
        if slot.busy.swap(true, Ordering::Relaxed) {
            return Err(failed(&"evaluate: it names itself"));
        }
        let value = match program {
            Err(why) => Err(failed(&format_args!("compile: {why}"))),
            Ok(program) => program.evaluate(self, self.budget).map_err(|err| match err {
                err @ (EvalError::BudgetExhausted | EvalError::Interrupted | EvalError::Pending(_)) => err,
                err => failed(&format_args!("evaluate: {err}")),
            }),
        };
        slot.value.get_or_init(|| value).clone()
    }
}

impl Activation for Scope<'_> {
    fn resolve<'s>(&'s self, name: &str) -> Option<Evaluated<'s>> {
        let given = &self.given;
        Some(Ok(match name {
            OBJECT => Expressed::native(given.object),
            OLD_OBJECT => Expressed::native(given.old),
            REQUEST => Expressed::native(given.request),
            PARAMS => Expressed::native(given.params),
            NAMESPACE_OBJECT => Expressed::native(given.namespace),
            AUTHORIZER => Expressed::authorizer(given.judge?.0),
            REQUEST_RESOURCE => {
                let (judge, attributes) = given.judge?;
                Expressed::resource_check(judge, target(attributes))
            }
            VARIABLES => Expressed::Map(Map::Host(self)),
            _ => return None,
        }))
    }
}

impl MapHost for Scope<'_> {
    fn cel_type(&self) -> Type {
        Type::object(VARIABLES_TYPE)
    }

    fn get<'s>(&'s self, key: &str) -> Option<Evaluated<'s>> {
        // A later one of the same name hides those before it.
        let at = self.variables.iter().rposition(|variable| *variable.name == *key)?;
        self.own.get().map(|own| own.variable(at))
    }

    fn keys(&self) -> Vec<&str> {
        self.variables.iter().map(|variable| &*variable.name).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_cel::admission::{Compiler, Purpose};
    use serde_json::json;

    fn evaluated(variables: &[(&str, &str)], text: &str, budget: &Budget) -> Result<String, String> {
        let mut compiler = Compiler::composing(true);
        let compile = |(name, text): &(&str, &str)| Variable {
            name: (*name).into(),
            program: compiler.variable(name, text, true),
        };
        let variables: Vec<Variable> = variables.iter().map(compile).collect();
        let expression = Expression::compile(&mut compiler, text, Purpose::Variable);
        let (object, params) = (json!({"a": 3, "list": [1, 2, 3]}), json!({"max": 5}));
        let given = Given { object: &object, params: &params, ..Given::NOTHING };
        let scope = Scope::new(&given, &variables, budget);
        let value = scope.closed().evaluate(&expression).map_err(|err| err.to_string())?;
        value.map(|value| value.show())
    }

    fn plainly(variables: &[(&str, &str)], text: &str) -> Result<String, String> {
        evaluated(variables, text, &Budget::new(1_000_000))
    }

    #[test]
    fn variables_are_values_of_those_before_them() {
        let variables = [("a", "object.a"), ("b", "variables.a + 1"), ("c", "variables.b + params.max")];
        assert_eq!(plainly(&variables, "variables.c"), Ok("9".to_owned()));
        assert_eq!(
            plainly(&[("t", "timestamp('2020-01-01T00:00:00Z')")], "variables.t.getFullYear()"),
            Ok("2020".to_owned())
        );
        let failing = [("bad", "object.none"), ("worse", "nothing")];
        let failed = "composited variable \"bad\" fails to evaluate: no such key: none";
        let text = "variables.bad == 1";
        assert_eq!(plainly(&failing, text), Err(format!("expression '{text}' resulted in error: {failed}")));
        assert_eq!(plainly(&failing, "true || variables.bad == 1"), Ok("true".to_owned()), "it is not looked at");
        let worse = plainly(&failing, "variables.worse").unwrap_err();
        assert!(worse.contains("composited variable \"worse\" fails to compile: compilation failed: "), "{worse}");
    }

    /// It would wait for its own value for ever.
    #[test]
    fn a_variable_that_names_itself_has_no_value() {
        let variables = [("a", "1"), ("a", "variables.a + 1")];
        let why = plainly(&variables, "variables.a").unwrap_err();
        assert!(why.contains("composited variable \"a\" fails to evaluate: it names itself"), "{why}");
    }

    #[test]
    fn a_variable_costs_once() {
        let variables = [("a", "object.list.map(x, x * 2)")];
        let cost = |text: &str| {
            let budget = Budget::new(10_000);
            evaluated(&variables, text, &budget).unwrap();
            10_000 - budget.left()
        };
        let (once, twice) = (cost("variables.a.size()"), cost("variables.a.size() + variables.a.size()"));
        assert!(twice < once * 2 - 20, "{once} {twice}");
        let exhausted = evaluated(&variables, "variables.a.size() > 0 || true", &Budget::new(10)).unwrap_err();
        assert!(exhausted.starts_with("validation failed due to running out of cost budget"), "{exhausted}");
    }
}
