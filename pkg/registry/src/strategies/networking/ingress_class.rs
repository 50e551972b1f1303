//! Ingress classes.

use kedge_meta::field::{Error, ErrorList};
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

pub(crate) struct IngressClass;

impl Strategy for IngressClass {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        let controller = spec.child("controller");
        if controller.text().is_empty() {
            errors.push(controller.required(""));
        } else if !controller.text().contains('/') {
            errors.push(controller.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"));
        }
        let parameters = spec.child("parameters");
        if parameters.is_set() {
            errors.need_text(&parameters.child("kind"));
            errors.need_text(&parameters.child("name"));
            let scope = parameters.child("scope");
            let namespace = parameters.child("namespace");
            if scope.is_set() {
                errors.one_of(&scope, &["Cluster", "Namespace"]);
            } else {
                errors.push(scope.required(""));
            }
            if scope.text() == "Namespace" && namespace.text().is_empty() {
                errors.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
            }
            if scope.text() == "Cluster" && namespace.is_set() {
                errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
            }
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let controller = |object| At::field(object, "spec").child("controller");
        let (now, was) = (controller(new), controller(old));
        if now.text() != was.text() {
            errors.push(Error::invalid(&now.path, now.text(), "field is immutable"));
        }
        errors.extend(self.validate(ctx, new));
        errors
    }
}
