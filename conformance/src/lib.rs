//! kedge-conformance.
