//! Rules compared with rules: what one set allows and another does not.

use std::collections::HashMap;

use crate::rbac::PolicyRule;

/// The parts of `wanted`, each of one verb and one resource or path, that `owned` does not allow; in their order.
pub fn uncovered(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let covered = |part: &PolicyRule| owned.iter().any(|own| includes(own, part));
    wanted.iter().flat_map(single).filter(|part| !covered(part)).collect()
}

/// Texts as Go's `%q` writes a list of them.
pub fn quoted(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// Single rules in words, a line each: verbs of one resource together, sorted.
pub fn described(rules: &[PolicyRule]) -> String {
    let mut together: HashMap<_, PolicyRule> = HashMap::new();
    let mut apart: Vec<&PolicyRule> = Vec::new();
    for rule in rules {
        if !rule.non_resource_urls.is_empty() {
            apart.push(rule);
            continue;
        }
        let key = (&rule.api_groups, &rule.resources, &rule.resource_names);
        match together.get_mut(&key) {
            Some(other) => other.verbs.extend(rule.verbs.iter().cloned()),
            None => drop(together.insert(key, rule.clone())),
        }
    }
    let mut lines: Vec<String> = together.values().chain(apart).map(line).collect();
    lines.sort();
    lines.dedup();
    lines.join("\n")
}

fn line(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts = parts.iter().filter(|(_, texts)| !texts.is_empty());
    let parts: Vec<String> = parts.map(|(name, texts)| format!("{name}:{}", quoted(texts))).collect();
    format!("{{{}}}", parts.join(", "))
}

/// A rule as rules of one verb, one group, one resource and one name, or one path each.
fn single(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut out = Vec::new();
    let one = |text: &String| vec![text.clone()];
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let base = PolicyRule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    out.push(base);
                } else {
                    out.extend(
                        rule.resource_names.iter().map(|n| PolicyRule { resource_names: one(n), ..base.clone() }),
                    );
                }
            }
        }
    }
    for url in &rule.non_resource_urls {
        for verb in &rule.verbs {
            out.push(PolicyRule { verbs: one(verb), non_resource_urls: one(url), ..PolicyRule::default() });
        }
    }
    out
}

/// Whether a rule of any size includes a single one.
fn includes(own: &PolicyRule, wanted: &PolicyRule) -> bool {
    let has = |own: &[String], wanted: &[String]| wanted.iter().all(|w| own.iter().any(|o| o == "*" || o == w));
    if !has(&own.verbs, &wanted.verbs) {
        return false;
    }
    if let Some(url) = wanted.non_resource_urls.first() {
        let covered = |own: &String| match own.strip_suffix('*') {
            Some(prefix) => url.starts_with(prefix),
            None => own == url,
        };
        return own.non_resource_urls.iter().any(covered);
    }
    let resources = wanted.resources.iter().all(|w| {
        let all_of = w.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        own.resources.iter().any(|o| o == "*" || o == w || all_of.as_ref() == Some(o))
    });
    let names = own.resource_names.is_empty()
        || (!wanted.resource_names.is_empty() && wanted.resource_names.iter().all(|w| own.resource_names.contains(w)));
    has(&own.api_groups, &wanted.api_groups) && resources && names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> PolicyRule {
        PolicyRule {
            verbs: own(verbs),
            api_groups: vec![group.into()],
            resources: own(resources),
            ..PolicyRule::default()
        }
    }

    #[test]
    fn what_is_wanted_must_be_held() {
        let held = [rule(&["get", "list"], "", &["pods"])];
        let all = |wanted: PolicyRule| uncovered(&held, &[wanted]).is_empty();
        assert!(all(rule(&["get"], "", &["pods"])));
        assert!(!all(rule(&["get", "delete"], "", &["pods"])));
        assert!(!all(rule(&["get"], "", &["pods", "secrets"])));
        assert!(!all(rule(&["*"], "", &["pods"])));
        let mut narrow = held.clone();
        narrow[0].resource_names = own(&["one"]);
        assert!(!uncovered(&narrow, &[rule(&["get"], "", &["pods"])]).is_empty(), "one name is not all names");
        let paths = PolicyRule { verbs: own(&["*"]), non_resource_urls: own(&["*"]), ..PolicyRule::default() };
        let everything = [rule(&["*"], "*", &["*"]), paths];
        assert!(uncovered(&everything, &everything).is_empty());
        assert_eq!(uncovered(&everything[..1], &everything).len(), 1, "paths are no resources");
    }

    #[test]
    fn what_lacks_is_described_as_upstream_does() {
        let mut named = rule(&["get", "list"], "", &["secrets"]);
        named.resource_names = own(&["one"]);
        let wanted = [rule(&["get", "list"], "", &["secrets"]), rule(&["list"], "", &["pods"]), named];
        let text = "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}\n\
                    {APIGroups:[\"\"], Resources:[\"secrets\"], ResourceNames:[\"one\"], Verbs:[\"get\" \"list\"]}\n\
                    {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}";
        assert_eq!(described(&uncovered(&[], &wanted)), text);
    }

    #[test]
    fn only_the_parts_that_lack_are_named() {
        let held = [rule(&["get"], "apps", &["deployments"])];
        let lacking = uncovered(&held, &[rule(&["get", "list"], "apps", &["deployments", "replicasets"])]);
        let expected = [("list", "deployments"), ("get", "replicasets"), ("list", "replicasets")]
            .map(|(v, r)| rule(&[v], "apps", &[r]));
        assert_eq!(lacking, expected);
    }
}
