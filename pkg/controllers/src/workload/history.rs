//! The revisions of a template that a DaemonSet or StatefulSet keeps, as ControllerRevisions.

use std::sync::Arc;

use kedge_client::{Client, DeleteOptions, Error, Patch};
use kedge_meta::labels::Selector;
use kedge_meta::resources::CONTROLLER_REVISIONS;
use kedge_meta::{ObjectMeta, Resource, Status};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::claim::claim;
use super::controller_ref;
use super::index::OwnerIndex;
use super::pod_control;
use super::template::{hash, normalize, normalized};
use crate::context::ignore_not_found;
use crate::objects::{Meta, keyed};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ControllerRevision {
    pub metadata: ObjectMeta,
    pub revision: i64,
    pub data: Box<RawValue>,
}
keyed!(ControllerRevision);

impl ControllerRevision {
    /// The template of the revision.
    pub fn template(&self) -> Value {
        let mut template = pod_control::template(&self.data).pointer_mut("/spec/template").map(Value::take);
        if let Some(map) = template.as_mut().and_then(Value::as_object_mut) {
            map.remove("$patch");
        }
        template.unwrap_or_default()
    }
}

/// The object whose history it is.
pub struct Owner<'a> {
    pub kind: &'a Resource,
    pub meta: &'a ObjectMeta,
    pub selector: &'a Selector,
    pub template: &'a RawValue,
    /// The label of revisions that holds the hash.
    pub label: &'a str,
    pub collisions: i64,
}

/// All revisions of an owner.
#[derive(Debug)]
pub struct History {
    pub current: Arc<ControllerRevision>,
    /// Oldest first.
    pub old: Vec<Arc<ControllerRevision>>,
}

/// Finds the revision of the owner's template among its revisions and makes it the newest, or creates it.
///
/// # Errors
/// When a request fails. A collision of hashes is a conflict; the caller then counts it and tries again.
pub async fn history(
    client: &Client,
    index: &OwnerIndex<ControllerRevision>,
    owner: &Owner<'_>,
) -> Result<History, Error> {
    let found = index.candidates(owner.meta);
    let mut all = claim(client, owner.kind, owner.meta, &CONTROLLER_REVISIONS, owner.selector, found).await?;
    all.sort_by_cached_key(|r| (r.revision, r.metadata.creation_timestamp.clone(), r.metadata.name.clone()));
    let wanted = normalized(owner.template);
    let at = all.iter().rposition(|r| normalize(r.template()) == wanted);
    let current = at.map(|i| all.remove(i));
    let next = all.last().map_or(1, |r| r.revision + 1);
    let current = match current {
        Some(current) if current.revision >= next => current,
        Some(current) => {
            let patch = Patch::Merge(json!({ "revision": next }));
            let meta = &current.metadata;
            let patched: ControllerRevision =
                client.patch(&CONTROLLER_REVISIONS, &meta.namespace, &meta.name, patch, None).await?;
            Arc::new(patched)
        }
        None => Arc::new(create(client, owner, &wanted, next).await?),
    };
    Ok(History { current, old: all })
}

async fn create(
    client: &Client,
    owner: &Owner<'_>,
    wanted: &Value,
    revision: i64,
) -> Result<ControllerRevision, Error> {
    let hash = hash(wanted, owner.collisions);
    let name = format!("{}-{hash}", owner.meta.name);
    let mut template = pod_control::template(owner.template);
    let mut labels = template.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    labels[owner.label] = hash.into();
    template["$patch"] = "replace".into();
    let body = json!({
        "apiVersion": CONTROLLER_REVISIONS.api_version(),
        "kind": CONTROLLER_REVISIONS.kind,
        "metadata": {
            "name": name,
            "namespace": owner.meta.namespace,
            "labels": labels,
            "annotations": owner.meta.annotations,
            "ownerReferences": [controller_ref(owner.kind, owner.meta)],
        },
        "data": { "spec": { "template": template } },
        "revision": revision,
    });
    match client.create(&CONTROLLER_REVISIONS, &owner.meta.namespace, &body).await {
        Err(err) if err.is_already_exists() => {
            let there: ControllerRevision = client.get(&CONTROLLER_REVISIONS, &owner.meta.namespace, &name).await?;
            let ours = there.metadata.is_controlled_by(&owner.meta.uid) && normalize(there.template()) == *wanted;
            if ours { Ok(there) } else { Err(collision(&name)) }
        }
        other => other,
    }
}

const COLLISION: &str = "another template has this hash";

fn collision(name: &str) -> Error {
    Status::conflict(&CONTROLLER_REVISIONS.group_resource(), name, COLLISION).into()
}

/// Whether an error of [`history`] is a collision of hashes.
pub fn is_collision(err: &Error) -> bool {
    err.status().is_some_and(|s| s.message.contains(COLLISION))
}

/// Deletes the oldest revisions beyond `limit`, except those for which `live` holds.
///
/// # Errors
/// When one cannot be deleted.
pub async fn trim(
    client: &Client,
    old: &[Arc<ControllerRevision>],
    limit: i64,
    live: impl Fn(&ControllerRevision) -> bool,
) -> Result<(), Error> {
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    for revision in old.iter().filter(|r| !live(r)).take(surplus) {
        let meta = &revision.metadata;
        let options = DeleteOptions::with_uid(&meta.uid);
        ignore_not_found(client.delete(&CONTROLLER_REVISIONS, &meta.namespace, &meta.name, &options).await)?;
    }
    Ok(())
}

/// Writes the number of collisions into the status of the owner.
///
/// # Errors
/// When the request fails.
pub async fn count_collision(client: &Client, owner: &Owner<'_>) -> Result<(), Error> {
    let status = json!({ "collisionCount": owner.collisions + 1 });
    let patch = json!({ "metadata": { "resourceVersion": owner.meta.resource_version }, "status": status });
    let (namespace, name) = (&owner.meta.namespace, &owner.meta.name);
    let _: Meta = client.patch(owner.kind, namespace, name, Patch::Merge(patch), Some("status")).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_template_of_a_revision_is_what_was_stored() {
        let revision: ControllerRevision = serde_json::from_value(json!({
            "revision": 2, "data": {"spec": {"template": {"$patch": "replace", "spec": {"x": 1}}}}
        }))
        .unwrap_or_default();
        assert_eq!(revision.template(), json!({"spec": {"x": 1}}));
        assert_eq!(ControllerRevision::default().template(), Value::Null);
    }
}
