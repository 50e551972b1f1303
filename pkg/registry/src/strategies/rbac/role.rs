//! Roles, of a namespace and of the cluster.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::At;
use super::super::validation::selector::label_selector;
use crate::strategy::{Context, Strategy};

pub(crate) struct Role;

impl Strategy for Role {
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::is_path_segment_name(name)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate(&self, ctx: &Context<'_>, role: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        At::field(role, "rules").items().for_each(|at| rule(&at, ctx.resource.namespaced, &mut errors));
        let aggregation = At::field(role, "aggregationRule");
        if aggregation.is_set() {
            let selectors = aggregation.child("clusterRoleSelectors");
            if selectors.len() == 0 {
                let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(selectors.required(detail));
            }
            selectors.items().for_each(|selector| aggregated(&selector, &mut errors));
        }
        errors
    }
}

/// The roles that one is made of. A selector with something wrong in it is none at all, and upstream says both.
fn aggregated(selector: &At<'_>, errors: &mut ErrorList) {
    let before = errors.len();
    label_selector(selector, errors);
    if errors.len() > before {
        errors.push(Error::invalid(&selector.path, Value::Null, "invalid label selector."));
    }
}

fn rule(at: &At<'_>, namespaced: bool, errors: &mut ErrorList) {
    let field = |name: &str| at.child(name);
    if field("verbs").len() == 0 {
        errors.push(field("verbs").required("verbs must contain at least one value"));
    }
    let urls = field("nonResourceURLs");
    if urls.len() > 0 {
        if namespaced {
            errors.push(urls.invalid("namespaced rules cannot apply to non-resource URLs"));
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|name| field(name).len() > 0) {
            errors.push(urls.invalid("rules cannot apply to both regular resources and non-resource URLs"));
        }
        return;
    }
    if field("apiGroups").len() == 0 {
        errors.push(field("apiGroups").required("resource rules must supply at least one api group"));
    }
    if field("resources").len() == 0 {
        errors.push(field("resources").required("resource rules must supply at least one resource"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roles_are_aggregated_by_selectors_that_can_be_read() {
        let said = |selector: Value| {
            let (object, mut errors) = (json!({ "s": selector }), ErrorList::new());
            aggregated(&At::field(&object, "s"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(said(json!({"matchLabels": {"a": "b"}})).is_empty());
        let wrong = said(json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}));
        assert_eq!(
            wrong,
            [
                "s.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator",
                "s: Invalid value: null: invalid label selector."
            ]
        );
    }

    #[test]
    fn a_rule_is_about_resources_or_paths() {
        let object = json!({"r": {"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}, "s": {}});
        let mut errors = ErrorList::new();
        rule(&At::field(&object, "r"), true, &mut errors);
        assert_eq!(errors.len(), 2);
        errors.clear();
        rule(&At::field(&object, "s"), true, &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "s.verbs: Required value: verbs must contain at least one value",
                "s.apiGroups: Required value: resource rules must supply at least one api group",
                "s.resources: Required value: resource rules must supply at least one resource",
            ]
        );
    }
}
