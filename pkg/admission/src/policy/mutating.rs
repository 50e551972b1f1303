//! MutatingAdmissionPolicy: policies that change objects, one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use kedge_auth::Authorizer;
use kedge_meta::{Reason, Status, StatusCause};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use super::definition::{Binding, Policy};
use super::meters::Meters;
use super::mutation::{Failed, Mutations};
use super::source::{Bound, Source};
use super::{namespace_of, params};
use crate::expressions::{Given, Judge};
use crate::matching::Target;
use crate::{Plugin, forbidden};

const NAME: &str = "MutatingAdmissionPolicy";

pub(crate) struct MutatingPolicies {
    source: Source<Mutations>,
    authorizer: Arc<dyn Authorizer>,
    meters: Arc<Meters>,
}

/// A policy that is to change an object, with one object of parameters.
struct Invocation<'a> {
    policy: &'a Policy<Mutations>,
    binding: &'a Binding,
    target: Target,
    params: Value,
}

/// What came of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// The policy had nothing to do with it.
    Nothing,
    Asked,
    /// Something was applied or patched, whether it changed anything or not.
    Touched,
}

/// Tells an invocation from all others: policy, binding, namespace and name of the parameters.
type Key = [Box<str>; 4];

/// What is remembered from the first pass to the second.
#[derive(Default)]
struct Passed {
    /// The object as it was left.
    left: Value,
    /// Who wants to see it again, and has seen it as it is.
    seen: BTreeSet<Key>,
    /// Who has not seen it since it was changed.
    again: BTreeSet<Key>,
}

impl Passed {
    fn changed(&mut self) {
        self.again.append(&mut self.seen);
    }
}

/// What went wrong with policies that must not fail.
#[derive(Default)]
struct Failures(Vec<(String, Reason)>);

impl Failures {
    fn add(&mut self, policy: &Policy<Mutations>, binding: Option<&Binding>, why: &str, reason: Reason) {
        if policy.fails_open {
            return;
        }
        let message = match binding {
            Some(binding) => format!("policy '{}' with binding '{}' denied request: {why}", policy.name, binding.name),
            None => format!("policy {:?} denied request: {why}", policy.name),
        };
        self.0.push((message, reason));
    }

    fn misconfigured(&mut self, policy: &Policy<Mutations>, binding: Option<&Binding>, why: &str) {
        let what = if binding.is_some() { "binding" } else { "policy" };
        self.add(policy, binding, &format!("failed to configure {what}: {why}"), Reason::Unknown);
    }

    fn check(self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some((first, reason)) = self.0.first().cloned() else { return Ok(()) };
        let mut status = forbidden(attributes, "");
        status.message = first;
        if reason != Reason::Unknown {
            status.reason = reason;
        }
        if let Some(details) = &mut status.details {
            let causes = self.0.into_iter().map(|(message, _)| StatusCause { message, ..StatusCause::default() });
            details.causes.extend(causes);
        }
        Err(status)
    }
}

#[async_trait]
impl Plugin for MutatingPolicies {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation != Operation::Delete && super::concerns(&self.source, attributes)
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let bound = self.source.bound()?;
        let mut failures = Failures::default();
        let mut invocations = Vec::new();
        for one in &*bound {
            select(registry, attributes, one, &mut invocations, &mut failures).await?;
        }
        if !invocations.is_empty() {
            self.invoke(registry, attributes, &invocations, &mut failures).await?;
        }
        failures.check(attributes)
    }
}

/// Finds who is to change an object, before anybody changes it.
async fn select<'a>(
    registry: &Registry,
    attributes: &Attributes<'_>,
    Bound { policy, bindings }: &'a Bound<Mutations>,
    invocations: &mut Vec<Invocation<'a>>,
    failures: &mut Failures,
) -> Result<(), Status> {
    let target = match policy.criteria.target(attributes, &attributes.object, registry) {
        Ok(Some(target)) => target,
        Ok(None) => return Ok(()),
        Err(err) => {
            failures.misconfigured(policy, None, &err.message);
            return Ok(());
        }
    };
    let kind = match policy.param_kind.as_ref().map(|kind| kind.resource(registry)).transpose() {
        Ok(kind) => kind,
        Err(why) => {
            failures.misconfigured(policy, None, &why);
            return Ok(());
        }
    };
    for binding in bindings {
        let bound = binding.criteria.as_ref().map(|it| it.target(attributes, &attributes.object, registry));
        let found = match bound.transpose() {
            Ok(Some(None)) => continue,
            Ok(_) => params::collect(kind.as_deref(), binding.params.as_ref(), attributes.namespace).await,
            Err(err) => Err(err.message),
        };
        match found {
            Ok(found) => {
                let invocation = |params| Invocation { policy, binding, target: target.clone(), params };
                invocations.extend(found.into_iter().map(invocation));
            }
            Err(why) => failures.misconfigured(policy, Some(binding), &why),
        }
    }
    Ok(())
}

