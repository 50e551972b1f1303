//! Runtime classes.

use kedge_meta::field::{Error, ErrorList, GoText};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report, resources, scheduling, selector};
use crate::strategy::{Context, Strategy};

pub(crate) struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, class: &Value) -> ErrorList {
        validate(class)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        errors.immutable(&At::field(new, "handler"), &At::field(old, "handler"));
        errors
    }
}

fn validate(class: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    errors.need_name(&At::field(class, "handler"), names::is_dns1123_label);
    let overhead = At::field(class, "overhead");
    // Judged as limits of a container, and called so.
    let limits = serde_json::json!({"limits": overhead.child("podFixed").value});
    resources::requirements(&At { value: &limits, path: overhead.path }, &[], &mut errors);
    let placement = At::field(class, "scheduling");
    selector::labels(&placement.child("nodeSelector"), &mut errors);
    let tolerations = placement.child("tolerations");
    scheduling::tolerations(&tolerations, &mut errors);
    distinct(&tolerations, &mut errors);
    errors
}

/// No toleration is there twice, whatever the seconds are.
fn distinct(tolerations: &At<'_>, errors: &mut ErrorList) {
    let mut seen = std::collections::HashSet::new();
    for toleration in tolerations.items() {
        if !seen.insert(["key", "operator", "value", "effect"].map(|field| toleration.child(field).text())) {
            let shown = |(called, field): (&str, &str)| format!("{called:?}:{:?}", toleration.child(field).text());
            let fields = [("Key", "key"), ("Operator", "operator"), ("Value", "value"), ("Effect", "effect")];
            let seconds = toleration.child("tolerationSeconds").value;
            let shown = format!("{{{},\"TolerationSeconds\":{seconds}}}", fields.map(shown).join(","));
            errors.push(Error::duplicate(&toleration.path, GoText(shown)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_class_has_a_handler_and_tolerates_each_taint_once() {
        let said = |class: Value| validate(&class).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(said(json!({"handler": "kata"})).is_empty());
        assert_eq!(said(json!({"handler": ""})), ["handler: Required value"]);
        let exists = |seconds: Value| json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        assert_eq!(
            said(json!({"handler": "kata", "scheduling": {"tolerations": [exists(json!(1)), exists(json!(2))]}})),
            [
                "scheduling.tolerations[1]: Duplicate value: {\"Key\":\"a\",\"Operator\":\"Exists\",\"Value\":\"\",\"Effect\":\"NoExecute\",\
              \"TolerationSeconds\":2}"
            ]
        );
    }
}
