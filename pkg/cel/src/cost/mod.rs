//! What expressions cost: estimated before, counted while they are evaluated. The figures are upstream's: they decide which expressions may be
//! stored, so any other number would be another API.

pub mod estimate;
mod functions;
pub(crate) mod runtime;
mod size;

pub use estimate::{CostEstimate, SizeHints};
pub use size::SizeEstimate;
