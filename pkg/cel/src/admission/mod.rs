//! Expressions that admission evaluates: match conditions of webhooks, and admission policies.
//!
//! Invariants: an expression sees the variables of a policy that come before it, under the types that they evaluate to; texts of errors
//! are upstream's.

mod environment;
mod typecheck;

use std::sync::Arc;

use crate::decl::{Decl, UNBOUNDED};
use crate::{Checked, CompileErrors, Env, Program, Type};
pub use environment::{
    AUTHORIZER, Given, NAMESPACE_OBJECT, OBJECT, OLD_OBJECT, PARAMS, REQUEST, REQUEST_RESOURCE, VARIABLES,
    VARIABLES_TYPE,
};
pub use typecheck::TypeCheck;

/// What an expression is for, which says what it may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A condition of a match, or a validation.
    Condition,
    /// The value of an audit annotation, or null.
    Annotation,
    /// A message; it may not ask for rights.
    Message,
    /// A variable: whatever it comes to.
    Variable,
    /// A list of `JSONPatch`.
    JsonPatch,
    /// An `Object` to apply.
    ApplyConfiguration,
}

/// Why an expression does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Invalid(String),
    /// It is right in itself, and no program can be made of it.
    #[error("{0}")]
    Internal(String),
}

/// Compiles the expressions of one policy, in its order.
#[derive(Debug)]
pub struct Compiler {
    params: bool,
    variables: Option<Vec<(Box<str>, Type)>>,
    /// Environments with the variables that there are so far.
    environments: Vec<(Given, Env)>,
}

impl Compiler {
    /// Of expressions without variables of the policy's own.
    pub fn plain(params: bool) -> Self {
        Self { params, variables: None, environments: Vec::new() }
    }

