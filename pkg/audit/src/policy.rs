//! How much is recorded of which request: `audit.k8s.io/v1.Policy`.

use kedge_meta::{UserInfo, names};
use serde::Deserialize;
use serde_json::Value;

use crate::{Level, Stage};

/// Why a policy is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("failed decoding: {0}")]
    Decoding(String),
    #[error("unknown group version field {0} in policy")]
    Version(String),
    #[error("loaded illegal policy with 0 rules")]
    Empty,
    #[error("{0}")]
    Invalid(String),
}

/// A policy. Its first rule that matches a request counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
    /// The paths of fields that no policy has; misspelled, a rule may be about more than was meant.
    #[serde(skip)]
    pub unknown: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What a policy is asked about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    pub user: Option<&'a UserInfo>,
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub path: &'a str,
    pub is_resource: bool,
}

/// What a policy says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    omitted: [bool; 4],
    pub omit_managed_fields: bool,
}

impl Verdict {
    /// Whether something is recorded at a stage.
    pub fn records(&self, stage: Stage) -> bool {
        self.level != Level::None && !self.omitted[stage as usize]
    }
}

impl Policy {
    /// Reads a policy in YAML or JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, PolicyError> {
        let value: Value = serde_yaml::from_str(text).map_err(|why| PolicyError::Decoding(why.to_string()))?;
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (field("apiVersion"), field("kind"));
        if (version, kind) != ("audit.k8s.io/v1", "Policy") {
            return Err(PolicyError::Version(format!("{version}, Kind={kind}")));
        }
        if let Some(wrong) = wrong(&value) {
            return Err(PolicyError::Invalid(wrong));
        }
        let mut unknown = Vec::new();
        let mut of_policy = |path: serde_ignored::Path<'_>| match path.to_string() {
            of_every_object if ["apiVersion", "kind", "metadata"].contains(&&*of_every_object) => {}
            path => unknown.push(path),
        };
        let read: Result<Self, _> = serde_ignored::deserialize(value, &mut of_policy);
        let mut policy = read.map_err(|why| PolicyError::Decoding(why.to_string()))?;
        policy.unknown = unknown;
        if policy.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        let wrong: Vec<String> =
            policy.rules.iter().enumerate().flat_map(|(at, rule)| rule.wrong(&format!("rules[{at}]"))).collect();
        match wrong.as_slice() {
            [] => Ok(policy),
            [one] => Err(PolicyError::Invalid(one.clone())),
            all => Err(PolicyError::Invalid(format!("[{}]", all.join(", ")))),
        }
    }

    /// What of a request is recorded.
    pub fn judge(&self, asked: &Asked<'_>) -> Verdict {
        let rule = self.rules.iter().find(|rule| rule.matches(asked));
        let mut omitted = [false; 4];
        let own = rule.map(|rule| rule.omit_stages.as_slice()).unwrap_or_default();
        for stage in self.omit_stages.iter().chain(own) {
            omitted[*stage as usize] = true;
        }
        Verdict {
            level: rule.map_or(Level::None, |rule| rule.level),
            omitted,
            omit_managed_fields: rule.and_then(|rule| rule.omit_managed_fields).unwrap_or(self.omit_managed_fields),
        }
    }
}

const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];
const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

/// Values that are none of those that there are, which decoding would say less about.
fn wrong(policy: &Value) -> Option<String> {
    let list = |of: &Value, name: &str| of.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let stages = |of: &Value, path: &str| {
        let all = list(of, "omitStages");
        let unknown = all.iter().enumerate().find(|(_, stage)| !stage.as_str().is_some_and(|s| STAGES.contains(&s)))?;
        let (at, stage) = unknown;
        Some(format!("{path}omitStages[{at}]: Invalid value: {stage}: allowed stages are {}", STAGES.join(",")))
    };
    stages(policy, "").or_else(|| {
        list(policy, "rules").iter().enumerate().find_map(|(at, rule)| {
            let level = rule.get("level").and_then(Value::as_str).unwrap_or_default();
            if level.is_empty() {
                return Some(format!("rules[{at}].level: Required value"));
            }
            if !LEVELS.contains(&level) {
                let all = LEVELS.map(|level| format!("{level:?}")).join(", ");
                return Some(format!("rules[{at}].level: Unsupported value: {level:?}: supported values: {all}"));
            }
            stages(rule, &format!("rules[{at}]."))
        })
    })
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == wanted)
}

