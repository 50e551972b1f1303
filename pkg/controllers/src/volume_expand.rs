//! Says that a claim which is to be larger waits for somebody else: every volume that can grow is a driver's by now, and its resizer
//! does the rest.

use std::sync::Arc;

use kedge_client::{Change, Error, EventRecorder, EventType, Patch};
use kedge_meta::{ObjectKey, Status, resources};
use serde_json::json;

use crate::context::{Context, ignore_not_found};
use crate::objects::volume::{RESIZER, SIZE_BEFORE, Source};
use crate::objects::{Claim, ClaimPhase, Meta, Volume};
use crate::persistentvolume::migrated;

/// Whether a change is about the size of a bound claim.
fn is_of_size(change: &Change<Claim>) -> bool {
    let Some(new) = change.new.as_ref().filter(|claim| claim.phase == ClaimPhase::Bound) else { return false };
    change.old.as_ref().is_none_or(|old| new.storage > old.storage || new.capacity() > old.capacity())
}

/// Whether the volume is to grow, or has and its file system has not.
fn is_to_grow(claim: &Claim, volume: &Volume) -> bool {
    claim.storage > claim.capacity() || volume.annotation(SIZE_BEFORE).is_some()
}

/// What is told, and who is to be named as the resizer.
fn plan(volume: &Volume) -> (String, Option<&'static str>) {
    match &volume.source {
        Source::Migrated(plugin) => (
            format!("CSI migration enabled for {plugin}; waiting for external resizer to expand the pvc"),
            migrated(plugin),
        ),
        _ => ("waiting for an external controller to expand this PVC".to_owned(), None),
    }
}

struct Controller {
    ctx: Context,
    events: EventRecorder,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let controller = Arc::new(Controller { ctx: ctx.clone(), events: ctx.recorder("volume_expand") });
    let q = queue.clone();
    ctx.claims.on_change(move |change| {
        if is_of_size(change) {
            q.add(change.key());
        }
    });
    let claims = ctx.claims.clone();
    let synced = async move { claims.synced().await };
    ctx.work("volume-expand", &queue, 1, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let claim = self.ctx.claims.get(&key.namespace, &key.name);
        let Some(claim) = claim.filter(|claim| claim.phase == ClaimPhase::Bound) else { return Ok(()) };
        if self.ctx.volumes.get("", &claim.volume_name).is_some_and(|volume| !is_to_grow(&claim, &volume)) {
            return Ok(());
        }
        let volume: Volume = self.ctx.client.get(&resources::PERSISTENT_VOLUMES, "", &claim.volume_name).await?;
        let meta = &claim.metadata;
        if !volume.claim.as_ref().is_some_and(|of| of.namespace == meta.namespace && of.uid == meta.uid) {
            return Err(Status::internal(format!("persistent Volume is not bound to PVC being updated : {key}")).into());
        }
        if !is_to_grow(&claim, &volume) {
            return Ok(());
        }
        let (message, resizer) = plan(&volume);
        self.events.event(&claim.reference(), EventType::Normal, "ExternalExpanding", message);
        let Some(resizer) = resizer.filter(|name| claim.annotation(RESIZER) != Some(*name)) else { return Ok(()) };
        let patch = Patch::Merge(json!({"metadata": {"uid": meta.uid, "annotations": {RESIZER: resizer}}}));
        let claims = &resources::PERSISTENT_VOLUME_CLAIMS;
        let patched = self.ctx.client.patch(claims, &meta.namespace, &meta.name, patch, None).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn claim(wanted: &str, has: &str, phase: &str) -> Arc<Claim> {
        let spec = json!({"resources": {"requests": {"storage": wanted}}});
        let object = json!({"spec": spec, "status": {"phase": phase, "capacity": {"storage": has}}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn only_what_is_to_grow_is_told_of() {
        let changed = |old, new| is_of_size(&Change { old: Some(old), new: Some(new) });
        assert!(changed(claim("1Gi", "1Gi", "Bound"), claim("2Gi", "1Gi", "Bound")));
        assert!(changed(claim("2Gi", "1Gi", "Bound"), claim("2Gi", "2Gi", "Bound")));
        assert!(!changed(claim("2Gi", "1Gi", "Bound"), claim("2Gi", "1Gi", "Bound")));
        assert!(!changed(claim("1Gi", "1Gi", "Pending"), claim("2Gi", "1Gi", "Pending")));
        let volume = |spec: serde_json::Value, annotations: serde_json::Value| -> Volume {
            serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec": spec})).unwrap()
        };
        let plain = volume(json!({"csi": {}}), json!({}));
        assert!(
            is_to_grow(&claim("2Gi", "1Gi", "Bound"), &plain) && !is_to_grow(&claim("1Gi", "1Gi", "Bound"), &plain)
        );
        assert!(is_to_grow(&claim("1Gi", "1Gi", "Bound"), &volume(json!({}), json!({SIZE_BEFORE: "1Gi"}))));
        assert_eq!(plan(&plain), ("waiting for an external controller to expand this PVC".to_owned(), None));
        let (told, resizer) = plan(&volume(json!({"gcePersistentDisk": {}}), json!({})));
        assert!(told.starts_with("CSI migration enabled for kubernetes.io/gce-pd; waiting"));
        assert_eq!(resizer, Some("pd.csi.storage.gke.io"));
    }
}
