//! Tokens for etcd's own users.

use std::time::Duration;

use kedge_etcdpb::etcdserverpb as pb;
use tokio::sync::Mutex;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

/// A user with its token, which all requests share.
pub(super) struct Auth {
    user: String,
    password: String,
    state: Mutex<State>,
}

enum State {
    /// No token is known.
    Unknown,
    Token(MetadataValue<Ascii>),
    /// The etcd has its authentication off: requests carry no token.
    Off,
}

impl Auth {
    pub(super) fn new(user: String, password: String) -> Self {
        Self { user, password, state: Mutex::new(State::Unknown) }
    }

    /// The token; asked for when none is known. Callers wait for the one that asks.
    pub(super) async fn token(
        &self,
        channel: &Channel,
        timeout: Duration,
    ) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Token(token) => return Ok(Some(token.clone())),
            State::Off => return Ok(None),
            State::Unknown => {}
        }
        let message = pb::AuthenticateRequest { name: self.user.clone(), password: self.password.clone() };
        let mut request = tonic::Request::new(message);
        request.set_timeout(timeout);
        match pb::auth_client::AuthClient::new(channel.clone()).authenticate(request).await {
            Ok(answer) => {
                let token: MetadataValue<Ascii> = answer
                    .into_inner()
                    .token
                    .parse()
                    .map_err(|_| Status::failed_precondition("the token is no text"))?;
                *state = State::Token(token.clone());
                Ok(Some(token))
            }
            Err(status) if status.message() == "etcdserver: authentication is not enabled" => {
                *state = State::Off;
                Ok(None)
            }
            Err(status) => Err(status),
        }
    }

    /// The token was refused.
    pub(super) async fn forget(&self) {
        *self.state.lock().await = State::Unknown;
    }
}
