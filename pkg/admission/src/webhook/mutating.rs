//! MutatingAdmissionWebhook: webhooks that change objects, one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::{Attributes, Registry};
use serde_json::Value;

use super::call::{Asking, Failed};
use super::hook::Hook;
use super::review::{Answer, Objects};
use super::source::Source;
use crate::Plugin;
use crate::matching::Target;

const NAME: &str = "MutatingAdmissionWebhook";

pub(crate) struct MutatingWebhooks {
    pub(super) source: Source,
    pub(super) asking: Asking,
}

/// What is remembered from the first pass to the second.
#[derive(Default)]
struct Passed {
    /// The object as it was left.
    left: Value,
    /// Webhooks that want to see it again, and have seen it as it is.
    seen: BTreeSet<Box<str>>,
    /// Those that have not seen it since it was changed.
    again: BTreeSet<Box<str>>,
}

impl Passed {
    fn changed(&mut self) {
        self.again.append(&mut self.seen);
    }
}

#[async_trait]
impl Plugin for MutatingWebhooks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        super::concerns(&self.source, attributes)
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let hooks = self.source.hooks()?;
        let mut passed: Passed = attributes.reinvocation.kept(NAME);
        if attributes.reinvocation.is_second() && passed.left != attributes.object {
            passed.changed();
        }
        for (index, hook) in hooks.iter().enumerate() {
            self.one(registry, attributes, index, hook, &mut passed).await?;
        }
        // Nobody looks at it after the second pass, or without anybody to ask again.
        if !passed.seen.is_empty() || !passed.again.is_empty() {
            passed.left = attributes.object.clone();
            attributes.reinvocation.keep(NAME, passed);
        }
        Ok(())
    }
}

impl MutatingWebhooks {
    async fn one(
        &self,
        registry: &Registry,
        attributes: &mut Attributes<'_>,
        index: usize,
        hook: &Hook,
        passed: &mut Passed,
    ) -> Result<(), Status> {
        let second = attributes.reinvocation.is_second();
        // Nobody is asked for the first time in the second pass.
        if second && !passed.again.contains(&hook.uid) {
            return Ok(());
        }
        let Some(target) = hook.criteria.target(attributes, &attributes.object, registry)? else { return Ok(()) };
        if !self.asking.conditions_hold(hook, attributes, &target).await? {
            return Ok(());
        }
        let began = self.asking.now();
        let called = self.call(hook, attributes, &target).await;
        let concluded = self.asking.conclude(hook, attributes, began, called);
        let place = format!("mutation.webhook.admission.k8s.io/round_{}_index_{index}", u8::from(second));
        let changed = matches!(&concluded, Ok(Some(Some(_))));
        attributes.annotate(&place, mutation(hook, changed));
        match concluded? {
            Some(Some(object)) => {
                attributes.object = object;
                passed.changed();
                attributes.reinvocation.require();
            }
            Some(None) => {}
            None => attributes.annotate(&format!("failed-open.{place}"), &*hook.name),
        }
        if hook.reinvoked {
            passed.seen.insert(hook.uid.clone());
        }
        Ok(())
    }

    /// The object as the webhook changes it; none when it leaves it alone.
    async fn call(&self, hook: &Hook, attributes: &Attributes<'_>, target: &Target) -> Result<Option<Value>, Failed> {
        Asking::check_dry_run(hook, attributes)?;
        let shown = async {
            let object = target.shown(&attributes.object).await?;
            let old = target.shown(attributes.old.unwrap_or(&Value::Null)).await?;
            Ok::<_, Status>((Objects::of(&object, &old)?, object))
        };
        let (objects, object) = shown.await.map_err(Failed::impossible)?;
        let answer = self.asking.ask(hook, attributes, target, &objects).await?;
        let Some(patched) = patched(hook, &object, answer)? else { return Ok(None) };
        let taken = target.taken(patched).await.map_err(Failed::impossible)?;
        Ok((taken != attributes.object).then_some(taken))
    }
}

/// What the answer makes of the object.
fn patched(hook: &Hook, object: &Value, answer: Answer) -> Result<Option<Value>, Failed> {
    let Some(patch) = answer.patch.filter(|patch| !patch.is_empty()) else { return Ok(None) };
    let undecodable = |why: &dyn std::fmt::Display| Failed::Calling {
        why: format!("received undecodable patch in webhook response: {why}"),
        code: 503,
    };
    let patch: Value = serde_json::from_slice(&patch).map_err(|err| undecodable(&err))?;
    if patch.as_array().is_some_and(Vec::is_empty) || patch.is_null() {
        return Ok(None);
    }
    if object.is_null() && patch.is_array() {
        let why = "attempted to modify the object, which is not supported for this operation";
        return Err(Failed::impossible(Status::internal(format!("admission webhook {:?} {why}", hook.name))));
    }
    if answer.patch_type != "JSONPatch" {
        return Err(Failed::Calling { why: format!("unsupported patch type {:?}", answer.patch_type), code: 400 });
    }
    match kedge_patch::json::apply(object, &patch) {
        Ok(patched) => Ok(Some(patched)),
        Err(kedge_patch::PatchError::Malformed(why)) => Err(undecodable(&why)),
        Err(err) => Err(Failed::impossible(Status::internal(err))),
    }
}

fn mutation(hook: &Hook, mutated: bool) -> String {
    let (configuration, webhook) = (Value::from(&*hook.configuration), Value::from(&*hook.name));
    format!("{{\"configuration\":{configuration},\"webhook\":{webhook},\"mutated\":{mutated}}}")
}