impl Rule {
    /// What is wrong with it.
    fn wrong(&self, path: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for (at, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            let mut say = |why| wrong.push(format!("{path}.nonResourceURLs[{at}]: Invalid value: {url:?}: {why}"));
            if !url.starts_with('/') {
                say("non-resource URL rules must begin with a '/' character");
            }
            if url.strip_suffix(|_| true).is_some_and(|url| url.contains('*')) {
                say("non-resource URL wildcards '*' must be the final character of the rule");
            }
        }
        for resources in &self.resources {
            let GroupResources { group, resources, resource_names } = resources;
            if !group.is_empty() && group != "*" {
                let why = names::is_dns1123_subdomain(group);
                if !why.is_empty() {
                    wrong.push(format!("{path}.resources.group: Invalid value: {group:?}: {}", why.join(",")));
                }
            }
            if !resource_names.is_empty() && resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                wrong.push(format!("{path}.resources.resourceNames: Invalid value: {resource_names:?}: {why}"));
            }
        }
        let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if about_resources && !self.non_resource_urls.is_empty() {
            let (why, urls) =
                ("rules cannot apply to both regular resources and non-resource URLs", &self.non_resource_urls);
            wrong.push(format!("{path}.nonResourceURLs: Invalid value: {urls:?}: {why}"));
        }
        wrong
    }

    fn matches(&self, asked: &Asked<'_>) -> bool {
        let is_user = |user: &UserInfo| {
            (self.users.is_empty() || has(&self.users, &user.name))
                && (self.user_groups.is_empty() || user.groups.iter().any(|group| has(&self.user_groups, group)))
        };
        let anybody = self.users.is_empty() && self.user_groups.is_empty();
        if !asked.user.map_or(anybody, is_user) || !(self.verbs.is_empty() || has(&self.verbs, asked.verb)) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return asked.is_resource
                && (self.namespaces.is_empty() || has(&self.namespaces, asked.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.matches(asked)));
        }
        let is_below = |url: &String| match url.strip_suffix('*') {
            Some(above) => asked.path.starts_with(above.trim_end_matches('*')),
            None => url == asked.path,
        };
        self.non_resource_urls.is_empty() || (!asked.is_resource && self.non_resource_urls.iter().any(is_below))
    }
}

