//! `namespaces/finalize`: the namespace controller lets go of an empty namespace.

use kedge_meta::Status;
use serde_json::Value;

use crate::value::ValueExt as _;
use crate::verbs::{self, Request, UpdateOptions, Written};

/// Gives the namespace of a request the finalizers of `wanted`, and nothing else of it.
///
/// # Errors
/// As for an update.
pub async fn finalize(request: &Request<'_>, wanted: &Value) -> Result<Written, Status> {
    let finalizers = wanted.at(&["spec", "finalizers"]).cloned();
    let meant = ["uid", "resourceVersion"].map(|field| (field, wanted.at(&["metadata", field]).cloned()));
    let transform = |old: Option<&Value>| {
        let mut namespace = old.cloned().unwrap_or_default();
        match &finalizers {
            Some(list) => namespace.entry("spec").insert("finalizers".into(), list.clone()),
            None => namespace.entry("spec").remove("finalizers"),
        };
        for (field, value) in &meant {
            if let Some(value) = value {
                namespace["metadata"].set(field, value.clone());
            }
        }
        Ok(namespace)
    };
    let options = UpdateOptions { meant_by_uid: true, ..UpdateOptions::default() };
    verbs::update(request, &transform, options).await
}
