//! Whatever may be counted.

use jiff::Timestamp;
use kedge_meta::quantity::Quantity;
use serde_json::Value;

use crate::amounts::Amounts;
use crate::others::{Claim, Service, concerns_claims, concerns_services, count_names};
use crate::pod::{self, Pod};
use crate::scope::Requirement;

/// An object as quotas see it.
#[derive(Debug, Clone)]
pub enum Item<'a> {
    Pod(Pod<'a>),
    Service(Service<'a>),
    Claim(Claim<'a>),
    /// One of those that are only counted, by the names of the count.
    Other(Vec<String>),
}

impl<'a> Item<'a> {
    /// An object of a resource.
    pub fn of(group: &str, plural: &str, object: &'a Value) -> Self {
        match (group, plural) {
            ("", "pods") => Self::Pod(Pod::of(object)),
            ("", "services") => Self::Service(Service::of(object)),
            ("", "persistentvolumeclaims") => Self::Claim(Claim::of(object)),
            _ => Self::Other(count_names(group, plural)),
        }
    }

    /// What it uses.
    pub fn usage(&self, now: Timestamp) -> Amounts {
        match self {
            Self::Pod(pod) => pod.usage(now),
            Self::Service(service) => service.usage(),
            Self::Claim(claim) => claim.usage(),
            Self::Other(names) => names.iter().map(|name| (name.clone(), Quantity::from_value(1))).collect(),
        }
    }

    /// Whether a quota's name is about such objects.
    pub fn concerns(&self, name: &str) -> bool {
        match self {
            Self::Pod(_) => pod::concerns(name),
            Self::Service(_) => concerns_services(name),
            Self::Claim(_) => concerns_claims(name),
            Self::Other(names) => names.iter().any(|own| own == name),
        }
    }

    /// Whether a quota's name is about what pods, services or claims use: it is no count of another resource.
    pub fn is_measured(name: &str) -> bool {
        pod::concerns(name) || concerns_services(name) || concerns_claims(name)
    }

    /// Whether it is in all of these scopes.
    pub fn in_scopes(&self, requirements: &[Requirement<'_>]) -> bool {
        requirements.iter().all(|requirement| match self {
            Self::Pod(pod) => pod.in_scope(requirement),
            Self::Claim(claim) => claim.in_scope(requirement),
            Self::Service(_) | Self::Other(_) => false,
        })
    }

    /// What quotas of these names demand and the object does not say.
    pub(crate) fn check(&self, names: &[&str]) -> Result<(), String> {
        match self {
            Self::Pod(pod) => pod.check(names),
            _ => Ok(()),
        }
    }
}
