//! A volume that has become larger: its driver is asked to grow the file system on it, and the claim is told.

use k8s_openapi::api::core::v1::Pod;
use kedge_client::{Error, Patch};
use kedge_csi::v1;
use kedge_meta::quantity::Quantity;
use kedge_meta::resources;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::drivers::Abilities;
use super::publish::capability;
use super::source::Source;
use super::{Csi, CsiError};
use crate::pod::PodExt;

const EXPAND: &str = "MountVolume.NodeExpandVolume";

/// What a claim says of its size, and what its volume has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Growth {
    pub(crate) namespace: String,
    pub(crate) claim: String,
    pub(crate) have: String,
    pub(crate) want: String,
}

impl Growth {
    /// How many bytes it has become, if it has become larger.
    fn bytes(&self) -> Option<i64> {
        let size = |text: &str| Quantity::parse(text).ok().map(|quantity| quantity.value());
        size(&self.want).filter(|want| size(&self.have).is_some_and(|have| *want > have))
    }
}

impl Csi {
    /// Grows a volume that is published, if it has become larger.
    ///
    /// # Errors
    /// [`CsiError`], for the pod's events.
    pub(crate) async fn grow(&self, source: &Source, pod: &Pod, growth: &Growth) -> Result<(), CsiError> {
        let failed = |message: String| CsiError { operation: EXPAND, message };
        let Some(bytes) = growth.bytes().filter(|_| !source.read_only) else { return Ok(()) };
        let driver = self.drivers.get(&source.driver).map_err(failed)?;
        let call = self.call(&source.driver, &source.handle);
        let _held = call.lock().await;
        let abilities = Abilities::of(&driver).await.map_err(|error| failed(error.to_string()))?;
        if abilities.expand {
            let places = self.places(pod.uid(), &source.name, &source.driver, &source.handle, source.block);
            let secrets = self.secret(source.expand_secret.as_ref()).await.map_err(failed)?;
            let staged = if abilities.stage { places.staged.display().to_string() } else { String::new() };
            let request = v1::NodeExpandVolumeRequest {
                volume_id: source.handle.clone(),
                volume_path: places.target.display().to_string(),
                capacity_range: Some(v1::CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
                staging_target_path: staged,
                volume_capability: Some(capability(source, &abilities, None)),
                secrets,
            };
            match driver.expand(request).await {
                // It cannot grow while it is used, which is no reason to have it not.
                Err(error) if error.is_precondition() => {
                    warn!(pod = pod.display(), volume = source.name, %error, "a volume does not grow as it is used");
                    return Ok(());
                }
                done => done.map_err(|error| failed(error.to_string()))?,
            };
        }
        self.tell(growth).await.map_err(|error| failed(error.to_string()))?;
        info!(pod = pod.display(), volume = source.name, bytes, "a volume has become larger");
        Ok(())
    }

    async fn tell(&self, growth: &Growth) -> Result<(), Error> {
        let claims = &resources::PERSISTENT_VOLUME_CLAIMS;
        let claim: Value = self.client.get(claims, &growth.namespace, &growth.claim).await?;
        let patch = told(&claim, &growth.want);
        let patch = Patch::Merge(patch);
        let _: Value = self.client.patch(claims, &growth.namespace, &growth.claim, patch, Some("status")).await?;
        Ok(())
    }
}

/// The change of a claim whose volume has that size now.
fn told(claim: &Value, size: &str) -> Value {
    let conditions: Vec<&Value> = claim["status"]["conditions"].as_array().into_iter().flatten().collect();
    let left: Vec<&Value> = conditions
        .iter()
        .filter(|c| !matches!(c["type"].as_str(), Some("FileSystemResizePending" | "Resizing")))
        .copied()
        .collect();
    let mut status = json!({ "capacity": { "storage": size } });
    if left.len() != conditions.len() {
        status["conditions"] = if left.is_empty() { Value::Null } else { json!(left) };
    }
    if !claim["status"]["allocatedResourceStatuses"]["storage"].is_null() {
        status["allocatedResourceStatuses"] = json!({ "storage": null });
    }
    json!({ "metadata": { "resourceVersion": claim["metadata"]["resourceVersion"] }, "status": status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_larger_grows() {
        let of = |have: &str, want: &str| Growth { have: have.into(), want: want.into(), ..Growth::default() }.bytes();
        assert_eq!(of("1Gi", "2Gi"), Some(2 << 30));
        assert_eq!((of("2Gi", "2Gi"), of("2Gi", "1Gi"), of("", "1Gi")), (None, None, None));
    }

    #[test]
    fn a_claim_that_waited_for_it_does_not_any_more() {
        let claim = json!({"metadata": {"resourceVersion": "5"}, "status": {
            "allocatedResourceStatuses": {"storage": "NodeResizePending"},
            "conditions": [{"type": "FileSystemResizePending"}, {"type": "Other"}]}});
        let patch = told(&claim, "2Gi");
        assert_eq!(patch["metadata"]["resourceVersion"], "5");
        assert_eq!(patch["status"]["conditions"], json!([{"type": "Other"}]));
        assert_eq!(patch["status"]["allocatedResourceStatuses"], json!({"storage": null}));
        assert_eq!(told(&json!({}), "1Gi")["status"], json!({"capacity": {"storage": "1Gi"}}));
    }
}
