//! Dynamic resource allocation: classes of devices, claims on them, and slices of what drivers have.
//!
//! Invariant: all of upstream's gates that are on by default are on, and those that are off leave nothing behind: attributes that are lists,
//! and what devices take of a node's own resources.

mod capacity;
mod claim;
mod claim_status;
mod class;
mod device;
mod items;
mod names;
mod selectors;
mod slice;

pub(super) use claim::{ResourceClaim, ResourceClaimTemplate};
pub(super) use class::DeviceClass;
pub(super) use slice::ResourceSlice;
