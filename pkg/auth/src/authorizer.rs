//! The question, the answers, and asking several authorizers in turn.

use std::sync::Arc;

use kedge_meta::{UserInfo, fields};

use crate::MASTERS;

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
}

/// Decides on requests. It must not wait for anything.
pub trait Authorizer: Send + Sync {
    /// The decision.
    fn authorize(&self, request: &Request<'_>) -> Decision;
}

/// Asks one after the other until one decides. Members of `system:masters` are not asked about.
pub struct Union {
    authorizers: Vec<Arc<dyn Authorizer>>,
}

impl Union {
    /// In this order.
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self { authorizers }
    }
}

impl Authorizer for Union {
    fn authorize(&self, request: &Request<'_>) -> Decision {
        if request.user.is_some_and(|u| u.in_group(MASTERS)) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        for authorizer in &self.authorizers {
            match authorizer.authorize(request) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}
