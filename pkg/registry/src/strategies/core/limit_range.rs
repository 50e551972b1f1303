//! Limit ranges.

use kedge_meta::field::{Error, ErrorList};
use serde_json::Value;

use super::super::validation::scalar::quantity;
use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

pub(crate) struct LimitRange;

impl Strategy for LimitRange {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut seen: Vec<&str> = Vec::new();
        for limit in At::field(object, "spec").child("limits").items() {
            let kind = limit.child("type");
            errors.need_text(&kind);
            if seen.contains(&kind.text()) {
                errors.push(kind.duplicate());
            }
            seen.push(kind.text());
            if kind.text() == "Pod" {
                for field in ["default", "defaultRequest"] {
                    if limit.child(field).len() > 0 {
                        let detail = "may not be specified when `type` is 'Pod'";
                        errors.push(Error::forbidden(&limit.child(field).path, detail));
                    }
                }
            }
            amounts(&limit, &mut errors);
        }
        errors
    }
}

/// From small to large: min, defaultRequest, default, max.
fn amounts(limit: &At<'_>, errors: &mut ErrorList) {
    const ORDER: [(&str, &str); 4] =
        [("min", "min"), ("defaultRequest", "default request"), ("default", "default"), ("max", "max")];
    for (low, (small, small_name)) in ORDER.iter().enumerate() {
        for (large, large_name) in &ORDER[low + 1..] {
            for (resource, at) in limit.child(small).entries() {
                let other = limit.child(large).child(resource);
                if let (Some(a), Some(b)) = (quantity(&at), quantity(&other))
                    && a > b
                {
                    let path = limit.path.child(small).key(resource);
                    let detail = format!("{small_name} value {a} is greater than {large_name} value {b}");
                    errors.push(Error::invalid(&path, a.to_string(), detail));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_least_is_not_more_than_the_most() {
        let range = json!({"limit": {"min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}}});
        let mut errors = ErrorList::new();
        amounts(&At::field(&range, "limit"), &mut errors);
        assert_eq!(errors.len(), 2);
        assert_eq!(
            errors[1].to_string(),
            "limit.min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"
        );
    }
}
