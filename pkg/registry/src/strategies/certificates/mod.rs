//! Certificate signing requests.

mod conditions;
mod proof;
mod signer_name;
pub(crate) mod signing_request;