impl GroupResources {
    fn matches(&self, asked: &Asked<'_>) -> bool {
        if self.group != "*" && self.group != asked.group {
            return false;
        }
        let named = self.resource_names.is_empty() || has(&self.resource_names, asked.name);
        let is_resource = |entry: &String| match entry.split_once('/') {
            None => entry == "*" || (asked.subresource.is_empty() && entry == asked.resource),
            Some(("*", subresource)) if subresource == asked.subresource => true,
            Some((resource, "*")) => resource == asked.resource,
            Some(both) => both == (asked.resource, asked.subresource),
        };
        self.resources.is_empty() || (named && self.resources.iter().any(is_resource))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn policy(rules: &str) -> Result<Policy, PolicyError> {
        Policy::read(&format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n{rules}"
        ))
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let policy = policy(
            "
- {level: None, users: ['system:kube-proxy'], verbs: [watch], resources: [{group: '', resources: [endpoints]}]}
- {level: None, userGroups: ['system:authenticated'], nonResourceURLs: ['/api*', '/version']}
- {level: Request, namespaces: [kube-system], resources: [{group: '', resources: [configmaps]}], omitManagedFields: true}
- {level: Metadata, resources: [{group: '', resources: ['secrets', 'pods/*', '*/scale'], resourceNames: [a]}]}
- {level: RequestResponse, resources: [{group: '*', resources: [deployments]}, {group: batch}], omitStages: [Panic]}
",
        )
        .unwrap();
        let resource = |user: &str,
                        verb: &'static str,
                        what: (&'static str, &'static str, &'static str),
                        at: (&'static str, &'static str)| {
            let user = UserInfo::new(user, &["system:authenticated"]);
            let (group, resource, subresource) = what;
            let (namespace, name) = at;
            let asked = Asked {
                user: Some(&user),
                verb,
                group,
                resource,
                subresource,
                namespace,
                name,
                path: "",
                is_resource: true,
            };
            policy.judge(&asked)
        };
        let level = |verb, what, at| resource("u", verb, what, at).level;
        assert_eq!(resource("system:kube-proxy", "watch", ("", "endpoints", ""), ("", "")).level, Level::None);
        assert_eq!(level("update", ("", "configmaps", ""), ("kube-system", "x")), Level::Request);
        assert!(resource("u", "update", ("", "configmaps", ""), ("kube-system", "x")).omit_managed_fields);
        assert_eq!(level("update", ("", "configmaps", ""), ("other", "x")), Level::None);
        assert_eq!(level("get", ("", "secrets", ""), ("n", "a")), Level::Metadata);
        assert_eq!(level("get", ("", "secrets", ""), ("n", "b")), Level::None);
        assert_eq!(level("get", ("", "pods", "log"), ("n", "a")), Level::Metadata);
        assert_eq!(
            level("get", ("", "pods", ""), ("n", "a")),
            Level::Metadata,
            "as upstream, the resource itself, too"
        );
        assert_eq!(level("get", ("", "replicationcontrollers", "scale"), ("n", "a")), Level::Metadata);
        assert_eq!(level("get", ("apps", "deployments", ""), ("n", "a")), Level::RequestResponse);
        assert_eq!(level("get", ("apps", "deployments", "scale"), ("n", "b")), Level::None);
        let job = resource("u", "create", ("batch", "jobs", "status"), ("n", ""));
        assert_eq!(job.level, Level::RequestResponse);
        assert!(job.records(Stage::ResponseComplete) && job.records(Stage::ResponseStarted));
        assert!(!job.records(Stage::RequestReceived) && !job.records(Stage::Panic));
    }

    #[test]
    fn paths_end_in_stars() {
        let policy = policy("- {level: Metadata, nonResourceURLs: ['/healthz*', '/metrics']}").unwrap();
        let level = |path| policy.judge(&Asked { verb: "get", path, ..Asked::default() }).level;
        assert_eq!(level("/healthz/ping"), Level::Metadata);
        assert_eq!(level("/metrics"), Level::Metadata);
        assert_eq!(level("/metrics/slis"), Level::None);
    }

    #[test]
    fn fields_that_no_policy_has_are_named() {
        let read = Policy::read(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nmetadata: {name: p}\nrules: [{level: None, user: [x]}]\nomit: []",
        );
        assert_eq!(read.unwrap().unknown, ["omit", "rules.0.user"]);
        assert!(policy("- {level: None, users: [x]}").unwrap().unknown.is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        let why = |rules: &str| policy(rules).unwrap_err().to_string();
        assert_eq!(
            Policy::read("kind: Policy").unwrap_err().to_string(),
            "unknown group version field , Kind=Policy in policy"
        );
        assert_eq!(why("  []"), "loaded illegal policy with 0 rules");
        assert_eq!(why("- {}"), "rules[0].level: Required value");
        assert_eq!(
            why("- {level: All}"),
            "rules[0].level: Unsupported value: \"All\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\""
        );
        assert!(
            why("- {level: None, omitStages: [Later]}").starts_with("rules[0].omitStages[0]: Invalid value: \"Later\"")
        );
        let why = why("- {level: None, nonResourceURLs: ['api', '/a*b'], namespaces: [n]}");
        for part in ["begin with a '/'", "must be the final character", "both regular resources and non-resource"] {
            assert!(why.contains(part), "{why}");
        }
    }
}
