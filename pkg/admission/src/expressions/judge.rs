//! The authorizer of expressions.
//!
//! Evaluation never waits, and an authorizer may have to ask somebody. What such a one is asked ends the evaluation; then it is waited for its
//! answer, and everything is evaluated again.

use kedge_auth::{Authorizer, Deciding, Decision, Request};
use kedge_cel::authorizer::{Answer, Authorizer as Judges, Check, Decision as Judged, ResourceTarget, Subject, Target};
use kedge_meta::UserInfo;
use kedge_registry::Attributes;
use parking_lot::Mutex;

/// Says what the user of a request may do.
pub(crate) struct Judge<'a> {
    authorizer: &'a dyn Authorizer,
    user: &'a UserInfo,
    asked: Mutex<Asked>,
}

/// What takes time to be known.
#[derive(Default)]
struct Asked {
    answers: Vec<(Check, Judged)>,
    open: Option<Check>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(authorizer: &'a dyn Authorizer, user: &'a UserInfo) -> Self {
        Self { authorizer, user, asked: Mutex::default() }
    }

    /// What is evaluated, with all answers that it wants.
    pub(crate) async fn judged<T>(&self, mut evaluate: impl FnMut() -> T) -> T {
        loop {
            let value = evaluate();
            let Some(check) = self.asked.lock().open.take() else { return value };
            let subject = subject(&check);
            let decision = self.authorizer.authorize(&request(&check, subject.as_ref().unwrap_or(self.user))).await;
            self.asked.lock().answers.push((check, said(decision)));
        }
    }
}

impl Judges for Judge<'_> {
    fn check(&self, check: &Check) -> Answer {
        let subject = subject(check);
        let request = request(check, subject.as_ref().unwrap_or(self.user));
        match self.authorizer.authorize(&request) {
            Deciding::Now(decision) => Answer::Decided(said(decision)),
            Deciding::Later(_) => {
                let mut asked = self.asked.lock();
                if let Some((_, answer)) = asked.answers.iter().find(|(known, _)| known == check) {
                    return Answer::Decided(answer.clone());
                }
                asked.open = Some(check.clone());
                Answer::Pending
            }
        }
    }
}

/// Who is asked about, if that is not who asks.
fn subject(check: &Check) -> Option<UserInfo> {
    let Subject::ServiceAccount { namespace, name } = &check.subject else { return None };
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
    Some(UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), &groups))
}

fn request<'a>(check: &'a Check, user: &'a UserInfo) -> Request<'a> {
    let asked = Request { user: Some(user), verb: &check.verb, ..Request::default() };
    match &check.target {
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
    }
}

fn said(decision: Decision) -> Judged {
    let error = match &decision {
        Decision::Failed { error, .. } => Some(error.as_str().into()),
        Decision::Allow(_) | Decision::Deny(_) | Decision::NoOpinion(_) => None,
    };
    Judged { allowed: decision.is_allowed(), reason: decision.into_reason().into(), error }
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
