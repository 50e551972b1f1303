//! Admission policies: MutatingAdmissionPolicy and ValidatingAdmissionPolicy.
//!
//! Invariants: a request that no policy is about costs a look at rules that lie ready; a policy or binding that was acknowledged is in
//! force, one that was deleted is not; a policy is compiled once for each of its generations; what configures policies is never subject
//! to them.

mod definition;
mod meters;
mod mutating;
mod mutation;
mod params;
mod rights;
mod source;
mod validating;
mod validation;

use std::sync::Arc;

use kedge_auth::Authorizer;
use kedge_meta::{GroupResource, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Registry};
use serde_json::{Map, Value};

pub(crate) use meters::Meters;
pub(crate) use mutating::MutatingPolicies;
pub(crate) use rights::ParameterRights;
use source::Source;
pub(crate) use validating::ValidatingPolicies;

const GROUP: &str = "admissionregistration.k8s.io";
/// A policy that refused these could not be got rid of.
const OWN: [&str; 4] = [
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];
/// What is asked about users and rights, and kept nowhere: without it nothing works.
const REVIEWS: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];
/// What expressions see of a namespace's metadata.
const SHOWN: [&str; 12] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "finalizers",
];

/// Both plugins.
pub(crate) fn plugins(
    registry: &Registry,
    authorizer: &Arc<dyn Authorizer>,
    meters: &Arc<Meters>,
) -> (MutatingPolicies, ValidatingPolicies) {
    (MutatingPolicies::new(registry, authorizer, meters), ValidatingPolicies::new(registry, authorizer, meters))
}

/// Whether any policy may be about a request. Where that cannot be known, the request is not to pass unseen.
fn concerns<E: definition::Rules>(source: &Source<E>, attributes: &Attributes<'_>) -> bool {
    if is_exempt(attributes) {
        return false;
    }
    source.bound().map_or(true, |bound| bound.iter().any(|one| one.policy.criteria.may_match(attributes)))
}

fn is_exempt(attributes: &Attributes<'_>) -> bool {
    let (group, plural) = (&*attributes.resource.group, &*attributes.resource.plural);
    (group == GROUP && OWN.contains(&plural)) || REVIEWS.contains(&(group, plural))
}

/// The namespace of a request as expressions see it: null where there is none, and for namespaces themselves.
fn namespace_of(attributes: &Attributes<'_>, registry: &Registry) -> Result<Value, Status> {
    if attributes.namespace.is_empty() || attributes.kind() == ("", "v1", "Namespace") {
        return Ok(Value::Null);
    }
    let namespace = attributes
        .namespace_object(registry)?
        .ok_or_else(|| Status::not_found(&GroupResource::new("", "namespaces"), attributes.namespace))?;
    let copied = |from: &Value, fields: &[&str]| -> Map<String, Value> {
        let there = fields.iter().filter_map(|field| Some(((*field).to_owned(), from.get(field)?.clone())));
        there.collect()
    };
    let mut shown = copied(namespace, &["apiVersion", "kind", "spec", "status"]);
    if let Some(metadata) = namespace.at(&["metadata"]) {
        shown.insert("metadata".to_owned(), copied(metadata, &SHOWN).into());
    }
    Ok(shown.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;

    #[test]
    fn what_configures_policies_is_exempt() {
        let user = testing::user();
        let exempt = |group, plural| {
            let resource = kedge_schema::resource(group, "v1", plural).unwrap();
            is_exempt(&Attributes::new(Operation::Create, resource, &user))
        };
        for plural in OWN {
            assert!(exempt(GROUP, plural), "{plural}");
        }
        for (group, plural) in REVIEWS {
            assert!(exempt(group, plural), "{plural}");
        }
        assert!(!exempt(GROUP, "validatingwebhookconfigurations"), "policies are about webhooks");
        assert!(!exempt("", "pods"));
    }
}
