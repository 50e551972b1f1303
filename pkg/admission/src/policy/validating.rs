//! ValidatingAdmissionPolicy: policies that let requests pass or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_auth::Authorizer;
use kedge_meta::{Reason, Status, StatusCause};
use kedge_registry::{Attributes, Registry};
use serde::Serialize;
use serde_json::Value;

use super::definition::{Action, Binding, Policy};
use super::meters::{Enforced, Meters};
use super::source::{Bound, Source};
use super::validation::{Denial, Findings, Validations};
use super::{namespace_of, params};
use crate::expressions::{Given, Judge};
use crate::matching::Target;
use crate::{Plugin, forbidden};

/// The values of an annotation may be as long, in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;

pub(crate) struct ValidatingPolicies {
    source: Source<Validations>,
    authorizer: Arc<dyn Authorizer>,
    meters: Arc<Meters>,
}

/// Why a request is refused: the first of these is told.
struct Refusal {
    message: String,
    reason: Reason,
}

/// What is gathered while policies are asked.
#[derive(Default)]
struct Gathered {
    refused: Option<Refusal>,
}

/// What expressions see of a request, in the version that a policy asked for.
struct Seen {
    object: Value,
    old: Value,
    request: Value,
}

/// What an audit is told of a failure.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    message: &'a str,
    policy: &'a str,
    binding: &'a str,
    expression_index: usize,
    validation_actions: &'a [Action],
}

#[async_trait]
impl Plugin for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        super::concerns(&self.source, attributes)
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let mut gathered = Gathered::default();
        for bound in &*self.source.bound()? {
            match bound.policy.criteria.target(attributes, &attributes.object, registry) {
                Ok(None) => {}
                Ok(Some(target)) => self.ask(registry, attributes, bound, &target, &mut gathered).await?,
                Err(err) => gathered.misconfigured(&bound.policy, None, &err.message),
            }
        }
        match gathered.refused {
            Some(refusal) => Err(refusal.status(attributes)),
            None => Ok(()),
        }
    }
}

impl ValidatingPolicies {
    pub(super) fn new(registry: &Registry, authorizer: &Arc<dyn Authorizer>, meters: &Arc<Meters>) -> Self {
        let source = Source::new(registry, "validatingadmissionpolicies", "validatingadmissionpolicybindings");
        Self { source, authorizer: authorizer.clone(), meters: meters.clone() }
    }

    /// Asks a policy that is about the request, once for each binding and its parameters.
    async fn ask(
        &self,
        registry: &Registry,
        attributes: &Attributes<'_>,
        Bound { policy, bindings }: &Bound<Validations>,
        target: &Target,
        gathered: &mut Gathered,
    ) -> Result<(), Status> {
        let kind = match policy.param_kind.as_ref().map(|kind| kind.resource(registry)).transpose() {
            Ok(kind) => kind,
            Err(why) => {
                gathered.misconfigured(policy, None, &why);
                return Ok(());
            }
        };
        let (mut seen, mut annotations) = (None, Annotations::default());
        for binding in bindings {
            let bound = binding.criteria.as_ref().map(|it| it.target(attributes, &attributes.object, registry));
            let found = match bound.transpose() {
                Ok(Some(None)) => continue,
                Ok(_) => params::collect(kind.as_deref(), binding.params.as_ref(), attributes.namespace).await,
                Err(err) => Err(err.message),
            };
            let found = match found {
                Ok(found) => found,
                Err(why) => {
                    gathered.misconfigured(policy, Some(binding), &why);
                    continue;
                }
            };
            if seen.is_none() && !found.is_empty() {
                match Seen::of(attributes, target).await {
                    Ok(shown) => seen = Some(shown),
                    Err(err) => {
                        let why = format!("failed to convert object version: {}", err.message);
                        gathered.misconfigured(policy, Some(binding), &why);
                        continue;
                    }
                }
            }
            let Some(seen) = &seen else { continue };
            let namespace = namespace_of(attributes, registry)?;
            for params in &found {
                let judge = Judge::new(&*self.authorizer, attributes.user);
                let Seen { object, old, request } = seen;
                let told = Some((&judge, attributes));
                let given = Given { object, old, request, params, namespace: &namespace, judge: told };
                let findings = judge.judged(|| policy.evaluate(&given, &*registry.clock)).await;
                self.count(policy, binding, &findings);
                gathered.take(attributes, (policy, binding), findings, &mut annotations);
            }
        }
        annotations.publish(&policy.name, attributes);
        Ok(())
    }

