//! Webhooks that admit: MutatingAdmissionWebhook and ValidatingAdmissionWebhook.
//!
//! Invariants: a request that no webhook is about costs a look at rules that lie ready; a configuration that was acknowledged is in force, one that
//! was deleted is not; what configures admission is never subject to webhooks; a webhook is asked within its time, holding nothing
//! that others wait for, so that it may ask the API itself.

mod call;
mod endpoints;
mod hook;
mod meters;
mod mutating;
mod review;
mod source;
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
pub(crate) use review::asked;
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
    if is_exempt(attributes) {
        return false;
    }
    source.hooks().map_or(true, |hooks| hooks.iter().any(|hook| hook.criteria.may_match(attributes)))
}

/// What configures admission itself is nobody's business: a webhook that refused it could not be got rid of.
fn is_exempt(attributes: &Attributes<'_>) -> bool {
    let (group, _, kind) = attributes.kind();
    group == "admissionregistration.k8s.io"
        && matches!(
            kind,
            "ValidatingWebhookConfiguration"
                | "MutatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "MutatingAdmissionPolicy"
                | "MutatingAdmissionPolicyBinding"
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_meta::UserInfo;
    use kedge_registry::Operation;

    #[test]
    fn what_configures_admission_is_exempt() {
        let user = UserInfo::new("u", &[]);
        let exempt = |group, version, plural| {
            is_exempt(&Attributes::new(
                Operation::Create,
                kedge_schema::resource(group, version, plural).unwrap(),
                &user,
            ))
        };
        let group = "admissionregistration.k8s.io";
        for plural in [
            "mutatingwebhookconfigurations",
            "validatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ] {
            assert!(exempt(group, "v1", plural), "{plural}");
        }
        assert!(!exempt("", "v1", "pods"));
    }
}
