//! Probes for peers that went away without a word: otherwise what is held for them would be held for ever.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// A connection that is silent for so long is probed.
const IDLE: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_secs(15);
/// So many probes without an answer end the connection.
const PROBES: u32 = 4;

/// Has the kernel probe a connection, and end it when nobody answers.
///
/// # Errors
/// Those of the kernel.
pub fn enable(socket: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, IDLE)?;
    sockopt::set_tcp_keepintvl(socket, BETWEEN)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    Ok(())
}
