//! A driver's node service.

use std::path::Path;
use std::time::Duration;

use tonic::transport::Channel;

use crate::socket::{MAX_MESSAGE, channel, within};
use crate::v1::node_client::NodeClient;
use crate::{Error, v1};

/// Upstream's limit for a call of a driver.
const CALL: Duration = Duration::from_secs(120);

/// A driver at its socket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeDriver(NodeClient<Channel>);

impl NodeDriver {
    /// Nothing is dialed yet.
    pub fn new(socket: &Path) -> Self {
        Self(NodeClient::new(channel(socket.to_path_buf())).max_decoding_message_size(MAX_MESSAGE))
    }

    fn client(&self) -> NodeClient<Channel> {
        self.0.clone()
    }

    /// How the driver knows this node, where its volumes reach, and how many it can have here.
    ///
    /// # Errors
    /// The driver's.
    pub async fn info(&self) -> Result<v1::NodeGetInfoResponse, Error> {
        Ok(self.client().node_get_info(within(CALL, v1::NodeGetInfoRequest {})).await?.into_inner())
    }

    /// What it can do, as numbers of `node_service_capability::rpc::Type`.
    ///
    /// # Errors
    /// The driver's.
    pub async fn capabilities(&self) -> Result<Vec<i32>, Error> {
        use v1::node_service_capability::Type;
        let request = within(CALL, v1::NodeGetCapabilitiesRequest {});
        let answer = self.client().node_get_capabilities(request).await?.into_inner();
        let rpc = |c: v1::NodeServiceCapability| c.r#type.map(|Type::Rpc(rpc)| rpc.r#type);
        Ok(answer.capabilities.into_iter().filter_map(rpc).collect())
    }

    /// # Errors
    /// The driver's.
    pub async fn stage(&self, request: v1::NodeStageVolumeRequest) -> Result<(), Error> {
        self.client().node_stage_volume(within(CALL, request)).await?;
        Ok(())
    }

    /// # Errors
    /// The driver's.
    pub async fn unstage(&self, volume_id: &str, staging_target_path: &str) -> Result<(), Error> {
        let (volume_id, staging_target_path) = (volume_id.to_owned(), staging_target_path.to_owned());
        let request = v1::NodeUnstageVolumeRequest { volume_id, staging_target_path };
        self.client().node_unstage_volume(within(CALL, request)).await?;
        Ok(())
    }

    /// # Errors
    /// The driver's.
    pub async fn publish(&self, request: v1::NodePublishVolumeRequest) -> Result<(), Error> {
        self.client().node_publish_volume(within(CALL, request)).await?;
        Ok(())
    }

    /// # Errors
    /// The driver's.
    pub async fn unpublish(&self, volume_id: &str, target_path: &str) -> Result<(), Error> {
        let (volume_id, target_path) = (volume_id.to_owned(), target_path.to_owned());
        let request = v1::NodeUnpublishVolumeRequest { volume_id, target_path };
        self.client().node_unpublish_volume(within(CALL, request)).await?;
        Ok(())
    }

    /// The size that the volume has then, if the driver says.
    ///
    /// # Errors
    /// The driver's.
    pub async fn expand(&self, request: v1::NodeExpandVolumeRequest) -> Result<i64, Error> {
        Ok(self.client().node_expand_volume(within(CALL, request)).await?.into_inner().capacity_bytes)
    }

    /// # Errors
    /// The driver's.
    pub async fn stats(&self, request: v1::NodeGetVolumeStatsRequest) -> Result<v1::NodeGetVolumeStatsResponse, Error> {
        Ok(self.client().node_get_volume_stats(within(CALL, request)).await?.into_inner())
    }
}
