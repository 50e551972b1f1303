//! Taints of nodes and tolerations of pods.

use serde::Deserialize;

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
    #[serde(other)]
    Unknown,
}

impl Effect {
    /// Keeps new pods off the node.
    pub fn forbids(self) -> bool {
        matches!(self, Self::NoSchedule | Self::NoExecute)
    }
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Taint {
    pub key: String,
    #[serde(default)]
    pub value: String,
    pub effect: Effect,
}

/// A toleration of a pod; no effect tolerates all effects, no key with `Exists` all taints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Toleration {
    pub key: String,
    pub operator: String,
    pub value: String,
    pub effect: String,
}

impl Toleration {
    fn tolerates(&self, taint: &Taint) -> bool {
        let effect = match self.effect.as_str() {
            "" => None,
            "NoSchedule" => Some(Effect::NoSchedule),
            "PreferNoSchedule" => Some(Effect::PreferNoSchedule),
            "NoExecute" => Some(Effect::NoExecute),
            _ => Some(Effect::Unknown),
        };
        if effect.is_some_and(|e| e != taint.effect) || (!self.key.is_empty() && self.key != taint.key) {
            return false;
        }
        match self.operator.as_str() {
            "" | "Equal" => self.value == taint.value,
            "Exists" => true,
            _ => false,
        }
    }
}

/// Whether one of the tolerations tolerates the taint.
pub fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| t.tolerates(taint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_match_by_effect_key_and_value() {
        let taint = Taint { key: "k".into(), value: "v".into(), effect: Effect::NoSchedule };
        let case = |key: &str, operator: &str, value: &str, effect: &str| {
            let t =
                Toleration { key: key.into(), operator: operator.into(), value: value.into(), effect: effect.into() };
            tolerated(&[t], &taint)
        };
        assert!(case("k", "Equal", "v", "NoSchedule"));
        assert!(case("k", "", "v", ""));
        assert!(case("", "Exists", "", ""));
        assert!(!case("k", "Equal", "w", ""));
        assert!(!case("k", "Exists", "", "NoExecute"));
        assert!(!case("l", "Exists", "", ""));
        assert!(!case("k", "Near", "v", ""));
    }
}
