//! How many pods there should be: what the managers of the pods want, whatever kinds they are of.

use std::collections::HashMap;
use std::sync::Arc;

use kedge_client::Error;
use kedge_meta::resources::{DEPLOYMENTS, REPLICATION_CONTROLLERS, STATEFUL_SETS};
use kedge_meta::{OwnerReference, Resource};
use serde::Deserialize;

use crate::context::Context;
use crate::objects::Pod;
use crate::scales::{self, Scale};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Scaled {
    metadata: kedge_meta::ObjectMeta,
    spec: ScaleSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ScaleSpec {
    replicas: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Served {
    resources: Vec<ServedResource>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServedResource {
    name: String,
    kind: String,
}

/// What is wanted of pods.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Wanted {
    /// By their managers, each counted once.
    pub pods: i64,
    /// Whether there are pods without any.
    pub unmanaged: bool,
}

/// Who wants pods, and how many. A Deployment wants those of its ReplicaSets.
type Size = (String, i64);

/// What the managers of these pods want.
///
/// # Errors
/// When one of them cannot be found or has no size, in upstream's words.
pub async fn wanted(ctx: &Context, pods: &[Arc<Pod>]) -> Result<Wanted, String> {
    let mut sizes: HashMap<String, i64> = HashMap::new();
    let mut wanted = Wanted::default();
    for pod in pods {
        let Some(owner) = pod.metadata.controller() else {
            wanted.unmanaged = true;
            continue;
        };
        if sizes.contains_key(&owner.uid) {
            continue;
        }
        let size = size(ctx, &pod.metadata.namespace, owner).await?;
        let (uid, size) = size.ok_or_else(|| format!("found no controllers for pod {:?}", pod.metadata.name))?;
        // That of a Deployment stands for its ReplicaSet's, which is not looked for again.
        sizes.insert(owner.uid.clone(), 0);
        sizes.insert(uid, size);
    }
    wanted.pods = sizes.values().sum();
    Ok(wanted)
}

async fn size(ctx: &Context, namespace: &str, owner: &OwnerReference) -> Result<Option<Size>, String> {
    let group = scales::group_of(&owner.api_version)?;
    let found = match (group, owner.kind.as_str()) {
        ("", "ReplicationController") => stored(ctx, &REPLICATION_CONTROLLERS, namespace, owner).await?,
        ("apps", "StatefulSet") => stored(ctx, &STATEFUL_SETS, namespace, owner).await?,
        ("apps" | "extensions", "ReplicaSet") => of_replica_set(ctx, namespace, owner).await?,
        _ => None,
    };
    match found {
        Some(size) => Ok(Some(size)),
        None => scaled(ctx, namespace, owner, group).await,
    }
}

async fn of_replica_set(ctx: &Context, namespace: &str, owner: &OwnerReference) -> Result<Option<Size>, String> {
    let set = ctx.replica_sets.get(namespace, &owner.name).filter(|set| set.metadata.uid == owner.uid);
    let Some(set) = set else { return Ok(None) };
    match set.metadata.controller() {
        Some(above) if above.kind == DEPLOYMENTS.kind => {
            if !matches!(scales::group_of(&above.api_version)?, "apps" | "extensions") {
                return Ok(None);
            }
            stored(ctx, &DEPLOYMENTS, namespace, above).await
        }
        _ => Ok(Some((set.metadata.uid.clone(), set.spec.replicas))),
    }
}

/// What a manager of a known kind wants; none when it is not there.
async fn stored(
    ctx: &Context,
    kind: &Resource,
    namespace: &str,
    owner: &OwnerReference,
) -> Result<Option<Size>, String> {
    match ctx.client.get::<Scaled>(kind, namespace, &owner.name).await {
        Ok(object) if object.metadata.uid == owner.uid => Ok(Some((object.metadata.uid, object.spec.replicas))),
        Ok(_) => Ok(None),
        Err(err) if err.is_not_found() => Ok(None),
        Err(err) => Err(scales::reason(&err)),
    }
}

/// What a manager of any kind wants by its scale.
async fn scaled(ctx: &Context, namespace: &str, owner: &OwnerReference, group: &str) -> Result<Option<Size>, String> {
    let kinds = scales::find(&ctx.discovery, group, &owner.kind).await;
    let kinds =
        kinds.map_err(|_| format!("no matches for kind {:?} in version {:?}", owner.kind, owner.api_version))?;
    match Scale::read(&ctx.client, &kinds, namespace, &owner.name).await {
        Ok(scale) if scale.uid() == owner.uid => Ok(Some((owner.uid.clone(), scale.wanted().into()))),
        Ok(_) => Ok(None),
        Err(err) if err.is_not_found() => {
            let Some(kind) = kinds.first() else { return Ok(None) };
            if has_scale(ctx, kind).await.map_err(|err| scales::reason(&err))? {
                return Ok(None);
            }
            Err(format!("{} does not implement the scale subresource", kind.group_resource()))
        }
        Err(err) => Err(scales::reason(&err)),
    }
}

/// Whether objects of that kind have a scale at all.
async fn has_scale(ctx: &Context, kind: &Resource) -> Result<bool, Error> {
    let path = if kind.group.is_empty() { "/api" } else { "/apis" };
    let served = ctx.client.get_raw(&format!("{path}/{}", kind.api_version())).await?;
    let served: Served = serde_json::from_slice(&served)?;
    let name = format!("{}/scale", kind.plural);
    Ok(served.resources.iter().any(|r| r.name == name && r.kind == "Scale"))
}
