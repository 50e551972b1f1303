//! What is read of a policy.

use kedge_meta::{GroupVersionKind, ObjectMeta};
use serde::Deserialize;

use crate::objects::{keyed, nullable};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Policy {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}
keyed!(Policy);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub observed_generation: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub param_kind: Option<ParamKind>,
    pub match_constraints: Constraints,
    #[serde(deserialize_with = "nullable")]
    pub variables: Vec<Variable>,
    #[serde(deserialize_with = "nullable")]
    pub validations: Vec<Validation>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ParamKind {
    pub api_version: String,
    pub kind: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Constraints {
    #[serde(deserialize_with = "nullable")]
    pub resource_rules: Vec<Rule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    #[serde(deserialize_with = "nullable")]
    pub api_groups: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub api_versions: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub resources: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Variable {
    pub name: String,
    pub expression: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Validation {
    pub expression: String,
    pub message_expression: String,
}

impl ParamKind {
    pub(super) fn gvk(&self) -> GroupVersionKind {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        GroupVersionKind::new(group, version, &*self.kind)
    }
}

impl Rule {
    /// The resources that it names, in order; none if it leaves groups or versions open.
    pub(super) fn named(&self) -> Vec<(&str, &str, &str)> {
        let open = |words: &[String]| words.iter().any(|word| word.contains('*'));
        if open(&self.api_groups) || open(&self.api_versions) {
            return Vec::new();
        }
        let mut named = Vec::new();
        for group in &self.api_groups {
            for version in &self.api_versions {
                let resources = self.resources.iter().filter(|name| !name.contains(['*', '/']));
                named.extend(resources.map(|resource| (&**group, &**version, &**resource)));
            }
        }
        named.sort_unstable();
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_open_names_nothing() {
        let rule = |groups: &[&str], resources: &[&str]| {
            let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            Rule { api_groups: own(groups), api_versions: vec!["v1".into()], resources: own(resources) }
        };
        assert_eq!(
            rule(&["apps"], &["x", "deployments", "pods/status", "*"]).named(),
            [("apps", "v1", "deployments"), ("apps", "v1", "x")]
        );
        assert!(rule(&["*"], &["deployments"]).named().is_empty());
    }
}
