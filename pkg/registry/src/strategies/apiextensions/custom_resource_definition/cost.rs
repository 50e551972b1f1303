//! What the rules of a schema may cost.

use kedge_meta::field::{Error, ErrorList, Path};

use super::schema::Schema;

/// Most that one expression may cost, and all of a schema.
pub(super) const EXPRESSION_LIMIT: u64 = 10_000_000;
pub(super) const SCHEMA_LIMIT: u64 = 100_000_000;
/// Rules that are named when all cost too much.
const NAMED: usize = 4;

/// What the rules of one schema cost together.
#[derive(Default)]
pub(super) struct Total {
    cost: u64,
    /// The most expensive ones, most first; none that is less than a hundredth of the limit.
    most: Vec<(u64, Path)>,
}

impl Total {
    pub fn observe(&mut self, path: &Path, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
        if cost < SCHEMA_LIMIT / 100 {
            return;
        }
        let place = self.most.iter().position(|(other, _)| *other < cost).unwrap_or(self.most.len());
        self.most.insert(place, (cost, path.clone()));
        self.most.truncate(NAMED);
    }

    /// What is wrong with it, for the schema at `path`.
    pub fn check(&self, path: &Path, errors: &mut ErrorList) {
        if self.cost <= SCHEMA_LIMIT {
            return;
        }
        for (_, rule) in &self.most {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(Error::forbidden(rule, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(Error::forbidden(path, message(what, self.cost, SCHEMA_LIMIT)));
    }
}

/// Upstream's words for what costs too much.
#[allow(clippy::cast_precision_loss)]
pub(super) fn message(what: &str, cost: u64, limit: u64) -> String {
    let excess = cost as f64 / limit as f64;
    let factor = match excess {
        excess if excess > 100.0 => "more than 100x".to_owned(),
        // Not "by a factor of 1.0".
        excess if excess < 1.5 => format!("{excess:.6}x"),
        excess => format!("{excess:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// How many elements a schema's children have for each of its own: none for as many as one likes.
pub(super) fn elements(schema: Schema<'_>) -> Option<u64> {
    let limit = |key: &str| schema.get(key).and_then(serde_json::Value::as_i64).map(|most| most.max(0).unsigned_abs());
    match schema.kind() {
        "object" if schema.additional().is_some() => limit("maxProperties"),
        "array" => limit("maxItems"),
        _ => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_expensive_rules_are_named() {
        let mut total = Total::default();
        for (i, cost) in [1, 2_000_000, 60_000_000, 3_000_000, 50_000_000, 4_000_000].into_iter().enumerate() {
            total.observe(&Path::new("rule").index(i), cost);
        }
        let mut errors = ErrorList::new();
        total.check(&Path::new("schema"), &mut errors);
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["rule[2]", "rule[4]", "rule[5]", "rule[3]", "schema"]);
        assert!(errors[4].detail.contains("exceeds budget by factor of 1.190000x (try"), "{}", errors[4].detail);
        assert!(message("x", 1_500_000_001, 10_000_000).contains("more than 100x"));
        assert!(
            message("x", 25_500_000, 10_000_000).contains("factor of 2.5x")
                || message("x", 25_500_000, 10_000_000).contains("2.6x")
        );
    }
}
