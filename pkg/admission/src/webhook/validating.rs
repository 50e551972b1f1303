//! ValidatingAdmissionWebhook: webhooks that let requests pass or not, all at the same time.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use kedge_meta::Status;
use kedge_registry::{Attributes, Registry};
use parking_lot::Mutex;
use serde_json::Value;

use super::call::Asking;
use super::hook::Hook;
use super::review::Objects;
use super::source::Source;
use crate::Plugin;
use crate::matching::Target;

pub(crate) struct ValidatingWebhooks {
    pub(super) source: Source,
    pub(super) asking: Asking,
}

/// A webhook that is to be asked, and the place of what it is shown.
struct Call {
    hook: Arc<Hook>,
    target: Target,
    objects: usize,
}

#[async_trait]
impl Plugin for ValidatingWebhooks {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        super::concerns(&self.source, attributes)
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let (mut calls, mut objects) = (Vec::new(), Vec::new());
        for hook in &*self.source.hooks()? {
            let Some(target) = hook.criteria.target(attributes, &attributes.object, registry)? else { continue };
            if !self.asking.conditions_hold(hook, attributes, &target).await? {
                continue;
            }
            let objects = shown(&mut objects, &calls, &target, attributes).await?;
            calls.push(Call { hook: hook.clone(), target, objects });
        }
        // Of several refusals the first that came is told.
        let refused: Mutex<Option<Status>> = Mutex::default();
        let asked = calls.iter().enumerate().map(|(index, call)| {
            let (refused, objects) = (&refused, &objects[call.objects]);
            async move {
                if let Err(status) = self.one(attributes, index, call, objects).await {
                    refused.lock().get_or_insert(status);
                }
            }
        });
        join_all(asked).await;
        refused.into_inner().map_or(Ok(()), Err)
    }
}

impl ValidatingWebhooks {
    async fn one(
        &self,
        attributes: &Attributes<'_>,
        index: usize,
        Call { hook, target, .. }: &Call,
        objects: &Objects,
    ) -> Result<(), Status> {
        let began = self.asking.now();
        let called = match Asking::check_dry_run(hook, attributes) {
            Ok(()) => self.asking.ask(hook, attributes, target, objects).await,
            Err(failed) => Err(failed),
        };
        if self.asking.conclude(hook, attributes, began, called)?.is_none() {
            let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
            attributes.annotate(&key, &*hook.name);
        }
        Ok(())
    }
}

/// The place of what a target is shown: written once for all that see the same.
async fn shown(
    written: &mut Vec<Objects>,
    calls: &[Call],
    target: &Target,
    attributes: &Attributes<'_>,
) -> Result<usize, Status> {
    if let Some(same) = calls.iter().find(|call| call.target.kind == target.kind) {
        return Ok(same.objects);
    }
    let object = target.shown(&attributes.object).await?;
    let old = target.shown(attributes.old.unwrap_or(&Value::Null)).await?;
    written.push(Objects::of(&object, &old)?);
    Ok(written.len() - 1)
}
