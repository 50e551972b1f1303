//! Waiting until a controller has attached a volume to this node.

use std::collections::HashMap;
use std::time::Duration;

use kedge_base::Backoff;
use kedge_meta::{nullable, resources};
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
    status: Status,
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
        let name = attachment_name(handle, driver, &self.node);
        let mut wait = Backoff::new(FIRST_LOOK, LAST_LOOK, 0);
        let until = self.clock.monotonic() + PATIENCE;
        loop {
            let found = self.client.get::<Attachment>(&resources::VOLUME_ATTACHMENTS, "", &name).await;
            let waits_for = match found {
                Ok(Attachment { status: Status { attached: true, attachment_metadata, .. } }) => {
                    return Ok(attachment_metadata);
                }
                Ok(Attachment { status: Status { attach_error: Some(problem), .. } }) => {
                    format!("volume attachment {name} failed: {}", problem.message)
                }
                Ok(_) => format!("volume {handle} is not attached for volume attachment {name}"),
                Err(error) => {
                    format!("{PLUGIN}: volume {handle} has GET error for volume attachment {name}: {error}")
                }
            };
            if self.clock.monotonic() >= until {
                return Err(failed(waits_for));
            }
            self.clock.sleep(wait.next()).await;
        }
    }
}
