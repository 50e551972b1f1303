//! What libraries have operations for: quantities, addresses, URLs, versions, formats, and the steps of an authorization check.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use kedge_meta::quantity::Quantity;

use crate::authorizer::{Authorizer, Decision, ResourceTarget, Subject};
use crate::types::Type;

/// A value of a library.
#[derive(Clone)]
pub enum Opaque<'a> {
    /// An amount; and as a whole number, where it is written as one.
    Quantity {
        amount: Quantity,
        int: Option<i64>,
    },
    Ip(IpAddr),
    Cidr(Cidr),
    Url(Url),
    Semver(Semver),
    /// A named format.
    Format(&'static str),
    Authorizer {
        authorizer: &'a dyn Authorizer,
        subject: Arc<Subject>,
    },
    PathCheck {
        authorizer: &'a dyn Authorizer,
        subject: Arc<Subject>,
        path: Box<str>,
    },
    GroupCheck {
        authorizer: &'a dyn Authorizer,
        subject: Arc<Subject>,
        group: Box<str>,
    },
    ResourceCheck {
        authorizer: &'a dyn Authorizer,
        subject: Arc<Subject>,
        target: ResourceTarget,
    },
    Decision(Decision),
}

/// A network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub bits: u8,
}

/// The parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub text: Box<str>,
    pub scheme: Box<str>,
    pub host: Box<str>,
    pub escaped_path: Box<str>,
    pub query: Box<str>,
}

/// A semantic version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Semver {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    pub pre: Vec<PreRelease>,
    pub build: Vec<Box<str>>,
}

/// A part of a pre-release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PreRelease {
    /// Comes before texts.
    Number(u64),
    Text(Box<str>),
}

impl Semver {
    /// Order; what was built how does not matter.
    pub fn compare(&self, other: &Self) -> Ordering {
        let numbers = |it: &Self| (it.major, it.minor, it.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => self.pre.cmp(&other.pre),
        })
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        for (n, part) in self.pre.iter().enumerate() {
            f.write_str(if n == 0 { "-" } else { "." })?;
            match part {
                PreRelease::Number(number) => write!(f, "{number}")?,
                PreRelease::Text(text) => f.write_str(text)?,
            }
        }
        for (n, part) in self.build.iter().enumerate() {
            write!(f, "{}{part}", if n == 0 { "+" } else { "." })?;
        }
        Ok(())
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Opaque<'_> {
    pub(crate) fn cel_type(&self) -> Type {
        let name = match self {
            Self::Ip(_) => return Type::opaque("net.IP"),
            Self::Cidr(_) => return Type::opaque("net.CIDR"),
            Self::Quantity { .. } => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer { .. } => "kubernetes.authorization.Authorizer",
            Self::PathCheck { .. } => "kubernetes.authorization.PathCheck",
            Self::GroupCheck { .. } => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck { .. } => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        };
        Type::object(name)
    }

    /// Its text, where there is one.
    pub(crate) fn to_text(&self) -> Option<String> {
        match self {
            Self::Quantity { amount, .. } => Some(amount.to_string()),
            Self::Ip(it) => Some(it.to_string()),
            Self::Cidr(it) => Some(it.to_string()),
            Self::Url(it) => Some(it.text.to_string()),
            Self::Semver(it) => Some(it.to_string()),
            _ => None,
        }
    }

    /// The bytes of an address.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Ip(IpAddr::V4(_)) => Some(4),
            Self::Ip(IpAddr::V6(_)) => Some(16),
            Self::Cidr(it) => Some(u64::from(it.bits).div_ceil(8)),
            _ => None,
        }
    }

    /// Whether two are the same, if they can be compared.
    pub(crate) fn equals(&self, other: &Self) -> Option<bool> {
        Some(match (self, other) {
            (Self::Quantity { amount: a, .. }, Self::Quantity { amount: b, .. }) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a.text == b.text,
            (Self::Semver(a), Self::Semver(b)) => a.compare(b) == Ordering::Equal,
            (Self::Format(a), Self::Format(b)) => a == b,
            _ => return None,
        })
    }
}

impl fmt::Debug for Opaque<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.cel_type(), self.to_text().unwrap_or_default())
    }
}
