//! Webhooks that admit: MutatingAdmissionWebhook and ValidatingAdmissionWebhook.
//!
//! Invariants: a request that no webhook is about costs a look at rules that lie ready; a configuration that was acknowledged is in force, one that
//! was deleted is not; what configures admission is never subject to webhooks; a webhook is asked within its time, holding nothing
//! that others wait for, so that it may ask the API itself.

mod call;
mod conditions;
mod endpoints;
mod hook;
mod meters;
mod mutating;
mod review;
mod rules;
mod source;
mod target;
mod validating;

use std::sync::Arc;

use kedge_auth::Authorizer;
use kedge_registry::{Attributes, Registry};
use kedge_webhook::Caller;

use call::Asking;
pub use endpoints::ServiceEndpoints;
pub(crate) use meters::Meters;
use meters::Step;
pub(crate) use mutating::MutatingWebhooks;
use source::Source;
pub(crate) use validating::ValidatingWebhooks;

/// Both plugins, and what they count.
pub(crate) fn plugins(
    registry: &Registry,
    (caller, authorizer): (&Arc<Caller>, &Arc<dyn Authorizer>),
    meters: &Arc<Meters>,
) -> (MutatingWebhooks, ValidatingWebhooks) {
    let asking = |step| Asking {
        caller: caller.clone(),
        authorizer: authorizer.clone(),
        meters: meters.clone(),
        clock: registry.clock.clone(),
        step,
    };
    let source = |plural| Source::new(registry, plural);
    (
        MutatingWebhooks { source: source("mutatingwebhookconfigurations"), asking: asking(Step::Admit) },
        ValidatingWebhooks { source: source("validatingwebhookconfigurations"), asking: asking(Step::Validating) },
    )
}

/// Whether any webhook may be about a request. Where that cannot be known, the request is not to pass unseen.
fn concerns(source: &Source, attributes: &Attributes<'_>) -> bool {
    if rules::is_exempt(attributes) {
        return false;
    }
    source.hooks().map_or(true, |hooks| hooks.iter().any(|hook| hook.may_match(attributes)))
}
