//! Limit ranges.

use std::collections::BTreeSet;

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_meta::quantity::Quantity;
use serde_json::Value;

use super::super::validation::scalar::quantity;
use super::super::validation::{At, resources};
use super::resource_quota::any_resource;
use crate::strategy::{Context, Strategy};

const CLAIM: &str = "PersistentVolumeClaim";
const KINDS: [&str; 3] = ["Pod", "Container", CLAIM];
/// Amounts beyond this are compared in whole units.
const MAX_MILLI: i64 = i64::MAX / 1000;

pub(crate) struct LimitRange;

impl Strategy for LimitRange {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen: Vec<&str> = Vec::new();
    for limit in At::field(object, "spec").child("limits").items() {
        let kind = limit.child("type");
        let complaints = names::is_qualified_name(kind.text());
        if complaints.is_empty() && !kind.text().contains('/') && !KINDS.contains(&kind.text()) {
            errors.push(kind.invalid("must be a standard limit type or fully qualified"));
        }
        errors.extend(complaints.into_iter().map(|why| Error::invalid(&kind.path, kind.text(), why)));
        if seen.contains(&kind.text()) {
            errors.push(Error::duplicate(&kind.path, kind.text()));
        }
        seen.push(kind.text());
        one(&limit, kind.text(), &mut errors);
    }
    errors
}

/// The amounts of one kind of thing.
fn one(limit: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut named = |field: &str, errors: &mut ErrorList| {
        for (name, at) in limit.child(field).entries() {
            match kind {
                "Pod" | "Container" => of_container(name, &at, errors),
                _ => any_resource(name, &at, errors),
            }
            names.insert(name);
        }
    };
    named("max", errors);
    named("min", errors);
    for field in ["default", "defaultRequest"] {
        match kind {
            "Pod" if limit.child(field).len() > 0 => {
                errors.push(limit.child(field).forbidden("may not be specified when `type` is 'Pod'"));
            }
            "Pod" => {}
            _ => named(field, errors),
        }
    }
    let bounded = ["min", "max"].iter().any(|field| limit.child(field).child("storage").is_set());
    if kind == CLAIM && !bounded {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(limit.child("limits").required(why));
    }
    named("maxLimitRequestRatio", errors);
    for name in names {
        let of = |field: &str| match (kind, field) {
            ("Pod", "default" | "defaultRequest") => None,
            _ => quantity(&limit.child(field).child(name)),
        };
        let amounts = Amounts {
            min: of("min"),
            max: of("max"),
            default: of("default"),
            request: of("defaultRequest"),
            ratio: of("maxLimitRequestRatio"),
        };
        amounts.check(limit, name, errors);
    }
}

/// A resource that containers have.
pub(crate) fn of_container(name: &str, at: &At<'_>, errors: &mut ErrorList) {
    any_resource(name, at, errors);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        errors.push(Error::invalid(&at.path, name, "must be a standard resource for containers"));
    }
    if name.contains('/') && !name.contains("kubernetes.io/") && !resources::is_extended(name) {
        errors.push(Error::invalid(&at.path, name, "doesn't follow extended resource name standard"));
    }
}

