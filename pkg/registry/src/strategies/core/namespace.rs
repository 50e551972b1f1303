//! Namespaces: held by the finalizer `kubernetes` until the namespace controller has emptied them.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::At;
use crate::strategy::{Context, Strategy, masked};
use crate::value::ValueExt;

pub(crate) struct Namespace;

impl Strategy for Namespace {
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::is_dns1123_label(&masked(name, prefix))
    }

    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn prepare_for_create(&self, _ctx: &Context<'_>, namespace: &mut Value) {
        label_with_name(namespace);
        let finalizers = namespace.entry("spec").entry("finalizers").or_insert_with(|| json!([]));
        if let Value::Array(list) = finalizers
            && !list.iter().any(|f| f == "kubernetes")
        {
            list.push("kubernetes".into());
        }
        namespace.set("status", json!({ "phase": "Active" }));
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        label_with_name(new);
        if ctx.subresource != "finalize" {
            let finalizers = old.at(&["spec", "finalizers"]).cloned();
            match finalizers {
                Some(finalizers) => new.entry("spec").insert("finalizers".into(), finalizers),
                None => new.entry("spec").remove("finalizers"),
            };
        }
    }

    fn validate(&self, _ctx: &Context<'_>, namespace: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let finalizers = At::field(namespace, "spec").child("finalizers");
        for name in finalizers.items() {
            finalizer(&finalizers.path, name.text(), &mut errors);
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if ctx.subresource == "finalize" {
            for name in At::field(new, "spec").child("finalizers").items() {
                finalizer(&name.path, name.text(), &mut errors);
            }
        }
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let lives = new.text(&["metadata", "deletionTimestamp"]).is_empty();
        let (phase, why) = match lives {
            true => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
            false => ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"),
        };
        let says = new.text(&["status", "phase"]);
        let wrong = says != phase;
        wrong.then(|| Error::invalid(&Path::new("status").child("Phase"), says, why)).into_iter().collect()
    }

    /// What is within a namespace goes with it, whatever a delete says.
    fn has_dependents(&self) -> bool {
        false
    }

    fn mark_deleted(&self, namespace: &mut Value) {
        // It has no time to end: it waits until it is empty.
        namespace.entry("metadata").remove("deletionGracePeriodSeconds");
        namespace.entry("status").insert("phase".into(), "Terminating".into());
    }
}

/// A name by which somebody holds on to a namespace.
fn finalizer(path: &Path, name: &str, errors: &mut ErrorList) {
    errors.extend(names::is_qualified_name(name).into_iter().map(|why| Error::invalid(path, name, why)));
    if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
        errors.push(Error::invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified"));
    }
}

fn label_with_name(namespace: &mut Value) {
    let name = namespace.name().to_owned();
    if !name.is_empty() {
        let labels = namespace.entry("metadata").entry("labels").or_insert_with(|| json!({}));
        labels.set("kubernetes.io/metadata.name", name);
    }
}
