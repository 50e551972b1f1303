//! Named expressions that others use, as the `variables` of admission policies.

use std::sync::OnceLock;

use crate::budget::Budget;
use crate::program::{Activation, Program};
use crate::types::Type;
use crate::types::escape::unescape;
use crate::value::{Evaluated, Map, MapHost, Value};

/// What the variables are called in expressions.
const NAME: &str = "variables";

/// Expressions under names, each evaluated when it is first asked for, and once; what that costs is taken from the budget then. They see what
/// the outer activation has, and as `variables.<name>` those before them. What [`Variables::scope`] gives is the activation that has all.
///
/// ```
/// use kedge_cel::{Budget, Env, Expressions, Type, Value, Variables};
///
/// let env = Env::builder(Expressions::NEW).variable("object", Type::Dyn).variable("variables", Type::Dyn).build();
/// let expressions = vec![
///     ("replicas".to_owned(), env.compile("object.spec.replicas", None)?),
///     ("double".to_owned(), env.compile("variables.replicas * 2", None)?),
/// ];
/// let program = env.compile("variables.double + 1", None)?;
///
/// let object = serde_json::json!({"spec": {"replicas": 3}});
/// let outer = vec![("object", Value::native(&object))];
/// let budget = Budget::new(10_000_000);
/// let variables = Variables::new(&outer, &expressions, &budget);
/// let scope = variables.scope();
/// assert!(matches!(program.evaluate(&scope, &budget)?, Value::Int(7)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Variables<'v> {
    outer: &'v dyn Activation,
    all: Vec<Variable<'v>>,
}

struct Variable<'v> {
    name: &'v str,
    program: &'v Program,
    outer: &'v dyn Activation,
    budget: &'v Budget,
    before: OnceLock<&'v [Variable<'v>]>,
    found: OnceLock<Evaluated<'v>>,
}

impl<'v> Variables<'v> {
    /// Nothing is evaluated yet.
    pub fn new(outer: &'v dyn Activation, expressions: &'v [(String, Program)], budget: &'v Budget) -> Self {
        let variable = |(name, program): &'v (String, Program)| Variable {
            name,
            program,
            outer,
            budget,
            before: OnceLock::new(),
            found: OnceLock::new(),
        };
        Self { outer, all: expressions.iter().map(variable).collect() }
    }

    /// What expressions see that may use all of them.
    pub fn scope(&'v self) -> Scope<'v> {
        for (n, variable) in self.all.iter().enumerate() {
            variable.before.get_or_init(|| &self.all[..n]);
        }
        Scope { outer: self.outer, all: &self.all }
    }
}

/// What expressions see that may use all variables.
pub struct Scope<'v> {
    outer: &'v dyn Activation,
    all: &'v [Variable<'v>],
}

impl<'v> Variable<'v> {
    fn value(&'v self) -> Evaluated<'v> {
        self.found.get_or_init(|| self.program.evaluate(self, self.budget)).clone()
    }

    fn before(&self) -> &'v [Variable<'v>] {
        self.before.get().copied().unwrap_or_default()
    }
}

fn find<'v>(variables: &'v [Variable<'v>], key: &str) -> Option<Evaluated<'v>> {
    let name = unescape(key)?;
    variables.iter().find(|variable| variable.name == name).map(Variable::value)
}

impl Activation for Scope<'_> {
    fn resolve<'s>(&'s self, name: &str) -> Option<Evaluated<'s>> {
        if name == NAME { Some(Ok(Value::Map(Map::Host(self)))) } else { self.outer.resolve(name) }
    }
}

impl Activation for Variable<'_> {
    fn resolve<'s>(&'s self, name: &str) -> Option<Evaluated<'s>> {
        if name == NAME { Some(Ok(Value::Map(Map::Host(self)))) } else { self.outer.resolve(name) }
    }
}

impl MapHost for Scope<'_> {
    fn cel_type(&self) -> Type {
        Type::object("kubernetes.variables")
    }

    fn get<'s>(&'s self, key: &str) -> Option<Evaluated<'s>> {
        find(self.all, key)
    }

    fn keys(&self) -> Vec<&str> {
        self.all.iter().map(|variable| variable.name).collect()
    }
}

impl MapHost for Variable<'_> {
    fn cel_type(&self) -> Type {
        Type::object("kubernetes.variables")
    }

    fn get<'s>(&'s self, key: &str) -> Option<Evaluated<'s>> {
        find(self.before(), key)
    }

    fn keys(&self) -> Vec<&str> {
        self.before().iter().map(|variable| variable.name).collect()
    }
}
