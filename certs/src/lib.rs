//! kedge-certs.
