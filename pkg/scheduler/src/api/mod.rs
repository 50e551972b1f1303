//! The objects the scheduler reads, reduced to the fields it reads.
//!
//! Invariant: what is computed from an object alone (requests, parsed selectors) is computed once, when it is decoded.

mod amount;
mod node;
mod nodeselector;
mod objects;
mod pod;
mod podaffinity;
mod requests;
mod storage;
mod taints;

pub use amount::Resources;
pub use node::Node;
pub use nodeselector::PreferredTerm;
pub use objects::{Budget, Namespace, Service, Workload};
pub use pod::{HostPort, Pending, Pod, PodVolume, SpreadConstraint};
pub use podaffinity::{PodAffinity, PodAffinityTerm};
pub use storage::{
    Attachment, Capacity, Claim, ClaimPhase, CsiDriver, CsiNode, SELECTED_NODE, StorageClass, Volume, volume_reaches,
};
pub use taints::{Effect, Taint, Toleration, tolerated};
