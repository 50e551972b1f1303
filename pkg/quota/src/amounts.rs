//! Amounts by the names of resources.

use std::collections::BTreeMap;

use kedge_meta::quantity::Quantity;
use serde_json::Value;

/// Amounts by name: `cpu`, `requests.storage`, `count/configmaps`.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads amounts; what is no amount is left out.
pub fn parse<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Amounts {
    entries.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Quantity::parse(text).ok()?))).collect()
}

/// Amounts that are a map of a tree.
pub fn of(value: Option<&Value>) -> Amounts {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(amount.as_str()?).ok()?))).collect()
}

/// Adds amounts up.
pub fn add(into: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = into.get(name).map_or(*amount, |old| old.add(amount));
        into.insert(name.clone(), sum);
    }
}

/// The larger of each.
pub fn max(into: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        if into.get(name).is_none_or(|old| old < amount) {
            into.insert(name.clone(), *amount);
        }
    }
}

/// What is more than before; nothing is less than zero.
#[must_use]
pub fn growth(now: &Amounts, before: &Amounts) -> Amounts {
    let left = |name: &str, amount: &Quantity| match before.get(name) {
        Some(was) if was >= amount => Quantity::ZERO,
        Some(was) => amount.sub(was),
        None => *amount,
    };
    now.iter().map(|(name, amount)| (name.clone(), left(name, amount))).collect()
}

/// As a message lists them: `a=1,b=2`.
pub fn listed(amounts: &Amounts) -> String {
    let parts: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sums_and_differences() {
        let of = |entries: &[(&str, &str)]| parse(entries.iter().copied());
        let mut sum = of(&[("cpu", "100m"), ("memory", "1Gi")]);
        add(&mut sum, &of(&[("cpu", "1"), ("pods", "2")]));
        assert_eq!(listed(&sum), "cpu=1100m,memory=1Gi,pods=2");
        max(&mut sum, &of(&[("cpu", "1"), ("pods", "3")]));
        assert_eq!(listed(&sum), "cpu=1100m,memory=1Gi,pods=3");
        let growth = growth(&sum, &of(&[("cpu", "100m"), ("memory", "2Gi")]));
        assert_eq!(listed(&growth), "cpu=1,memory=0,pods=3");
        assert_eq!(parse([("cpu", "x")]), Amounts::new());
    }
}
