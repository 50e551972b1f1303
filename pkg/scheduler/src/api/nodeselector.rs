//! Node selectors: `nodeSelector`, required and preferred node affinity, and node affinity of volumes.

use std::collections::BTreeSet;

use kedge_meta::StringMap;
use serde::Deserialize;

/// A node selector: one of its terms must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelector {
    pub node_selector_terms: Vec<Term>,
}

/// All of its expressions and fields must match; an empty term matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Term {
    pub match_expressions: Vec<Expression>,
    pub match_fields: Vec<Expression>,
}

/// A condition on a label or on the field `metadata.name`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Expression {
    pub key: String,
    pub operator: String,
    pub values: Vec<String>,
}

/// A term with the weight it adds to the score of a node it matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PreferredTerm {
    pub weight: i64,
    pub preference: Term,
}

impl Expression {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|w| w == v);
        match self.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => self.compare(value).is_some_and(|(have, want)| have > want),
            "Lt" => self.compare(value).is_some_and(|(have, want)| have < want),
            _ => false,
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl Term {
    /// Whether a node of that name with those labels matches.
    pub fn matches(&self, name: &str, labels: &StringMap) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        let field = |key: &str| (key == "metadata.name").then_some(name);
        self.match_expressions.iter().all(|e| e.matches(labels.get(&e.key)))
            && self.match_fields.iter().all(|e| e.matches(field(&e.key)))
    }

    /// The node names it is limited to; `None` if it is not limited by name.
    fn names(&self) -> Option<BTreeSet<&str>> {
        let mut names: Option<BTreeSet<&str>> = None;
        for field in self.match_fields.iter().filter(|f| f.key == "metadata.name" && f.operator == "In") {
            let listed: BTreeSet<&str> = field.values.iter().map(String::as_str).collect();
            names = Some(names.map_or(listed.clone(), |n| n.intersection(&listed).copied().collect()));
        }
        names
    }
}

impl NodeSelector {
    /// Whether one term matches.
    pub fn matches(&self, name: &str, labels: &StringMap) -> bool {
        self.node_selector_terms.iter().any(|t| t.matches(name, labels))
    }

    /// The node names it is limited to; `None` if a term is not limited by name.
    pub fn names(&self) -> Option<BTreeSet<&str>> {
        let mut names = BTreeSet::new();
        for term in &self.node_selector_terms {
            names.extend(term.names()?);
        }
        (!self.node_selector_terms.is_empty()).then_some(names)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn matches(term: serde_json::Value) -> bool {
        let term: Term = serde_json::from_value(term).unwrap();
        term.matches("n1", &StringMap::from([("cores", "8"), ("disk", "ssd")]))
    }

    #[test]
    fn terms_match_labels_and_the_name() {
        let label = |key: &str, op: &str, values: &[&str]| {
            matches(json!({"matchExpressions": [{"key": key, "operator": op, "values": values}]}))
        };
        assert!(label("disk", "In", &["hdd", "ssd"]) && !label("disk", "NotIn", &["ssd"]));
        assert!(label("gpu", "NotIn", &["a"]) && label("gpu", "DoesNotExist", &[]) && label("disk", "Exists", &[]));
        assert!(label("cores", "Gt", &["7"]) && !label("cores", "Lt", &["8"]) && !label("disk", "Gt", &["1"]));
        assert!(matches(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})));
        assert!(!matches(json!({})), "an empty term matches nothing");
    }

    #[test]
    fn names_are_known_only_if_all_terms_have_them() {
        let by_name = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]});
        let selector: NodeSelector =
            serde_json::from_value(json!({"nodeSelectorTerms": [by_name.clone(), by_name.clone()]})).unwrap();
        assert_eq!(selector.names().unwrap().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        let other = json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]});
        let selector: NodeSelector = serde_json::from_value(json!({"nodeSelectorTerms": [by_name, other]})).unwrap();
        assert_eq!(selector.names(), None);
    }
}
