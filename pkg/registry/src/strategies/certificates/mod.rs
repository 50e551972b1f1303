//! Certificate signing requests.

mod proof;
mod signer_name;
pub(crate) mod signing_request;
