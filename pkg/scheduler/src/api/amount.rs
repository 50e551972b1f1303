//! Amounts of resources as integers: milli-CPU, bytes, and counts of everything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_meta::quantity::Quantity;
use serde::Deserialize;
use tracing::warn;

/// The name of an extended, hugepage or otherwise countable resource.
pub type ScalarName = Arc<str>;

/// One quantity as it stands in JSON; a bare number is allowed.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    Text(String),
    Whole(i64),
    Fraction(f64),
}

/// A resource list as it stands in JSON.
pub type ResourceList = BTreeMap<String, Amount>;

impl Amount {
    fn quantity(&self, resource: &str) -> Quantity {
        let text = match self {
            Self::Whole(n) => return Quantity::from_value(*n),
            Self::Text(text) => text.clone(),
            Self::Fraction(f) => f.to_string(),
        };
        Quantity::parse(&text).unwrap_or_else(|err| {
            // The API server refuses such objects, so this is another server's mistake and no reason to stop.
            warn!(resource, text, error = %err, "quantity counted as zero");
            Quantity::ZERO
        })
    }
}

/// Amounts of resources; sums saturate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Sorted by name, without zero entries only when built by subtraction.
    pub scalar: Vec<(ScalarName, i64)>,
}

impl Resources {
    /// From a resource list; `pods` and unknown unprefixed names are left out.
    pub fn from_list(list: &ResourceList) -> Self {
        let mut out = Self::default();
        for (name, amount) in list {
            let quantity = amount.quantity(name);
            match name.as_str() {
                "cpu" => out.milli_cpu = quantity.milli_value(),
                "memory" => out.memory = quantity.value(),
                "ephemeral-storage" => out.ephemeral_storage = quantity.value(),
                "pods" => {}
                other if is_scalar(other) => out.scalar.push((other.into(), quantity.value())),
                _ => {}
            }
        }
        out
    }

    /// How much of a scalar resource there is; `None` if it is not listed.
    pub fn scalar(&self, name: &str) -> Option<i64> {
        self.scalar.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok().map(|i| self.scalar[i].1)
    }

    /// Adds.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Subtracts.
    pub fn sub(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
    }

    /// Raises each amount to that of `other`.
    pub fn max(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Self, op: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = op(self.milli_cpu, other.milli_cpu);
        self.memory = op(self.memory, other.memory);
        self.ephemeral_storage = op(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            match self.scalar.binary_search_by(|(n, _)| n.cmp(name)) {
                Ok(i) => self.scalar[i].1 = op(self.scalar[i].1, *amount),
                Err(i) => self.scalar.insert(i, (name.clone(), op(0, *amount))),
            }
        }
    }
}

/// The `pods` entry of a node's allocatable resources.
pub fn pod_count(list: &ResourceList) -> i64 {
    list.get("pods").map_or(0, |a| a.quantity("pods").value())
}

/// A storage size in bytes.
pub fn bytes(amount: Option<&Amount>) -> i64 {
    amount.map_or(0, |a| a.quantity("storage").value())
}

/// Resources counted one by one: extended (prefixed) ones, huge pages, attachable volumes.
fn is_scalar(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-") || name.starts_with("attachable-volumes-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(json: serde_json::Value) -> Resources {
        Resources::from_list(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn lists_are_read_and_merged() {
        let mut a = list(serde_json::json!({"cpu": "500m", "memory": "1Gi", "example.com/gpu": 2, "pods": "110"}));
        assert_eq!((a.milli_cpu, a.memory, a.scalar("example.com/gpu")), (500, 1 << 30, Some(2)));
        let b = list(serde_json::json!({"cpu": 1.5, "example.com/dongle": "1", "example.com/gpu": "1"}));
        a.add(&b);
        assert_eq!(
            (a.milli_cpu, a.scalar("example.com/dongle"), a.scalar("example.com/gpu")),
            (2000, Some(1), Some(3))
        );
        a.sub(&b);
        a.max(&b);
        assert_eq!(
            (a.milli_cpu, a.scalar("example.com/dongle"), a.scalar("example.com/gpu")),
            (1500, Some(1), Some(2))
        );
    }
}
