//! What a ValidatingAdmissionPolicy says of a request.

use std::time::Duration;

use kedge_base::Clock;
use kedge_cel::admission::{Compiler, Purpose};
use kedge_cel::limits::RUNTIME_COST_BUDGET;
use kedge_cel::{Budget, Value as Expressed};
use kedge_meta::Reason;
use kedge_registry::value::ValueExt as _;
use serde_json::Value;

use super::definition::{Policy, Rules};
use crate::expressions::{Expression, Given, Scope};

/// A message that an expression makes may be as long.
const MAX_MESSAGE: usize = 5 * 1024;

/// The rules of a ValidatingAdmissionPolicy.
#[derive(Debug)]
pub(crate) struct Validations {
    checks: Box<[Check]>,
    annotations: Box<[(Box<str>, Expression)]>,
}

#[derive(Debug)]
struct Check {
    rule: Expression,
    message: Box<str>,
    message_expression: Option<Expression>,
    reason: Reason,
}

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Findings {
    pub denials: Vec<Denial>,
    /// What failed of a policy that lets requests pass then.
    pub ignored: Vec<Denial>,
    pub annotations: Vec<(Box<str>, String)>,
    /// What is wrong with annotations, of a policy that must not fail.
    pub broken: Vec<String>,
}

/// A validation that fails.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Denial {
    pub index: usize,
    pub message: String,
    /// Unknown where the policy itself failed.
    pub reason: Reason,
    /// How long its expression took.
    pub took: Duration,
}

impl Rules for Validations {
    fn read(spec: &Value, compiler: &mut Compiler) -> Self {
        let mut check = |one: &Value| Check {
            rule: Expression::compile(compiler, one.text(&["expression"]), Purpose::Condition),
            message: one.text(&["message"]).trim().into(),
            message_expression: match one.text(&["messageExpression"]) {
                "" => None,
                text => Some(Expression::compile(compiler, text, Purpose::Message)),
            },
            reason: match one.text(&["reason"]) {
                "Forbidden" => Reason::Forbidden,
                "Unauthorized" => Reason::Unauthorized,
                "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
                _ => Reason::Invalid,
            },
        };
        let checks = spec.list(&["validations"]).iter().map(&mut check).collect();
        let mut annotation = |one: &Value| {
            let text = one.text(&["valueExpression"]);
            (one.text(&["key"]).into(), Expression::compile(compiler, text, Purpose::Annotation))
        };
        Self { checks, annotations: spec.list(&["auditAnnotations"]).iter().map(&mut annotation).collect() }
    }
}

impl Policy<Validations> {
    /// Evaluates the policy for one object of parameters.
    pub(crate) fn evaluate(&self, given: &Given<'_>, clock: &dyn Clock) -> Findings {
        let began = clock.monotonic();
        let failed = |why| self.failed(why, clock.monotonic().saturating_sub(began));
        let mut findings = Findings::default();
        match self.conditions.hold(given, &self.variables) {
            Ok(true) => {}
            Ok(false) => return findings,
            Err(why) => return failed(why),
        }
        if let Err(why) = self.check(given, clock, &mut findings) {
            return failed(why);
        }
        if let Err(why) = self.annotate(given, &mut findings) {
            return failed(why);
        }
        findings
    }

    /// Nothing is said but that the policy failed.
    fn failed(&self, message: String, took: Duration) -> Findings {
        let mut findings = Findings::default();
        self.fails(&mut findings, Denial { index: 0, message, reason: Reason::Unknown, took });
        findings
    }

    /// The policy fails, which its request does or does not survive.
    fn fails(&self, findings: &mut Findings, denial: Denial) {
        if self.fails_open { &mut findings.ignored } else { &mut findings.denials }.push(denial);
    }

    fn check(&self, given: &Given<'_>, clock: &dyn Clock, findings: &mut Findings) -> Result<(), String> {
        let budget = Budget::new(RUNTIME_COST_BUDGET);
        let scope = Scope::new(given, &self.variables, &budget);
        let scope = scope.closed();
        let mut failed = Vec::new();
        for (index, check) in self.rules.checks.iter().enumerate() {
            let began = clock.monotonic();
            let evaluated = scope.evaluate(&check.rule).map_err(|exhausted| exhausted.to_string())?;
            let took = clock.monotonic().saturating_sub(began);
            match evaluated {
                Ok(Expressed::Bool(true)) => {}
                Ok(_) => failed.push((index, check, took)),
                Err(message) => self.fails(findings, Denial { index, message, reason: Reason::Unknown, took }),
            }
        }
        // Messages have what is left, and values of their own: they may not ask for rights, nor may what they name.
        let given = Given { judge: None, ..*given };
        let scope = Scope::new(&given, &self.variables, &budget);
        let scope = scope.closed();
        for (index, check, took) in failed {
            match check.message(scope) {
                Ok(message) => findings.denials.push(Denial { index, message, reason: check.reason, took }),
                Err(message) => self.fails(findings, Denial { index, message, reason: Reason::Unknown, took }),
            }
        }
        findings.denials.sort_by_key(|denial| denial.index);
        Ok(())
    }

    fn annotate(&self, given: &Given<'_>, findings: &mut Findings) -> Result<(), String> {
        let budget = Budget::new(RUNTIME_COST_BUDGET);
        let given = Given { judge: None, ..*given };
        let scope = Scope::new(&given, &self.variables, &budget);
        let scope = scope.closed();
        for (key, expression) in &self.rules.annotations {
            match scope.evaluate(expression).map_err(|exhausted| exhausted.to_string())? {
                Ok(Expressed::String(text)) => {
                    let text = text.trim();
                    if !text.is_empty() {
                        findings.annotations.push((key.clone(), text.to_owned()));
                    }
                }
                Ok(Expressed::Null) => {}
                Ok(other) => findings.broken.push(format!(
                    "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                    expression.text,
                    other.type_name()
                )),
                Err(_) if self.fails_open => {}
                Err(why) => findings.broken.push(why),
            }
        }
        Ok(())
    }
}

impl Check {
    /// What a failure is told by: what its expression makes, else its message, else the rule.
    fn message<'a>(&self, scope: &'a Scope<'a>) -> Result<String, String> {
        let made = match &self.message_expression {
            Some(expression) => match scope.evaluate(expression) {
                Ok(Ok(Expressed::String(text))) => text.trim().to_owned(),
                Ok(_) => String::new(),
                Err(exhausted) => return Err(format!("failed messageExpression: {exhausted}")),
            },
            None => String::new(),
        };
        let made = if made.len() > MAX_MESSAGE || made.contains('\n') { String::new() } else { made };
        let own = [made, self.message.to_string()].into_iter().find(|text| !text.is_empty());
        Ok(own.unwrap_or_else(|| format!("failed expression: {}", self.rule.text.trim())))
    }
}

#[cfg(test)]
#[path = "validation_tests.rs"]
mod tests;
