//! The authorizer of expressions.

use kedge_auth::{Authorizer, Decision, Request};
use kedge_cel::authorizer::{Answer, Authorizer as Judges, Check, Decision as Judged, ResourceTarget, Subject, Target};
use kedge_meta::UserInfo;
use kedge_registry::Attributes;

/// Says what the user of a request may do.
pub(crate) struct Judge<'a> {
    pub authorizer: &'a dyn Authorizer,
    pub user: &'a UserInfo,
}

impl Judges for Judge<'_> {
    fn check(&self, check: &Check) -> Answer {
        let account;
        let user = match &check.subject {
            Subject::Requester => self.user,
            Subject::ServiceAccount { namespace, name } => {
                let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
                account = UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), &groups);
                &account
            }
        };
        let asked = Request { user: Some(user), verb: &check.verb, ..Request::default() };
        let asked = match &check.target {
            Target::Path(path) => Request { path, ..asked },
            Target::Resource(target) => Request {
                is_resource: true,
                group: &target.group,
                version: "*",
                resource: &target.resource,
                subresource: &target.subresource,
                namespace: &target.namespace,
                name: &target.name,
                ..asked
            },
        };
        let (allowed, reason) = match self.authorizer.authorize(&asked) {
            Decision::Allow(reason) => (true, reason),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => (false, reason),
        };
        Answer::Decided(Judged { allowed, reason: reason.into(), error: None })
    }
}

/// What a request is for, as something that can be asked about.
pub(super) fn target(attributes: &Attributes<'_>) -> ResourceTarget {
    ResourceTarget {
        group: attributes.resource.group.as_str().into(),
        resource: attributes.resource.plural.as_str().into(),
        subresource: attributes.subresource.into(),
        namespace: attributes.namespace.into(),
        name: attributes.name.into(),
        ..ResourceTarget::default()
    }
}