    /// Of expressions with `variables`.
    pub fn composing(params: bool) -> Self {
        Self { params, variables: Some(Vec::new()), environments: Vec::new() }
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// Why it is none, or not one for this.
    pub fn compile(&mut self, expression: &str, purpose: Purpose, stored: bool) -> Result<Program, Refused> {
        let checked = self.environment(purpose, stored).check(expression).map_err(refused)?;
        purpose.check(&checked)?;
        checked.program().map_err(refused)
    }

    /// Compiles an expression that others may name; if it is none, they see a value of no type.
    ///
    /// # Errors
    /// Why it is none.
    pub fn variable(&mut self, name: &str, expression: &str, stored: bool) -> Result<Program, Refused> {
        let program = self.compile(expression, Purpose::Variable, stored);
        let of = program.as_ref().map_or(Type::Dyn, |program| shown(program.result_type()));
        let variables = self.variables.get_or_insert_default();
        variables.retain(|(known, _)| **known != *name);
        variables.push((name.into(), of));
        self.environments.clear();
        program
    }

    fn environment(&mut self, purpose: Purpose, stored: bool) -> Env {
        let given = Given {
            stored,
            params: self.params,
            authorizer: purpose != Purpose::Message,
            patches: matches!(purpose, Purpose::JsonPatch | Purpose::ApplyConfiguration),
        };
        let Some(variables) = &self.variables else { return environment::with(given).clone() };
        if let Some((_, known)) = self.environments.iter().find(|(known, _)| *known == given) {
            return known.clone();
        }
        let made = with_variables(environment::with(given), variables);
        self.environments.push((given, made.clone()));
        made
    }
}

/// Compiles a condition of a webhook.
///
/// # Errors
/// Why it is none.
pub fn condition(expression: &str, stored: bool) -> Result<Program, Refused> {
    Compiler::plain(false).compile(expression, Purpose::Condition, stored)
}

/// Declares `variables` with these fields.
fn with_variables(env: &Env, variables: &[(Box<str>, Type)]) -> Env {
    let fields = variables.iter().map(|(name, of)| (&**name, Decl::of_type(of.clone(), UNBOUNDED)));
    env.extend().typed_variable(VARIABLES, &Arc::new(Decl::object(VARIABLES_TYPE, fields))).build()
}

/// As what others see the value of a variable: objects, and what libraries have, are seen without a type.
fn shown(of: &Type) -> Type {
    match of {
        Type::List(of) => Type::list(shown(of)),
        Type::Map(of) => Type::map(shown(&of.0), shown(&of.1)),
        Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::Bytes
        | Type::Null
        | Type::Duration
        | Type::Timestamp
        | Type::Any => of.clone(),
        _ => Type::Dyn,
    }
}

fn refused(errors: CompileErrors) -> Refused {
    if errors.is_instantiation() {
        Refused::Internal(format!("program instantiation failed: {errors}"))
    } else {
        Refused::Invalid(format!("compilation failed: {errors}"))
    }
}

impl Purpose {
    fn check(self, checked: &Checked) -> Result<(), Refused> {
        let wanted: &[Type] = match self {
            Self::Condition => &[Type::Bool],
            Self::Annotation => &[Type::String, Type::Null],
            Self::Message => &[Type::String],
            Self::Variable => return Ok(()),
            Self::JsonPatch => &[Type::list(Type::object("JSONPatch"))],
            Self::ApplyConfiguration => &[Type::object("Object")],
        };
        let is = checked.result_type();
        if wanted.contains(is) {
            return Ok(());
        }
        let what = match wanted {
            [one] => named(one),
            several => format!("one of [{}]", several.iter().map(named).collect::<Vec<_>>().join(" ")),
        };
        Err(Refused::Invalid(format!("must evaluate to {what} but got {}", named(is))))
    }
}

/// A type as Go prints it.
fn named(of: &Type) -> String {
    let parameters: Vec<String> = match of {
        Type::List(of) => vec![named(of)],
        Type::Map(of) => vec![named(&of.0), named(&of.1)],
        Type::Opaque(_, of) => of.iter().map(named).collect(),
        Type::Type(Some(of)) => vec![named(of)],
        _ => Vec::new(),
    };
    let brackets = if parameters.is_empty() { String::new() } else { format!("({})", parameters.join(", ")) };
    format!("{}{brackets}", of.runtime_name())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn conditions_know_their_variables() {
        for good in [
            "true",
            "object.metadata.name == 'a' && oldObject == null",
            "request.userInfo.groups.exists(g, g == 'x') && request.dryRun == false",
            "request.options.dryRun.size() > 0 || request.kind.group != request.requestResource.resource",
            "namespaceObject.metadata.labels['a'] == 'b'",
            "authorizer.group('').resource('pods').check('get').allowed()",
            "authorizer.requestResource.check('get').allowed()",
        ] {
            let compiled = condition(good, false);
            assert!(compiled.is_ok(), "{good}: {}", compiled.unwrap_err());
            assert!(condition(good, true).is_ok(), "{good}");
        }
        let said = |text| condition(text, false).unwrap_err().to_string();
        let syntax = said("... [] bad");
        assert!(syntax.starts_with("compilation failed: ERROR: <input>:1:2: Syntax error: "), "{syntax}");
        assert!(said("params == 1").contains("undeclared reference to 'params' (in container '')"));
        assert!(said("variables.a == 1").contains("undeclared reference to 'variables' (in container '')"));
        assert!(said("request.object").contains("undefined field 'object'"));
        assert_eq!(said("1"), "must evaluate to bool but got int");
        let pattern = condition("'a'.matches('(')", false);
        assert!(matches!(pattern, Err(Refused::Invalid(why)) if why.starts_with("compilation failed: ")));
    }

    #[test]
    fn variables_are_seen_by_what_comes_after_them() {
        let mut compiler = Compiler::composing(true);
        let none = compiler.compile("variables.a == 1", Purpose::Condition, false).unwrap_err().to_string();
        assert!(none.contains("undefined field 'a'"), "{none}");
        compiler.variable("a", "params.x.size()", false).unwrap();
        compiler.variable("names", "object.spec.list.map(x, string(x))", false).unwrap();
        compiler.variable("copied", "variables.names.map(n, n + 'x')", false).unwrap();
        compiler.variable("bad", "nothing", false).unwrap_err();
        let mut of = |text, purpose| compiler.compile(text, purpose, false).map_err(|err| err.to_string());
        of("variables.a == 1 && variables.copied.all(n, n.startsWith('x'))", Purpose::Condition).unwrap();
        of("variables.bad == 1", Purpose::Condition).unwrap();
        assert!(of("variables.a == 'x'", Purpose::Condition).unwrap_err().contains("found no matching overload"));
        assert!(of("authorizer.path('/').check('get').allowed() ? 'a' : 'b'", Purpose::Message).is_err());
        assert!(of("authorizer.path('/').check('get').allowed() ? 'a' : 'b'", Purpose::Annotation).is_ok());
        assert_eq!(of("1", Purpose::Annotation).unwrap_err(), "must evaluate to one of [string null_type] but got int");
        assert_eq!(of("null", Purpose::Message).unwrap_err(), "must evaluate to string but got null_type");
    }

    #[test]
    fn mutations_come_to_objects_or_patches() {
        let mut compiler = Compiler::composing(false);
        let mut of = |text, purpose| compiler.compile(text, purpose, false).map(drop).map_err(|err| err.to_string());
        let object = "Object{spec: Object.spec{replicas: 3}}";
        let patch = "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: Object.a{b: 1}}]";
        assert_eq!(of(object, Purpose::ApplyConfiguration), Ok(()));
        assert_eq!(of(patch, Purpose::JsonPatch), Ok(()));
        assert_eq!(of(object, Purpose::JsonPatch).unwrap_err(), "must evaluate to list(JSONPatch) but got Object");
        assert_eq!(
            of(patch, Purpose::ApplyConfiguration).unwrap_err(),
            "must evaluate to Object but got list(JSONPatch)"
        );
        assert!(of(object, Purpose::Condition).unwrap_err().contains("undeclared reference to 'Object"));
    }
}
