//! Which objects a controller manages: those that carry its reference and match its selector. Matching orphans are
//! adopted, own objects that no longer match are released.
//!
//! Invariant: before the first adoption the API server is asked whether the owner still lives, since a cache may not know
//! of its deletion yet.

use std::sync::Arc;

use kedge_client::{Client, Error, Keyed, Patch};
use kedge_meta::labels::Selector;
use kedge_meta::{ObjectMeta, Resource, Status};
use serde_json::json;

use super::controller_ref;
use crate::objects::Meta;

/// What to do with the objects at hand. Those of others are in none of the lists.
#[derive(Debug)]
pub struct Claim<T> {
    pub mine: Vec<Arc<T>>,
    pub adopt: Vec<Arc<T>>,
    pub release: Vec<Arc<T>>,
}

/// Decides by references and labels.
pub fn plan<T: Keyed>(owner: &ObjectMeta, selector: &Selector, objects: Vec<Arc<T>>) -> Claim<T> {
    let mut claim = Claim { mine: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for object in objects {
        let meta = object.metadata();
        let matches = selector.matches(&meta.labels);
        match meta.controller() {
            Some(reference) if reference.uid != owner.uid => {}
            Some(_) if matches => claim.mine.push(object),
            Some(_) if owner.is_deleting() => {}
            Some(_) => claim.release.push(object),
            None if !matches || owner.is_deleting() || meta.is_deleting() => {}
            None => claim.adopt.push(object),
        }
    }
    claim
}

/// Adopts and releases; returns what the owner manages now. `objects` are of kind `kind`.
///
/// # Errors
/// The first failed adoption or release; objects that are gone are no failure.
pub async fn claim<T: Keyed>(
    client: &Client,
    owner_kind: &Resource,
    owner: &ObjectMeta,
    kind: &Resource,
    selector: &Selector,
    objects: Vec<Arc<T>>,
) -> Result<Vec<Arc<T>>, Error> {
    let Claim { mut mine, adopt, release } = plan(owner, selector, objects);
    for object in release {
        let meta = object.metadata();
        let reference = json!([{ "$patch": "delete", "uid": owner.uid }]);
        let patch = json!({ "metadata": { "uid": meta.uid, "ownerReferences": reference } });
        patch_gone_or_done(client, kind, meta, patch).await?;
    }
    if !adopt.is_empty() {
        may_adopt(client, owner_kind, owner).await?;
    }
    for object in adopt {
        let meta = object.metadata();
        let references = json!([controller_ref(owner_kind, owner)]);
        let patch = json!({ "metadata": { "uid": meta.uid, "ownerReferences": references } });
        if patch_gone_or_done(client, kind, meta, patch).await? {
            mine.push(object);
        }
    }
    Ok(mine)
}

async fn may_adopt(client: &Client, kind: &Resource, owner: &ObjectMeta) -> Result<(), Error> {
    let fresh: Meta = client.get(kind, &owner.namespace, &owner.name).await?;
    let why = if fresh.metadata.uid != owner.uid {
        "it is another object of that name by now"
    } else if fresh.metadata.is_deleting() {
        "it has just been deleted"
    } else {
        return Ok(());
    };
    Err(Status::conflict(&kind.group_resource(), &owner.name, why).into())
}

/// Whether the object is still there and took the patch.
async fn patch_gone_or_done(
    client: &Client,
    kind: &Resource,
    object: &ObjectMeta,
    patch: serde_json::Value,
) -> Result<bool, Error> {
    match client.patch::<Meta>(kind, &object.namespace, &object.name, Patch::Strategic(patch), None).await {
        Ok(_) => Ok(true),
        // Gone, or another object of that name, or one with a manager of its own by now.
        Err(err) if err.is_not_found() || err.is_conflict() || err.status().is_some_and(|s| s.code == 422) => Ok(false),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_meta::{OwnerReference, StringMap};

    fn object(name: &str, label: &str, owner: Option<&str>) -> Arc<Meta> {
        let mut metadata = ObjectMeta { name: name.into(), ..ObjectMeta::default() };
        metadata.labels.insert("app", label);
        metadata.owner_references.extend(owner.map(|uid| OwnerReference {
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        }));
        Arc::new(Meta { metadata })
    }

    fn names(list: &[Arc<Meta>]) -> Vec<&str> {
        list.iter().map(|o| o.metadata.name.as_str()).collect()
    }

    #[test]
    fn orphans_are_adopted_and_strays_released_and_others_left_alone() {
        let selector = Selector::from_map(&StringMap::from([("app", "a")]));
        let objects = || {
            vec![
                object("mine", "a", Some("me")),
                object("stray", "b", Some("me")),
                object("orphan", "a", None),
                object("foreign", "a", Some("other")),
                object("unrelated", "b", None),
            ]
        };
        let mut owner = ObjectMeta { uid: "me".into(), ..ObjectMeta::default() };
        let claim = plan(&owner, &selector, objects());
        assert_eq!(names(&claim.mine), ["mine"]);
        assert_eq!(names(&claim.adopt), ["orphan"]);
        assert_eq!(names(&claim.release), ["stray"]);
        owner.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        let claim = plan(&owner, &selector, objects());
        assert!(claim.adopt.is_empty() && claim.release.is_empty(), "an owner that goes away changes nothing");
    }
}
