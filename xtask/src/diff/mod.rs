//! The API to the letter: the same requests to two servers, and how their answers differ.
//!
//! Requests are data ([`scenario`], `data/scenarios`) and what [`kinds`] makes of one small object of each kind. Answers are
//! [normalised](normal), so that nothing is left that differs from run to run, and compared place by place. What a peer
//! answered can be [recorded](record), so that a test needs no peer.

mod accepted;
mod answer;
mod compare;
pub(crate) mod glob;
mod kinds;
mod node;
mod normal;
pub mod record;
mod run;
mod scenario;
pub(crate) mod side;
mod wire;

pub use run::{Outcome, places, replay, run, scenarios};
