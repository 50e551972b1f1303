//! Whether a user may do something, and what is said to one who may not.

use kedge_auth::{Decision, Request};
use kedge_meta::{GroupResource, Status, UserInfo};
use kedge_registry::Notes;

use crate::admitted::Admitted;
use crate::input::request_info::RequestInfo;
use crate::server::ApiServer;

impl ApiServer {
    /// Asks about a request as it is.
    ///
    /// # Errors
    /// 403.
    pub(crate) async fn authorize(&self, info: &RequestInfo, user: &UserInfo) -> Result<(), Status> {
        let (name, fields, labels) = (info.authorized_name(), info.authorized_fields(), info.authorized_labels());
        let (fields, labels) = (fields.as_ref(), labels.as_ref());
        self.decide(&Request { fields, labels, ..info.authorization(user, &name) }, user).await
    }

    /// The same, and notes for the audit what was decided.
    ///
    /// # Errors
    /// 403, or what keeps that from being known.
    pub(crate) async fn authorize_noted(
        &self,
        info: &RequestInfo,
        user: &UserInfo,
        notes: &Notes,
    ) -> Result<(), NotAllowed> {
        let (name, fields, labels) = (info.authorized_name(), info.authorized_fields(), info.authorized_labels());
        let (fields, labels) = (fields.as_ref(), labels.as_ref());
        let request = Request { fields, labels, ..info.authorization(user, &name) };
        let began = self.clock.monotonic();
        let decision = self.authorizer.authorize(&request).await;
        self.access.authorized(&decision, self.clock.monotonic().saturating_sub(began));
        let (decision, reason, outcome) = match decision {
            Decision::Allow(reason) => (Some("allow"), reason, Ok(())),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                let refused = forbidden(&request, user, &reason);
                (Some("forbid"), reason, Err(NotAllowed::Refused(Box::new(refused))))
            }
            // As upstream, which does not say then what was decided.
            Decision::Failed { error, .. } => (None, "internal error".to_owned(), Err(NotAllowed::Unknown(error))),
        };
        if self.audit.is_some() {
            if let Some(decision) = decision {
                notes.annotate("authorization.k8s.io/decision", decision);
            }
            notes.annotate("authorization.k8s.io/reason", reason.as_str());
        }
        outcome
    }

    /// Who may change what is there may not therefore make what is not.
    ///
    /// # Errors
    /// 403.
    pub(crate) async fn may_create(&self, admitted: &Admitted) -> Result<(), Status> {
        let info = &admitted.info;
        self.decide(&Request { verb: "create", ..info.authorization(&admitted.user, &info.name) }, &admitted.user).await
    }

    async fn decide(&self, request: &Request<'_>, user: &UserInfo) -> Result<(), Status> {
        match self.authorizer.authorize(request).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(request, user, &reason)),
            Decision::Failed { error, .. } => Err(Status::internal(error)),
        }
    }
}

/// Why a request ends here.
pub(crate) enum NotAllowed {
    /// 403.
    Refused(Box<Status>),
    /// Whether it is allowed cannot be found out: what went wrong.
    Unknown(String),
}

/// 403 in upstream's words.
pub(crate) fn forbidden(request: &Request<'_>, user: &UserInfo, reason: &str) -> Status {
    let suffix = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if !request.is_resource {
        let why = format!("User {:?} cannot {} path {:?}{suffix}", user.name, request.verb, request.path);
        return Status::forbidden(&GroupResource::new("", ""), "", &why);
    }
    let resource = if request.subresource.is_empty() {
        request.resource.to_owned()
    } else {
        format!("{}/{}", request.resource, request.subresource)
    };
    let place = if request.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", request.namespace)
    };
    let why = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {place}{suffix}",
        user.name, request.verb, request.group
    );
    Status::forbidden(&GroupResource::new(request.group, request.resource), request.name, &why)
}
