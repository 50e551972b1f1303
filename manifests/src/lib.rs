//! kedge-manifests.
