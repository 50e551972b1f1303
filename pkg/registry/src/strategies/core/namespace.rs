//! Namespaces: held by the finalizer `kubernetes` until the namespace controller has emptied them.

use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

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

    fn mark_deleted(&self, namespace: &mut Value) {
        namespace.entry("status").insert("phase".into(), "Terminating".into());
    }
}

fn label_with_name(namespace: &mut Value) {
    let name = namespace.name().to_owned();
    if !name.is_empty() {
        let labels = namespace.entry("metadata").entry("labels").or_insert_with(|| json!({}));
        labels.set("kubernetes.io/metadata.name", name);
    }
}
