//! Whether a pod may run on a node, by its node selector and required node affinity.

use kedge_meta::StringMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::objects::Node;

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    pub node_affinity: Option<NodeAffinity>,
    /// Whether it looks at pods of other namespaces, to which or away from which it draws.
    #[serde(rename = "podAffinity", deserialize_with = "crosses_namespaces")]
    pub to_other_namespaces: bool,
    #[serde(rename = "podAntiAffinity", deserialize_with = "crosses_namespaces")]
    pub from_other_namespaces: bool,
}

/// All that is kept of an affinity to pods.
fn crosses_namespaces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(kedge_quota::crosses_namespaces(&Value::deserialize(deserializer)?))
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelector>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelector {
    pub node_selector_terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Term {
    pub match_expressions: Vec<Expression>,
    pub match_fields: Vec<Expression>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Expression {
    pub key: String,
    pub operator: String,
    pub values: Vec<String>,
}

impl Expression {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|x| x == v);
        let compare = |test: fn(i64, i64) -> bool| {
            let numbers = value.and_then(|v| v.parse().ok()).zip(self.values.first().and_then(|v| v.parse().ok()));
            numbers.is_some_and(|(a, b)| test(a, b))
        };
        match self.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compare(|a, b| a > b),
            "Lt" => compare(|a, b| a < b),
            _ => false,
        }
    }
}

impl Term {
    fn matches(&self, node: &Node) -> bool {
        let labels = &node.metadata.labels;
        // A term without requirements selects nothing.
        let empty = self.match_expressions.is_empty() && self.match_fields.is_empty();
        let name = |key: &str| (key == "metadata.name").then_some(node.metadata.name.as_str());
        !empty
            && self.match_expressions.iter().all(|e| e.matches(labels.get(&e.key)))
            && self.match_fields.iter().all(|e| e.matches(name(&e.key)))
    }
}

/// Whether the node has these labels and one of the required terms matches it.
pub fn fits(selector: &StringMap, affinity: Option<&Affinity>, node: &Node) -> bool {
    let required = affinity.and_then(|a| a.node_affinity.as_ref()).and_then(|a| a.required.as_ref());
    selector.iter().all(|(k, v)| node.metadata.labels.get(k) == Some(v))
        && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| t.matches(node)))
}

/// The one node that the affinity allows by name, as pods of DaemonSets have it.
pub fn only_node(affinity: Option<&Affinity>) -> Option<&str> {
    let terms = &affinity?.node_affinity.as_ref()?.required.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|t| &t.match_fields);
    let mut named = fields.filter(|f| f.key == "metadata.name" && f.operator == "In" && f.values.len() == 1);
    named.next().map(|f| f.values[0].as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn terms_are_alternatives_and_their_parts_are_not() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"a": "5", "b": "x"}}})).unwrap();
        let fits = |terms: serde_json::Value| {
            let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
            let affinity: Affinity = serde_json::from_value(json!({"nodeAffinity": required})).unwrap();
            super::fits(&StringMap::new(), Some(&affinity), &node)
        };
        let e =
            |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        assert!(fits(json!([{"matchExpressions": [e("a", "Gt", &["4"]), e("b", "NotIn", &["y"])]}])));
        assert!(!fits(json!([{"matchExpressions": [e("a", "Gt", &["4"]), e("b", "In", &["y"])]}])));
        assert!(fits(
            json!([{"matchExpressions": [e("c", "Exists", &[])]}, {"matchFields": [e("metadata.name", "In", &["n"])]}])
        ));
        assert!(!fits(json!([{}])));
        assert!(!fits(json!([])));
    }

    #[test]
    fn the_only_node_is_found() {
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
        ]}}});
        let affinity: Affinity = serde_json::from_value(affinity).unwrap();
        assert_eq!(only_node(Some(&affinity)), Some("n"));
        assert_eq!(only_node(None), None);
    }
}
