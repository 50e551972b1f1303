//! A plug-in's registration socket.

use std::path::Path;
use std::time::Duration;

use tonic::transport::Channel;

use crate::Error;
use crate::registration::registration_client::RegistrationClient;
use crate::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use crate::socket::{MAX_MESSAGE, channel, within};

/// Upstream's limit for a call.
const CALL: Duration = Duration::from_secs(10);

/// Who registers a plug-in.
pub struct Registrar(RegistrationClient<Channel>);

impl Registrar {
    /// Nothing is dialed yet.
    pub fn new(socket: &Path) -> Self {
        Self(RegistrationClient::new(channel(socket.to_path_buf())).max_decoding_message_size(MAX_MESSAGE))
    }

    /// What the plug-in is.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn info(&self) -> Result<PluginInfo, Error> {
        Ok(self.0.clone().get_info(within(CALL, InfoRequest {})).await?.into_inner())
    }

    /// Tells it whether it is registered, or why not.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn notify(&self, registered: Result<(), String>) -> Result<(), Error> {
        let status =
            RegistrationStatus { plugin_registered: registered.is_ok(), error: registered.err().unwrap_or_default() };
        self.0.clone().notify_registration_status(within(CALL, status)).await?;
        Ok(())
    }
}
