//! What expressions are evaluated over.

use std::sync::OnceLock;

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
    values: Box<[OnceLock<Evaluated<'a>>]>,
    budget: &'a Budget,
    /// Values of variables live as long as what they are kept in: the scope knows itself for as long.
    own: OnceLock<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(given: &Given<'a>, variables: &'a [Variable], budget: &'a Budget) -> Self {
        let values = variables.iter().map(|_| OnceLock::new()).collect();
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
        let Variable { name, program } = &self.variables[at];
        let value = self.values[at].get_or_init(|| {
            let program = program
                .as_ref()
                .map_err(|why| EvalError::new(format!("composited variable {name:?} fails to compile: {why}")))?;
            program.evaluate(self, self.budget).map_err(|err| match err {
                err @ (EvalError::BudgetExhausted | EvalError::Interrupted | EvalError::Pending(_)) => err,
                err => EvalError::new(format!("composited variable {name:?} fails to evaluate: {err}")),
            })
        });
        value.clone()
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
