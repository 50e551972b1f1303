//! What a request says: its path and query, the forms that it speaks, its body.
//!
//! # Layers
//!
//! 1. `patch`, `configuration`: changes of objects
//! 2. `decode`: objects
//! 3. `options`, `negotiate`, `shown`
//! 4. `request_info`

pub(crate) mod configuration;
pub(crate) mod decode;
pub(crate) mod negotiate;
pub(crate) mod options;
pub(crate) mod patch;
pub(crate) mod request_info;
mod shown;
