//! The question, the answers, and asking several authorizers in turn.
//!
//! Most authorizers know the answer at once, and nothing is put on the heap for them; one that asks others gives a [`Deciding::Later`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kedge_base::exposition::Exposition;
use kedge_meta::{UserInfo, fields, labels};

use crate::rbac::PolicyRule;
use crate::{MASTERS, together};

/// What a user wants to do.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    pub user: Option<&'a UserInfo>,
    /// `get`, `list`, `create`, …; for paths the lower-case method.
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Which objects a list, a watch or a deletion of a collection is restricted to, if it is and that can be read.
    pub fields: Option<&'a fields::Selector>,
    pub labels: Option<&'a labels::Selector>,
    /// For requests that are not about a resource.
    pub path: &'a str,
    pub is_resource: bool,
}

/// An authorizer's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, and by what.
    Allow(String),
    /// Refused, whatever others say.
    Deny(String),
    /// Not this authorizer's to decide; what it would say about it.
    NoOpinion(String),
    /// Not allowed, since something went wrong: whether that is so whatever others say, what there is to say about it, and what went
    /// wrong.
    Failed { denied: bool, reason: String, error: String },
}

impl Decision {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// What is said to one who may not.
    pub fn into_reason(self) -> String {
        match self {
            Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason) | Self::Failed { reason, .. } => reason,
        }
    }
}

/// What a user may do, as far as that can be listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    pub rules: Vec<PolicyRule>,
    /// Whether the user may do more than that.
    pub incomplete: bool,
    pub errors: Vec<String>,
}

/// A decision that is there, or will be.
pub enum Deciding<'a> {
    Now(Decision),
    /// Somebody else must be asked first.
    Later(Pin<Box<dyn Future<Output = Decision> + Send + 'a>>),
}

impl<'a> Deciding<'a> {
    /// Of a future.
    pub fn later(decided: impl Future<Output = Decision> + Send + 'a) -> Self {
        Self::Later(Box::pin(decided))
    }

    /// The decision, if it is there.
    pub fn now(self) -> Option<Decision> {
        match self {
            Self::Now(decision) => Some(decision),
            Self::Later(_) => None,
        }
    }
}

impl From<Decision> for Deciding<'_> {
    fn from(decision: Decision) -> Self {
        Self::Now(decision)
    }
}

impl Future for Deciding<'_> {
    type Output = Decision;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Decision> {
        match &mut *self {
            // It is asked for once.
            Self::Now(decision) => Poll::Ready(std::mem::replace(decision, Decision::NoOpinion(String::new()))),
            Self::Later(decided) => decided.as_mut().poll(cx),
        }
    }
}

/// Decides on requests.
pub trait Authorizer: Send + Sync {
    /// The decision. What is known at once must be said at once: expressions of policies ask, too, and they are evaluated anew for
    /// each answer that comes later.
    fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a>;

    /// What a user may do in a namespace because of this authorizer.
    fn rules_of(&self, _user: &UserInfo, _namespace: &str) -> Rules {
        Rules::default()
    }

    /// Writes out its metrics, if it has any.
    fn show(&self, _out: &mut Exposition) {}
}

/// Asks one after the other until one decides. Members of `system:masters` are not asked about.
pub struct Union {
    authorizers: Vec<Arc<dyn Authorizer>>,
}

/// What those have said that had no opinion, and what went wrong with them.
#[derive(Default)]
struct Reasons {
    said: Vec<String>,
    errors: Vec<String>,
}

// === impl Union ===

impl Union {
    /// In this order.
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self { authorizers }
    }
}

