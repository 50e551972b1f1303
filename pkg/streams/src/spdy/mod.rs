//! SPDY/3.1, as far as Kubernetes uses it.
//!
//! Invariant: flow-control windows are not used. The implementations on the other end (all of them
//! the same library) neither send nor heed them; a reader that is slow stops the connection.

mod dictionary;
pub mod frame;
pub mod headers;
mod session;

pub use frame::Frame;
pub use headers::Headers;
pub use session::{Incoming, Role, Session, Stream};