    /// Counts what fails; as upstream, what passes is not counted.
    fn count(&self, policy: &Policy<Validations>, binding: &Binding, findings: &Findings) {
        let count = |denial: &Denial, enforced| {
            self.meters.validated(&policy.name, &binding.name, &denial.message, enforced, denial.took);
        };
        findings.ignored.iter().for_each(|denial| count(denial, Enforced::Allow));
        for denial in &findings.denials {
            for action in &binding.actions {
                count(denial, Enforced::of(*action));
            }
        }
        for why in &findings.broken {
            self.meters.validated(&policy.name, &binding.name, why, Enforced::Deny, Duration::ZERO);
        }
    }
}

impl Seen {
    async fn of(attributes: &Attributes<'_>, target: &Target) -> Result<Self, Status> {
        Ok(Self {
            object: target.shown(&attributes.object).await?,
            old: target.shown(attributes.old.unwrap_or(&Value::Null)).await?,
            request: crate::webhook::asked(attributes, target)?,
        })
    }
}

impl Gathered {
    fn misconfigured(&mut self, policy: &Policy<Validations>, binding: Option<&Binding>, why: &str) {
        if !policy.fails_open {
            let what = if binding.is_some() { "binding" } else { "policy" };
            self.refuse(policy, binding, format!("failed to configure {what}: {why}"), Reason::Unknown);
        }
    }

    fn refuse(&mut self, policy: &Policy<Validations>, binding: Option<&Binding>, message: String, reason: Reason) {
        let message = match binding {
            Some(binding) => format!(
                "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {message}",
                policy.name, binding.name
            ),
            None => format!("ValidatingAdmissionPolicy '{}' denied request: {message}", policy.name),
        };
        self.refused.get_or_insert(Refusal { message, reason });
    }

    fn take(
        &mut self,
        attributes: &Attributes<'_>,
        (policy, binding): (&Policy<Validations>, &Binding),
        findings: Findings,
        annotations: &mut Annotations,
    ) {
        for denial in findings.denials {
            for action in &binding.actions {
                match action {
                    Action::Deny => self.refuse(policy, Some(binding), denial.message.clone(), denial.reason),
                    Action::Warn => attributes.warn(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                        policy.name, binding.name, denial.message
                    )),
                    Action::Audit => audit(attributes, binding, &denial),
                }
            }
        }
        findings.annotations.into_iter().for_each(|(key, value)| annotations.add(key, value));
        findings.broken.into_iter().for_each(|why| self.refuse(policy, Some(binding), why, Reason::Unknown));
    }
}

fn audit(attributes: &Attributes<'_>, binding: &Binding, denial: &Denial) {
    let failures = [Failure {
        message: &denial.message,
        policy: &binding.policy,
        binding: &binding.name,
        expression_index: denial.index,
        validation_actions: &binding.actions,
    }];
    match serde_json::to_string(&failures) {
        Ok(text) => attributes.annotate("validation.policy.admission.k8s.io/validation_failure", text),
        Err(error) => tracing::warn!(policy = &*binding.policy, %error, "cannot write down a failed validation"),
    }
}

impl Refusal {
    fn status(self, attributes: &Attributes<'_>) -> Status {
        let mut status = forbidden(attributes, &self.message);
        status.reason = if self.reason == Reason::Unknown { Reason::Invalid } else { self.reason };
        status.code = match status.reason {
            Reason::Forbidden => 403,
            Reason::Unauthorized => 401,
            Reason::RequestEntityTooLarge => 413,
            _ => 422,
        };
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause { message: self.message, ..StatusCause::default() });
        }
        status
    }
}

/// What bindings of one policy note for the audit: values that differ are put side by side.
#[derive(Default)]
struct Annotations(BTreeMap<Box<str>, Vec<String>>);

impl Annotations {
    fn add(&mut self, key: Box<str>, mut value: String) {
        let mut end = value.len().min(MAX_ANNOTATION);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        let values = self.0.entry(key).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }

    fn publish(self, policy: &str, attributes: &Attributes<'_>) {
        for (key, values) in self.0 {
            attributes.annotate(&format!("{policy}/{key}"), values.join(", "));
        }
    }
}

#[cfg(test)]
#[path = "validating_tests.rs"]
mod tests;
