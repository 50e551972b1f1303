//! A policy and its bindings as they are written, ready to be asked.

use std::sync::Arc;

use kedge_cel::admission::Compiler;
use kedge_meta::labels::Selector;
use kedge_registry::value::ValueExt as _;
use serde_json::Value;

use crate::expressions::{Conditions, Expression, Variable};
use crate::matching::Criteria;

/// What a policy of a kind says beside what all say.
pub(crate) trait Rules: Sized + Send + Sync + 'static {
    /// Reads it, and compiles its expressions.
    fn read(spec: &Value, compiler: &mut Compiler) -> Self;
}

/// A policy.
#[derive(Debug)]
pub(crate) struct Policy<E> {
    pub name: Box<str>,
    pub criteria: Criteria,
    pub param_kind: Option<ParamKind>,
    /// Whether a request goes on when something is wrong with the policy.
    pub fails_open: bool,
    pub conditions: Conditions,
    pub variables: Vec<Variable>,
    pub rules: E,
}

/// The kind of a policy's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParamKind {
    pub group: Box<str>,
    pub version: Box<str>,
    pub kind: Box<str>,
}

/// A binding of a policy.
#[derive(Debug)]
pub(crate) struct Binding {
    pub name: Box<str>,
    pub policy: Box<str>,
    /// None binds everything that the policy is about.
    pub criteria: Option<Criteria>,
    pub params: Option<ParamRef>,
    pub actions: Box<[Action]>,
}

/// What becomes of a validation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) enum Action {
    Deny,
    Warn,
    Audit,
}

/// Which parameters a binding means.
#[derive(Debug)]
pub(crate) struct ParamRef {
    pub namespace: Box<str>,
    pub which: Which,
    /// Whether there must be any.
    pub denies_without: bool,
}

#[derive(Debug)]
pub(crate) enum Which {
    Named(Box<str>),
    Selected(Result<Selector, String>),
    Unsaid,
}

impl<E: Rules> Policy<E> {
    pub(crate) fn read(policy: &Value) -> Self {
        let spec = &policy["spec"];
        let param_kind = spec.get("paramKind").filter(|kind| kind.is_object()).map(ParamKind::read);
        let mut compiler = Compiler::composing(param_kind.is_some());
        let mut variables = Vec::new();
        for variable in spec.list(&["variables"]) {
            let name = variable.text(&["name"]);
            let program = compiler.variable(name, variable.text(&["expression"]), true);
            variables.push(Variable { name: name.into(), program });
        }
        let condition = |text: &str| Expression::compile(&mut compiler, text, kedge_cel::admission::Purpose::Condition);
        let conditions = Conditions::read(spec, condition);
        Self {
            name: policy.name().into(),
            criteria: Criteria::of_resources(&spec["matchConstraints"]),
            param_kind,
            fails_open: spec.text(&["failurePolicy"]) == "Ignore",
            conditions,
            variables,
            rules: E::read(spec, &mut compiler),
        }
    }
}

impl ParamKind {
    pub(super) fn read(kind: &Value) -> Self {
        let api_version = kind.text(&["apiVersion"]);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group: group.into(), version: version.into(), kind: kind.text(&["kind"]).into() }
    }
}

/// As Go prints a group, version and kind.
impl std::fmt::Display for ParamKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

impl Binding {
    pub(crate) fn read(binding: &Value) -> Arc<Self> {
        let spec = &binding["spec"];
        let given = |field: &str| spec.get(field).filter(|value| value.is_object());
        let action = |action: &Value| match action.as_str()? {
            "Deny" => Some(Action::Deny),
            "Warn" => Some(Action::Warn),
            "Audit" => Some(Action::Audit),
            _ => None,
        };
        Arc::new(Self {
            name: binding.name().into(),
            policy: spec.text(&["policyName"]).into(),
            criteria: given("matchResources").map(Criteria::of_resources),
            params: given("paramRef").map(ParamRef::read),
            actions: spec.list(&["validationActions"]).iter().filter_map(action).collect(),
        })
    }
}

impl ParamRef {
    fn read(reference: &Value) -> Self {
        let which = match (reference.text(&["name"]), reference.get("selector")) {
            ("", Some(selector @ Value::Object(_))) => {
                Which::Selected(Selector::from_label_selector(selector).map_err(|err| err.to_string()))
            }
            ("", _) => Which::Unsaid,
            (name, _) => Which::Named(name.into()),
        };
        Self {
            namespace: reference.text(&["namespace"]).into(),
            which,
            denies_without: reference.text(&["parameterNotFoundAction"]) == "Deny",
        }
    }
}
