//! Waiting until a controller has attached a volume to this node.

use std::collections::HashMap;
use std::time::Duration;

use kedge_base::Backoff;
use kedge_meta::{ObjectMeta, nullable, resources};
use serde::Deserialize;

use super::source::{Source, attachment_name, unique_name};
use super::{ATTACH, Csi, CsiError, PLUGIN};

/// How long one round of a pod waits; the next goes on.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(2);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Attachment {
    metadata: ObjectMeta,
    status: Status,
}

/// What a node is told of its volumes.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Node {
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatus {
    #[serde(deserialize_with = "nullable")]
    volumes_attached: Vec<AttachedVolume>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AttachedVolume {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    attached: bool,
    #[serde(deserialize_with = "nullable")]
    attachment_metadata: HashMap<String, String>,
    attach_error: Option<Problem>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    message: String,
}

impl Csi {
    /// What the controller side of the driver has to say to this side, once the volume is attached.
    pub(super) async fn attached(&self, source: &Source, uid: &str) -> Result<HashMap<String, String>, CsiError> {
        let failed = |message: String| CsiError { operation: ATTACH, message };
        let (handle, driver) = (&source.handle, &source.driver);
        self.in_use.add(&unique_name(driver, handle), uid);
        if !self.in_use.told().await {
            return Err(failed(format!("volume {handle} is not reported as in use yet")));
        }
        let mut wait = Backoff::new(FIRST_LOOK, LAST_LOOK, 0);
        let until = self.clock.monotonic() + PATIENCE;
        loop {
            let waits_for = match self.look(source).await {
                Ok(metadata) => return Ok(metadata),
                Err(why) => why,
            };
            if self.clock.monotonic() >= until {
                return Err(failed(waits_for));
            }
            self.clock.sleep(wait.next()).await;
        }
    }

    /// Whether it is attached, and is to stay so: that the node is told of it is what a controller takes back first.
    async fn look(&self, source: &Source) -> Result<HashMap<String, String>, String> {
        let (handle, driver) = (&source.handle, &source.driver);
        let node: Node = self.client.get(&resources::NODES, "", &self.node).await.map_err(|error| error.to_string())?;
        let unique = unique_name(driver, handle);
        if !node.status.volumes_attached.iter().any(|volume| volume.name == unique) {
            return Err("volume not attached according to node status".into());
        }
        let name = attachment_name(handle, driver, &self.node);
        let found = self.client.get::<Attachment>(&resources::VOLUME_ATTACHMENTS, "", &name).await;
        let Attachment { metadata, status } = found.map_err(|error| {
            format!("{PLUGIN}: volume {handle} has GET error for volume attachment {name}: {error}")
        })?;
        match status {
            _ if metadata.is_deleting() => Err(format!("volume attachment {name} is being deleted")),
            Status { attached: true, attachment_metadata, .. } => Ok(attachment_metadata),
            Status { attach_error: Some(problem), .. } => {
                Err(format!("volume attachment {name} failed: {}", problem.message))
            }
            _ => Err(format!("volume {handle} is not attached for volume attachment {name}")),
        }
    }
}