impl Authorizer for Union {
    fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
        if request.user.is_some_and(|u| u.in_group(MASTERS)) {
            return Decision::Allow(String::new()).into();
        }
        let mut reasons = Reasons::default();
        let mut others = self.authorizers.iter();
        while let Some(authorizer) = others.next() {
            match authorizer.authorize(request) {
                Deciding::Now(decision) => {
                    if let Some(decided) = reasons.take(decision) {
                        return decided.into();
                    }
                }
                Deciding::Later(decision) => {
                    return Deciding::later(async move {
                        if let Some(decided) = reasons.take(decision.await) {
                            return decided;
                        }
                        for authorizer in others {
                            if let Some(decided) = reasons.take(authorizer.authorize(request).await) {
                                return decided;
                            }
                        }
                        reasons.nobody()
                    });
                }
            }
        }
        reasons.nobody().into()
    }

    fn rules_of(&self, user: &UserInfo, namespace: &str) -> Rules {
        let mut all = Rules::default();
        for Rules { rules, incomplete, errors } in self.authorizers.iter().map(|one| one.rules_of(user, namespace)) {
            all.rules.extend(rules);
            all.incomplete |= incomplete;
            all.errors.extend(errors);
        }
        all
    }
}

impl Reasons {
    /// The decision, if it is one.
    fn take(&mut self, decision: Decision) -> Option<Decision> {
        match decision {
            Decision::NoOpinion(reason) => {
                self.said.extend(Some(reason).filter(|reason| !reason.is_empty()));
                None
            }
            Decision::Failed { denied: false, reason, error } => {
                self.said.extend(Some(reason).filter(|reason| !reason.is_empty()));
                self.errors.push(error);
                None
            }
            decided => Some(decided),
        }
    }

    fn nobody(self) -> Decision {
        let reason = self.said.join("\n");
        match together(&self.errors) {
            None => Decision::NoOpinion(reason),
            Some(error) => Decision::Failed { denied: false, reason, error },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says the same of everything, at once or later.
    struct Says(Decision, bool);

    impl Authorizer for Says {
        fn authorize<'a>(&'a self, _: &'a Request<'a>) -> Deciding<'a> {
            if self.1 { Deciding::later(async { self.0.clone() }) } else { self.0.clone().into() }
        }
    }

    #[tokio::test]
    async fn the_first_who_decides_is_heard_whether_it_takes_time_or_not() {
        let no = |reason: &str| Decision::NoOpinion(reason.into());
        let union = |says: Vec<Says>| {
            Union::new(says.into_iter().map(|one| Arc::new(one) as Arc<dyn Authorizer>).collect::<Vec<_>>())
        };
        let request = Request::default();
        for later in [false, true] {
            let says = |decision: Decision| Says(decision, later);
            let all = union(vec![says(no("a")), says(no("")), says(Decision::Deny("b".into())), says(no("c"))]);
            assert_eq!(all.authorize(&request).await, Decision::Deny("b".into()));
            let none = union(vec![says(no("a")), Says(no("c"), false)]);
            assert_eq!(none.authorize(&request).await, no("a\nc"));
            let masters = UserInfo::new("admin", &[MASTERS]);
            let request = Request { user: Some(&masters), ..Request::default() };
            assert_eq!(none.authorize(&request).now(), Some(Decision::Allow(String::new())), "nobody is asked");
        }
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_unless_somebody_else_decides() {
        let failed = |denied, error: &str| Decision::Failed { denied, reason: "r".into(), error: error.into() };
        let decided = async |all: Vec<Decision>| {
            let all = all.into_iter().map(|one| Arc::new(Says(one, false)) as Arc<dyn Authorizer>).collect();
            Union::new(all).authorize(&Request::default()).await
        };
        let allow = Decision::Allow("rbac".into());
        assert_eq!(decided(vec![failed(false, "a"), allow.clone()]).await, allow);
        assert_eq!(decided(vec![failed(true, "a"), allow]).await, failed(true, "a"));
        let both = Decision::Failed { denied: false, reason: "r\nr".into(), error: "[a, b]".into() };
        assert_eq!(decided(vec![failed(false, "a"), failed(false, "b")]).await, both);
    }
}
