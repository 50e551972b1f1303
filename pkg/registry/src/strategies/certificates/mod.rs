//! Certificate signing requests.

pub(crate) mod signing_request;