impl Invocation<'_> {
    fn key(&self) -> Key {
        let (namespace, name) = (self.params.namespace(), self.params.name());
        [self.policy.name.clone(), self.binding.name.clone(), namespace.into(), name.into()]
    }
}

impl MutatingPolicies {
    pub(super) fn new(registry: &Registry, authorizer: &Arc<dyn Authorizer>, meters: &Arc<Meters>) -> Self {
        let source = Source::new(registry, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings");
        Self { source, authorizer: authorizer.clone(), meters: meters.clone() }
    }

    async fn invoke(
        &self,
        registry: &Registry,
        attributes: &mut Attributes<'_>,
        invocations: &[Invocation<'_>],
        failures: &mut Failures,
    ) -> Result<(), Status> {
        let mut passed: Passed = attributes.reinvocation.kept(NAME);
        if attributes.reinvocation.is_second() && passed.left != attributes.object {
            passed.changed();
        }
        let namespace = namespace_of(attributes, registry)?;
        let mut touched = false;
        for invocation in invocations {
            let before = attributes.object.clone();
            let key = invocation.key();
            // Nobody is asked for the first time in the second pass.
            let may = !attributes.reinvocation.is_second() || passed.again.contains(&key);
            let done = self.one(registry, attributes, invocation, (&namespace, may), failures).await?;
            touched |= done == Done::Touched;
            let invoked = (done != Done::Nothing).then_some(key);
            if before != attributes.object {
                passed.changed();
                attributes.reinvocation.require();
            }
            if let Some(key) = invoked.filter(|_| invocation.policy.rules.reinvoked) {
                passed.seen.insert(key);
            }
        }
        // As upstream: who has changed it is also to see it again.
        if touched {
            passed.changed();
            attributes.reinvocation.require();
        }
        passed.left = attributes.object.clone();
        attributes.reinvocation.keep(NAME, passed);
        Ok(())
    }

    /// Applies the steps of a policy.
    async fn one(
        &self,
        registry: &Registry,
        attributes: &mut Attributes<'_>,
        invocation: &Invocation<'_>,
        (namespace, may): (&Value, bool),
        failures: &mut Failures,
    ) -> Result<Done, Status> {
        let Invocation { policy, binding, target, params } = invocation;
        let old = target.shown(attributes.old.unwrap_or(&Value::Null)).await?;
        let mut object = target.shown(&attributes.object).await?;
        let request = crate::webhook::asked(attributes, target)?;
        let hold = {
            let judge = Judge::new(&*self.authorizer, attributes.user);
            let given = Given {
                object: &object,
                old: &old,
                request: &request,
                params,
                namespace,
                judge: Some((&judge, &*attributes)),
            };
            judge.judged(|| policy.conditions.hold(&given, &policy.variables)).await
        };
        match hold {
            Ok(true) => {}
            Ok(false) => return Ok(Done::Nothing),
            Err(why) => {
                failures.add(policy, Some(binding), &why, Reason::Invalid);
                return Ok(Done::Nothing);
            }
        }
        if !may {
            return Ok(Done::Nothing);
        }
        let mut done = Done::Asked;
        if object.is_null() {
            return Ok(done);
        }
        let clock = &*registry.clock;
        for mutation in &policy.rules.steps {
            let began = clock.monotonic();
            let changed = {
                let judge = Judge::new(&*self.authorizer, attributes.user);
                let given = Given {
                    object: &object,
                    old: &old,
                    request: &request,
                    params,
                    namespace,
                    judge: Some((&judge, &*attributes)),
                };
                judge.judged(|| policy.changed(mutation, &given, target)).await
            };
            let took = clock.monotonic().saturating_sub(began);
            let failed = changed.as_ref().err().map(|failed| match failed {
                Failed::Policy(why) => why.as_str(),
                Failed::Request(status) => status.message.as_str(),
            });
            self.meters.mutated(&policy.name, &binding.name, failed, took);
            match changed {
                Ok(changed) => {
                    done = Done::Touched;
                    attributes.object = target.taken(changed).await?;
                    object = target.shown(&attributes.object).await?;
                }
                Err(Failed::Policy(why)) => failures.add(policy, Some(binding), &why, Reason::Invalid),
                Err(Failed::Request(status)) => return Err(*status),
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
#[path = "mutating_tests.rs"]
mod tests;
