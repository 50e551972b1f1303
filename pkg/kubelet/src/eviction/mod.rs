//! When the node runs short: what is given up first, and which pods have to go.
//!
//! `thresholds` is what the node was told, `signals` what is measured, `plan` what follows from both and from what was before,
//! `rank` the order in which pods go, `message` what is told of it. Only `manager` and `measure` touch the machine, and a node that is not
//! short costs a look at a few numbers every ten seconds.

mod manager;
mod measure;
mod message;
mod plan;
mod rank;
mod signals;
mod thresholds;

pub(crate) use manager::start;
pub(crate) use plan::Pressure;
pub(crate) use rank::is_critical;
pub(crate) use thresholds::{Limit, Thresholds, periods};
