//! Affinity and anti-affinity between pods, with selectors parsed.

use std::collections::BTreeSet;

use kedge_meta::StringMap;
use kedge_meta::labels::{Operator, Requirement, Selector};
use serde::Deserialize;
use serde_json::Value;
use tracing::warn;

/// The four lists of terms of a pod; preferred ones with their weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodAffinity {
    pub required: Vec<PodAffinityTerm>,
    pub anti_required: Vec<PodAffinityTerm>,
    pub preferred: Vec<(i64, PodAffinityTerm)>,
    pub anti_preferred: Vec<(i64, PodAffinityTerm)>,
}

/// Pods in some namespaces with some labels, within a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodAffinityTerm {
    pub topology_key: String,
    namespaces: BTreeSet<String>,
    namespace_selector: Selector,
    selector: Selector,
}

impl PodAffinityTerm {
    /// Whether a pod of that namespace and with those labels is meant. `namespace_labels` is asked only if needed.
    pub fn matches(&self, namespace: &str, labels: &StringMap, namespace_labels: impl FnOnce() -> StringMap) -> bool {
        let in_namespace = self.namespaces.contains(namespace)
            || self.namespace_selector.is_everything()
            || (!self.namespace_selector.requirements().is_empty()
                && self.namespace_selector.matches(&namespace_labels()));
        in_namespace && self.selector.matches(labels)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawAffinityTerms {
    required_during_scheduling_ignored_during_execution: Vec<RawTerm>,
    preferred_during_scheduling_ignored_during_execution: Vec<RawWeighted>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawTerm {
    label_selector: Value,
    namespaces: BTreeSet<String>,
    namespace_selector: Value,
    topology_key: String,
    match_label_keys: Vec<String>,
    mismatch_label_keys: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawWeighted {
    weight: i64,
    pod_affinity_term: RawTerm,
}

/// A parsed label selector; one that cannot be parsed selects nothing, as the API server would have refused it.
pub fn selector(value: &Value) -> Selector {
    Selector::from_label_selector(value).unwrap_or_else(|err| {
        warn!(error = %err, "label selector taken to select nothing");
        Selector::nothing()
    })
}

/// The selector narrowed to the pod's own values of `keys` (or, with `NotIn`, to other values).
pub fn with_own_labels(base: Selector, keys: &[String], operator: Operator, labels: &StringMap) -> Selector {
    let own = |key: &String| {
        let value = labels.get(key)?;
        Some(Requirement { key: key.clone(), operator, values: BTreeSet::from([value.to_owned()]) })
    };
    let own: Vec<_> = keys.iter().filter_map(own).collect();
    if own.is_empty() || base == Selector::nothing() {
        return base;
    }
    Selector::from_requirements(base.requirements().iter().cloned().chain(own).collect())
}

impl PodAffinity {
    /// Parses the two lists of a pod; `None` if there are no terms.
    pub fn parse(
        affinity: RawAffinityTerms,
        anti: RawAffinityTerms,
        namespace: &str,
        labels: &StringMap,
    ) -> Option<Self> {
        let term = |raw: RawTerm| {
            let unset = raw.namespaces.is_empty() && raw.namespace_selector.is_null();
            let namespaces = if unset { BTreeSet::from([namespace.to_owned()]) } else { raw.namespaces };
            // The API server merges these keys into the selector; doing it again changes nothing.
            let matching = with_own_labels(selector(&raw.label_selector), &raw.match_label_keys, Operator::In, labels);
            PodAffinityTerm {
                topology_key: raw.topology_key,
                namespaces,
                namespace_selector: selector(&raw.namespace_selector),
                selector: with_own_labels(matching, &raw.mismatch_label_keys, Operator::NotIn, labels),
            }
        };
        let required = |raw: Vec<RawTerm>| raw.into_iter().map(term).collect::<Vec<_>>();
        let preferred =
            |raw: Vec<RawWeighted>| raw.into_iter().map(|w| (w.weight, term(w.pod_affinity_term))).collect::<Vec<_>>();
        let out = Self {
            required: required(affinity.required_during_scheduling_ignored_during_execution),
            anti_required: required(anti.required_during_scheduling_ignored_during_execution),
            preferred: preferred(affinity.preferred_during_scheduling_ignored_during_execution),
            anti_preferred: preferred(anti.preferred_during_scheduling_ignored_during_execution),
        };
        (out != Self::default()).then_some(out)
    }
}
