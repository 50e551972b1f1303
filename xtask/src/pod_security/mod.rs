//! Pod Security beside a stock server: made-up pods that mix what the standards look at, tried in namespaces of each level and version.
//!
//! What a peer said can be recorded; a test of the plugin replays that without one.

mod pods;
mod run;

pub use run::run;
