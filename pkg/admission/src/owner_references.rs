//! OwnerReferencesPermissionEnforcement: who says to whom an object belongs could also delete it, and who holds up the deletion of an owner
//! could also do that by finalizers.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_auth::{Authorizer, Decision, Request};
use kedge_meta::{Status, UserInfo};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{Plugin, forbidden, is_sub};

const REFERENCES: [&str; 2] = ["metadata", "ownerReferences"];

pub(crate) struct OwnerReferencesPermissionEnforcement(pub(crate) Arc<dyn Authorizer>);

fn changed(attributes: &Attributes<'_>) -> bool {
    let had = attributes.old.map(|old| old.list(&REFERENCES)).unwrap_or_default();
    had != attributes.object.list(&REFERENCES)
}

fn blocks(reference: &Value) -> bool {
    reference.flag(&["blockOwnerDeletion"]) == Some(true)
}

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        writes && !is_sub(attributes, "", "pods", "status") && changed(attributes)
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        if attributes.operation == Operation::Update {
            let resource = attributes.resource;
            let deletes = Request {
                verb: "delete",
                group: &resource.group,
                version: &resource.version,
                resource: &resource.plural,
                subresource: attributes.subresource,
                namespace: attributes.namespace,
                name: attributes.name,
                ..question(attributes.user)
            };
            if let Err(reason) = self.may(&deletes).await {
                let why = format!("cannot set an ownerRef on a resource you can't delete: {reason}, <nil>");
                return Err(forbidden(attributes, &why));
            }
        }
        let had = attributes.old.map(|old| old.list(&REFERENCES)).unwrap_or_default();
        let blocked = |uid: &str| had.iter().any(|one| one.text(&["uid"]) == uid && blocks(one));
        let all = attributes.object.list(&REFERENCES).iter();
        let new: Vec<&Value> = all.filter(|one| blocks(one) && !blocked(one.text(&["uid"]))).collect();
        let everything = Request {
            verb: "update",
            group: "*",
            version: "*",
            resource: "*",
            subresource: "finalizers",
            name: "*",
            ..question(attributes.user)
        };
        if new.is_empty() || self.may(&everything).await.is_ok() {
            return Ok(());
        }
        for reference in new {
            self.check(registry, attributes, reference).await.map_err(|why| forbidden(attributes, &why))?;
        }
        Ok(())
    }
}

fn question(user: &UserInfo) -> Request<'_> {
    Request { user: Some(user), is_resource: true, ..Request::default() }
}

impl OwnerReferencesPermissionEnforcement {
    async fn may(&self, request: &Request<'_>) -> Result<(), String> {
        match self.0.authorize(request).await {
            Decision::Allow(_) => Ok(()),
            refused => Err(refused.into_reason()),
        }
    }

    /// Whether who asks could hold up an owner.
    async fn check(&self, registry: &Registry, attributes: &Attributes<'_>, owner: &Value) -> Result<(), String> {
        let (api_version, kind) = (owner.text(&["apiVersion"]), owner.text(&["kind"]));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let catalogue = registry.catalogue();
        let Some(entry) = catalogue.kind(group, version, kind) else {
            return Err(format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
            ));
        };
        let resource = entry.info();
        let updates = Request {
            verb: "update",
            group: &resource.group,
            version: &resource.version,
            resource: &resource.plural,
            subresource: "finalizers",
            namespace: if resource.namespaced { attributes.namespace } else { "" },
            name: owner.text(&["name"]),
            ..question(attributes.user)
        };
        self.may(&updates).await.map_err(|reason| {
            format!(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {reason}, <nil>"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_auth::Deciding;
    use serde_json::json;

    /// Allows what is in a list of `verb resource/subresource name`.
    struct Allows(&'static [&'static str]);

    impl Authorizer for Allows {
        fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
            let asked = format!("{} {}/{} {}", request.verb, request.resource, request.subresource, request.name);
            (if self.0.contains(&asked.as_str()) { Decision::Allow(String::new()) } else { Decision::NoOpinion(asked) })
                .into()
        }
    }

    fn owned(block: bool) -> Value {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "blockOwnerDeletion": block});
        json!({"metadata": {"name": "p", "ownerReferences": [owner]}})
    }

    #[tokio::test]
    async fn owners_take_the_rights_that_they_amount_to() {
        let (registry, _) = testing::registry().await;
        let user = testing::user();
        let bare = json!({"metadata": {"name": "p"}});
        let said = async |rights: &'static [&'static str], old: Option<&Value>, new: Value| {
            let operation = if old.is_some() { Operation::Update } else { Operation::Create };
            let mut attributes = Attributes::new(operation, testing::resource("", "pods"), &user);
            (attributes.name, attributes.namespace, attributes.old, attributes.object) = ("p", "n", old, new);
            let plugin = OwnerReferencesPermissionEnforcement(Arc::new(Allows(rights)));
            if !plugin.validates(&attributes) {
                return Ok(());
            }
            plugin.validate(&registry, &attributes).await.map_err(|status| status.message)
        };
        assert_eq!(said(&[], None, bare.clone()).await, Ok(()));
        assert_eq!(said(&[], None, owned(false)).await, Ok(()), "who makes it may say whose it is");
        let why = said(&[], None, owned(true)).await.unwrap_err();
        assert!(why.contains("a resource you can't set finalizers on: update replicasets/finalizers r"), "{why}");
        assert_eq!(said(&["update replicasets/finalizers r"], None, owned(true)).await, Ok(()));
        assert_eq!(said(&["update */finalizers *"], None, owned(true)).await, Ok(()));
        let why = said(&[], Some(&bare), owned(false)).await.unwrap_err();
        assert!(why.contains("cannot set an ownerRef on a resource you can't delete: delete pods/ p"), "{why}");
        assert_eq!(said(&["delete pods/ p"], Some(&bare), owned(false)).await, Ok(()));
        assert!(said(&["delete pods/ p"], Some(&owned(false)), owned(true)).await.is_err(), "it did not block before");
        assert_eq!(said(&[], Some(&owned(true)), owned(true)).await, Ok(()), "nothing changes");
        let mut unknown = owned(true);
        unknown["metadata"]["ownerReferences"][0]["kind"] = "Nothing".into();
        assert!(
            said(&[], None, unknown)
                .await
                .unwrap_err()
                .contains("cannot find RESTMapping for APIVersion apps/v1 Kind Nothing")
        );
    }
}
