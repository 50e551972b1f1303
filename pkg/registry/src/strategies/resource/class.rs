//! Classes of devices.

use kedge_meta::field::ErrorList;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::At;
use super::super::validation::resources::is_extended;
use super::claim::configuration;
use super::items;
use super::selectors::selectors;
use crate::strategy::{Context, Strategy};

const MAX_CONFIGURATIONS: usize = 32;

pub(crate) struct DeviceClass;

impl Strategy for DeviceClass {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, class: &Value) -> ErrorList {
        validate(class, None)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        validate(new, Some(old))
    }
}

/// Selectors and configurations that have not changed at all are not held to what is asked of new ones.
fn validate(class: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::field(class, "spec");
    let stays =
        |field: &str| old.is_some_and(|old| At::field(old, "spec").child(field).value == spec.child(field).value);
    selectors(&spec.child("selectors"), stays("selectors"), &mut errors);
    items::list(&spec.child("config"), MAX_CONFIGURATIONS, &mut errors, |config, errors| {
        configuration(&config, stays("config"), errors);
    });
    let name = spec.child("extendedResourceName");
    if name.is_set() && !is_extended(name.text()) {
        errors.push(name.invalid("must be a valid extended resource name"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_class_brings_is_sound() {
        let said = |spec: Value| texts(&validate(&json!({ "spec": spec }), None));
        assert!(said(json!({"extendedResourceName": "example.com/gpu"})).is_empty());
        assert_eq!(
            said(json!({"extendedResourceName": "gpu", "config": [{}, {"opaque": {"parameters": []}}]})),
            [
                "spec.config[0].opaque: Required value",
                "spec.config[1].opaque.driver: Required value",
                "spec.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
                "spec.extendedResourceName: Invalid value: \"gpu\": must be a valid extended resource name",
            ]
        );
        let many = said(json!({"selectors": vec![json!({}); 33]}));
        assert_eq!(many, ["spec.selectors: Too many: 33: must have at most 32 items"]);
    }

    #[test]
    fn parameters_that_were_stored_before_there_was_a_limit_stay() {
        let of = |length: usize| {
            let opaque = json!({"driver": "a", "parameters": {"a": "x".repeat(length)}});
            json!({"spec": {"config": [{ "opaque": opaque }]}})
        };
        let (old, more) = (of(10 << 10), of(11 << 10));
        let too_long = ["spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes"];
        assert_eq!(texts(&validate(&old, None)), too_long);
        assert!(validate(&old, Some(&old)).is_empty());
        assert_eq!(texts(&validate(&more, Some(&old))), too_long);
    }
}
