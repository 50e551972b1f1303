//! Streams over upgraded HTTP connections: exec, attach and port-forward.
//!
//! Invariant: this crate speaks protocols and knows neither pods nor containers. A session lives as
//! long as somebody holds one of its streams; what waits in between is bounded, so a slow reader
//! slows its writer down instead of filling memory.
//!
//! - [`negotiate`]: which protocol an upgrade request gets, and the answer to it.
//! - [`remote_command`]: the server of exec and attach, over SPDY and WebSocket.
//! - [`cri`]: the client of a container runtime's streaming server, over SPDY.
//! - [`bridge`]: joins the two.
//! - [`port_forward`]: the server of port-forward, over SPDY, plain or inside a WebSocket.
//! - [`serve_reader`]: bytes that are only read, such as logs, over WebSocket.
//! - [`spdy`] and [`ws`]: the frames of both, and byte streams inside them.

pub mod bridge;
pub mod cri;
pub mod negotiate;
mod pipe;
pub mod port_forward;
mod reader;
pub mod remote_command;
pub mod spdy;
mod status;
pub mod ws;

pub use bridge::bridge;
pub use cri::{CriStreams, cri_connect};
pub use port_forward::{Target, serve_port_forward};
pub use reader::serve_reader;
pub use remote_command::{RemoteCommandStreams, TermSize, serve_remote_command};
pub use status::{ExecStatus, StatusWriter};

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection of any kind.
pub type BoxIo = Box<dyn Io>;
/// The reading end of a stream.
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
/// The writing end of a stream.
pub type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// Which streams a command has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// The client sends input.
    pub stdin: bool,
    /// The client wants output.
    pub stdout: bool,
    /// The client wants error output; with a terminal there is none.
    pub stderr: bool,
    /// The command has a terminal.
    pub tty: bool,
}

/// Why a session could not be set up, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error("stream connection: {0}")]
    Io(#[from] std::io::Error),
    /// The peer sent what the protocol does not allow.
    #[error("stream protocol: {0}")]
    Protocol(String),
    /// The peer did not do its part in time.
    #[error("timed out {0}")]
    Timeout(&'static str),
    /// The session is over.
    #[error("the stream session is closed")]
    Closed,
    /// The container runtime's streaming server did not accept the upgrade.
    #[error("container runtime refused the stream: {0}")]
    Refused(String),
    /// The streaming URL cannot be used.
    #[error("streaming URL {url:?}: {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}