/// What a resource has in one range.
struct Amounts {
    min: Option<Quantity>,
    max: Option<Quantity>,
    default: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl Amounts {
    /// From small to large: min, the default of requests, that of limits, max.
    fn check(&self, limit: &At<'_>, name: &str, errors: &mut ErrorList) {
        let mut said = |field: &str, shown: &Quantity, why: String| {
            errors.push(Error::invalid(&limit.path.child(field).key(name), shown.to_string(), why));
        };
        let above = |small: &Option<Quantity>, large: &Option<Quantity>| {
            (*small).zip(*large).filter(|(small, large)| small > large)
        };
        if let Some((min, max)) = above(&self.min, &self.max) {
            said("min", &min, format!("min value {min} is greater than max value {max}"));
        }
        if let Some((min, request)) = above(&self.min, &self.request) {
            let why = format!("min value {min} is greater than default request value {request}");
            said("defaultRequest", &request, why);
        }
        if let Some((request, max)) = above(&self.request, &self.max) {
            let why = format!("default request value {request} is greater than max value {max}");
            said("defaultRequest", &request, why);
        }
        if let Some((request, default)) = above(&self.request, &self.default) {
            let why = format!("default request value {request} is greater than default limit value {default}");
            said("defaultRequest", &request, why);
        }
        // Of these two upstream shows the bound.
        if let Some((min, default)) = above(&self.min, &self.default) {
            said("default", &min, format!("min value {min} is greater than default value {default}"));
        }
        if let Some((default, max)) = above(&self.default, &self.max) {
            said("default", &max, format!("default value {default} is greater than max value {max}"));
        }
        if let Some(ratio) = &self.ratio {
            if *ratio < Quantity::from_value(1) {
                said("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
            }
            if let Some(most) = self.most_above(ratio) {
                said("maxLimitRequestRatio", ratio, format!("ratio {ratio} is greater than max/min = {most:.6}"));
            }
        }
        if let (false, Some(default), Some(request)) = (resources::can_overcommit(name), &self.default, &self.request)
            && default != request
        {
            let why = format!("default value {default} must equal to defaultRequest value {request} in {name}");
            said("defaultRequest", request, why);
        }
    }

    /// What max is of min, where a ratio is above that.
    fn most_above(&self, ratio: &Quantity) -> Option<f64> {
        let (min, max) = (self.min.as_ref()?, self.max.as_ref()?);
        let fine = [ratio, min, max].iter().all(|amount| amount.value() < MAX_MILLI);
        let number = |amount: &Quantity| if fine { amount.milli_value() as f64 } else { amount.value() as f64 };
        let most = number(max) / number(min);
        let ratio = if fine { number(ratio) / 1000.0 } else { number(ratio) };
        (ratio > most).then_some(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(limit: Value) -> Vec<String> {
        let errors = validate(&json!({"spec": {"limits": [limit]}}));
        errors.iter().map(|error| error.to_string().replace("spec.limits[0].", "")).collect()
    }

    #[test]
    fn the_least_is_not_more_than_the_most() {
        assert!(said(json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "1"}})).is_empty());
        let range = json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1500m"},
            "defaultRequest": {"cpu": "1600m"}});
        assert_eq!(
            said(range),
            [
                "min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "defaultRequest[cpu]: Invalid value: \"1600m\": min value 2 is greater than default request value 1600m",
                "defaultRequest[cpu]: Invalid value: \"1600m\": default request value 1600m is greater than max value 1",
                "defaultRequest[cpu]: Invalid value: \"1600m\": default request value 1600m is greater than default limit value 1500m",
                "default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1500m",
                "default[cpu]: Invalid value: \"1\": default value 1500m is greater than max value 1",
            ]
        );
    }

    #[test]
    fn ratios_are_above_one_and_within_the_bounds() {
        let of = |ratio: &str| {
            said(
                json!({"type": "Container", "min": {"cpu": "300m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": ratio}}),
            )
        };
        assert!(of("3").is_empty());
        assert_eq!(of("500m"), ["maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1"]);
        assert_eq!(
            of("4"),
            ["maxLimitRequestRatio[cpu]: Invalid value: \"4\": ratio 4 is greater than max/min = 3.333333"]
        );
        let devices = json!({"type": "Container", "default": {"a.b/c": "2"}, "defaultRequest": {"a.b/c": "1"}});
        assert_eq!(
            said(devices),
            [
                "defaultRequest[a.b/c]: Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in a.b/c"
            ]
        );
    }

    #[test]
    fn kinds_and_resources_are_known() {
        assert!(said(json!({"type": "a.b/c", "max": {"pods": "1"}})).is_empty());
        assert_eq!(
            said(json!({"type": "Thing"})),
            ["type: Invalid value: \"Thing\": must be a standard limit type or fully qualified"]
        );
        assert!(said(json!({"type": "a b"}))[0].starts_with("type: Invalid value: \"a b\": name part"));
        assert_eq!(
            said(json!({"type": "Container", "max": {"pods": "1"}})),
            ["max[pods]: Invalid value: \"pods\": must be a standard resource for containers"]
        );
        assert_eq!(
            said(json!({"type": CLAIM, "default": {"storage": "1"}})),
            ["limits: Required value: either minimum or maximum storage value is required, but neither was provided"]
        );
        assert!(said(json!({"type": CLAIM, "max": {"storage": "1"}})).is_empty());
        let pod = said(json!({"type": "Pod", "default": {"cpu": "9"}, "max": {"cpu": "1"}}));
        assert_eq!(pod, ["default: Forbidden: may not be specified when `type` is 'Pod'"]);
    }
}
