//! kedge-kubelet.
