//! What of a flow schema decides whether a request matches it.

use kedge_meta::nullable;
use serde::Deserialize;

use super::Meta;
use super::queues::Response;
use super::shares::Share;
use crate::input::request_info::RequestInfo;

const ALL: &str = "*";

/// `flowcontrol/v1.PriorityLevelConfiguration`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PriorityLevel {
    pub metadata: Meta,
    spec: LevelSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LevelSpec {
    limited: Option<Limits>,
    exempt: Option<Limits>,
}

/// `flowcontrol/v1.LimitedPriorityLevelConfiguration`, and what of it the exempt one has, too.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limits {
    nominal_concurrency_shares: Option<u32>,
    lendable_percent: Option<u32>,
    borrowing_limit_percent: Option<u32>,
    limit_response: LimitResponse,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LimitResponse {
    queuing: Option<Queuing>,
}

/// `flowcontrol/v1.QueuingConfiguration`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Queuing {
    queues: usize,
    hand_size: usize,
    queue_length_limit: usize,
}

/// Upstream's default.
const SHARES: u32 = 30;

impl PriorityLevel {
    /// How it answers, and its share; none for what is neither limited nor exempt, which validation lets nobody store.
    pub fn understood(&self) -> Option<(Response, Share)> {
        let share = |limits: &Limits, shares: u32| Share {
            shares: limits.nominal_concurrency_shares.unwrap_or(shares),
            lends: limits.lendable_percent.unwrap_or_default(),
            borrows: limits.borrowing_limit_percent,
        };
        match (&self.spec.limited, &self.spec.exempt) {
            (Some(limits), None) => {
                let response =
                    limits.limit_response.queuing.as_ref().map_or(Response::Reject, |queuing| Response::Queue {
                        queues: queuing.queues.max(1),
                        hand: queuing.hand_size.max(1),
                        length: queuing.queue_length_limit,
                    });
                Some((response, share(limits, SHARES)))
            }
            (None, Some(limits)) => Some((Response::Exempt, share(limits, 0))),
            _ => None,
        }
    }
}

/// `flowcontrol/v1.FlowSchema`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FlowSchema {
    pub metadata: Meta,
    pub spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub priority_level_configuration: Named,
    pub matching_precedence: i32,
    pub distinguisher_method: Option<DistinguisherMethod>,
    pub rules: Option<Vec<PolicyRule>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DistinguisherMethod {
    #[serde(rename = "type")]
    pub by: Distinguisher,
}

/// What tells flows of a schema from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Distinguisher {
    ByUser,
    ByNamespace,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub name: String,
    pub namespace: String,
}

/// `flowcontrol/v1.PolicyRulesWithSubjects`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PolicyRule {
    pub subjects: Option<Vec<Subject>>,
    pub resource_rules: Option<Vec<ResourceRule>>,
    pub non_resource_rules: Option<Vec<PathRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Subject {
    kind: String,
    user: Option<Named>,
    group: Option<Named>,
    service_account: Option<Named>,
}

/// Whom a rule is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whom<'a> {
    Everybody,
    User(String),
    Group(&'a str),
    /// All service accounts of a namespace.
    Accounts(&'a str),
}

impl Subject {
    /// None for nobody.
    pub fn whom(&self) -> Option<Whom<'_>> {
        match self.kind.as_str() {
            "User" => self.user.as_ref().map(|user| match user.name.as_str() {
                ALL => Whom::Everybody,
                name => Whom::User(name.to_owned()),
            }),
            "Group" => self.group.as_ref().map(|group| match group.name.as_str() {
                ALL => Whom::Everybody,
                name => Whom::Group(name),
            }),
            "ServiceAccount" => self.service_account.as_ref().map(|account| match account.name.as_str() {
                ALL => Whom::Accounts(&account.namespace),
                name => Whom::User(format!("{}{}:{name}", super::index::ACCOUNT, account.namespace)),
            }),
            _ => None,
        }
    }
}

/// `flowcontrol/v1.ResourcePolicyRule`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResourceRule {
    #[serde(deserialize_with = "nullable")]
    verbs: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    api_groups: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    resources: Vec<String>,
    cluster_scope: bool,
    #[serde(deserialize_with = "nullable")]
    namespaces: Vec<String>,
}

/// `flowcontrol/v1.NonResourcePolicyRule`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PathRule {
    #[serde(deserialize_with = "nullable")]
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs", deserialize_with = "nullable")]
    urls: Vec<String>,
}

/// As upstream, `*` stands for everything only where it stands alone.
fn has(list: &[String], is_wanted: impl Fn(&str) -> bool) -> bool {
    matches!(list, [only] if only == ALL) || list.iter().any(|entry| is_wanted(entry))
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let is_resource = |entry: &str| match info.subresource.as_str() {
            "" => entry == info.resource,
            subresource => entry.split_once('/') == Some((info.resource.as_str(), subresource)),
        };
        has(&self.verbs, |verb| verb == info.verb)
            && has(&self.resources, is_resource)
            && has(&self.api_groups, |group| group == info.group)
            && match info.namespace.as_str() {
                "" => self.cluster_scope,
                namespace => has(&self.namespaces, |entry| entry == namespace),
            }
    }
}

impl PathRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        // What stands before a star, or the whole, is a directory as well.
        let is_below = |url: &str| {
            let directory = url.strip_suffix(ALL).unwrap_or(url);
            let directory = directory.strip_suffix('/').unwrap_or(directory);
            info.path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
        };
        has(&self.verbs, |verb| verb == info.verb)
            && self.urls.iter().any(|url| url == ALL || *url == info.path || is_below(url))
    }
}

impl PolicyRule {
    /// Whether the rule is about what is asked for, whoever asks.
    pub fn matches(&self, info: &RequestInfo) -> bool {
        if info.is_resource {
            self.resource_rules.iter().flatten().any(|rule| rule.matches(info))
        } else {
            self.non_resource_rules.iter().flatten().any(|rule| rule.matches(info))
        }
    }
}
