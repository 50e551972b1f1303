//! One call of an admission webhook.

use std::sync::Arc;
use std::time::Duration;

use kedge_auth::Authorizer;
use kedge_base::{SharedClock, random};
use kedge_meta::{GroupResource, Status};
use kedge_registry::Attributes;
use kedge_webhook::Caller;
use serde_json::Value;
use tracing::warn;

use super::hook::{Hook, SideEffects};
use super::meters::{Ended, Meters, Step};
use super::review::{Answer, Objects, Review, Unfit, asked, denied};
use crate::expressions::{Given, Judge};
use crate::matching::Target;

/// What calls need.
#[derive(Clone)]
pub(crate) struct Asking {
    pub caller: Arc<Caller>,
    /// Says in conditions who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    pub meters: Arc<Meters>,
    pub clock: SharedClock,
    pub step: Step,
}

/// Why a webhook does not let a request pass.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It could not be asked: its failure policy says what that means.
    Calling { why: String, code: u16 },
    /// It refused.
    Denied(Box<Status>),
    /// What it answered cannot be done, or it must not be asked.
    Impossible(Box<Status>),
}

impl Failed {
    fn calling(why: impl Into<String>, code: u16) -> Self {
        Self::Calling { why: why.into(), code }
    }

    pub(crate) fn impossible(status: Status) -> Self {
        Self::Impossible(Box::new(status))
    }
}

impl Asking {
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Asks a webhook. Its warnings and annotations are passed on, whatever else it says.
    ///
    /// # Errors
    /// Why the request does not pass.
    pub(crate) async fn ask(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        target: &Target,
        objects: &Objects,
    ) -> Result<Answer, Failed> {
        let version = hook.version.ok_or_else(|| {
            let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            Failed::calling(format!("could not create admission objects: {why}"), 400)
        })?;
        let uid = random::uuid();
        let review = Review::new(version, &uid, attributes, target, objects);
        let body = serde_json::to_vec(&review).map_err(|err| Failed::impossible(Status::internal(err)))?;
        let no_client = |err: &dyn std::fmt::Display| Failed::calling(format!("could not get REST client: {err}"), 500);
        let client = hook.client.as_ref().map_err(|err| no_client(err))?;
        let posted = self.caller.post(client, body.into(), hook.timeout).await.map_err(|err| match &err {
            kedge_webhook::CallError::Config(why) => no_client(why),
            _ => Failed::calling(format!("failed to call webhook: {err}"), err.code()),
        })?;
        let mutating = self.step == Step::Admit;
        let answer = Answer::read(version, &uid, mutating, &posted).map_err(|unfit| match unfit {
            Unfit::Undecodable(why) => Failed::calling(format!("failed to call webhook: {why}"), 503),
            Unfit::Invalid(why) => Failed::calling(format!("received invalid webhook response: {why}"), 503),
        })?;
        for (key, value) in &answer.annotations {
            attributes.annotate(&format!("{}/{key}", hook.name), value.clone());
        }
        answer.warnings.iter().for_each(|warning| attributes.warn(warning.clone()));
        if answer.allowed { Ok(answer) } else { Err(Failed::Denied(Box::new(denied(&hook.name, answer.result)))) }
    }

    /// Whether the conditions of a webhook hold for a request.
    ///
    /// # Errors
    /// 403 when that cannot be said, and the webhook must not be left out then.
    pub(crate) async fn conditions_hold(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        target: &Target,
    ) -> Result<bool, Status> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let request = asked(attributes, target)?;
        let object = target.shown(&attributes.object).await?;
        let old = target.shown(attributes.old.unwrap_or(&Value::Null)).await?;
        let judge = Judge::new(&*self.authorizer, attributes.user);
        let given = Given {
            request: &request,
            object: &object,
            old: &old,
            judge: Some((&judge, attributes)),
            ..Given::NOTHING
        };
        match judge.judged(|| hook.conditions.hold(&given, &[])).await {
            Ok(hold) => Ok(hold),
            Err(_) if hook.fails_open => Ok(false),
            Err(why) => {
                let resource = GroupResource::new(&attributes.resource.group, &attributes.resource.plural);
                Err(Status::forbidden(&resource, attributes.name, &why))
            }
        }
    }

    /// Counts a call that `began`, and says what it means for the request: an error refuses it.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn conclude<T>(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        began: Duration,
        called: Result<T, Failed>,
    ) -> Result<Option<T>, Status> {
        let took = self.now().saturating_sub(began);
        let count = |ended| self.meters.observe(&hook.name, self.step, attributes.operation, took, ended);
        match called {
            Ok(done) => {
                count(Ended::Allowed);
                Ok(Some(done))
            }
            Err(Failed::Calling { why, code }) => {
                let why = format!("failed calling webhook {:?}: {why}", hook.name);
                warn!(webhook = &*hook.name, fails_open = hook.fails_open, error = why, "cannot call a webhook");
                count(if hook.fails_open { Ended::Opened(code) } else { Ended::Closed(code) });
                if hook.fails_open { Ok(None) } else { Err(Status::internal(why)) }
            }
            Err(Failed::Denied(status)) => {
                count(Ended::Denied(status.code));
                Err(*status)
            }
            Err(Failed::Impossible(status)) => {
                count(Ended::Failed);
                Err(*status)
            }
        }
    }

    /// Whether a webhook may be asked about a dry run.
    ///
    /// # Errors
    /// When that might have effects.
    pub(crate) fn check_dry_run(hook: &Hook, attributes: &Attributes<'_>) -> Result<(), Failed> {
        match hook.side_effects {
            _ if !attributes.dry_run => Ok(()),
            SideEffects::NoneOnDryRun => Ok(()),
            SideEffects::Unsaid => Err(Failed::calling("Webhook SideEffects is nil", 400)),
            SideEffects::Some => {
                let why = format!("admission webhook {:?} does not support dry run", hook.name);
                Err(Failed::impossible(Status::bad_request(why)))
            }
        }
    }
}
