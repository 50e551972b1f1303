//! What is measured, and what each of it is about.

use super::thresholds::{Limit, Thresholds};

/// An eviction signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Signal {
    // Memory comes first where several are short.
    MemoryAvailable,
    AllocatableMemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

/// The condition of the node that a signal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Condition {
    Memory,
    Disk,
    Pids,
}

impl Signal {
    pub(crate) const ALL: [Signal; 7] = [
        Signal::MemoryAvailable,
        Signal::AllocatableMemoryAvailable,
        Signal::NodefsAvailable,
        Signal::NodefsInodesFree,
        Signal::ImagefsAvailable,
        Signal::ImagefsInodesFree,
        Signal::PidAvailable,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Signal::MemoryAvailable => "memory.available",
            Signal::AllocatableMemoryAvailable => "allocatableMemory.available",
            Signal::NodefsAvailable => "nodefs.available",
            Signal::NodefsInodesFree => "nodefs.inodesFree",
            Signal::ImagefsAvailable => "imagefs.available",
            Signal::ImagefsInodesFree => "imagefs.inodesFree",
            Signal::PidAvailable => "pid.available",
        }
    }

    /// The resource that is short, by the name in messages.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => "memory",
            Signal::NodefsAvailable | Signal::ImagefsAvailable => "ephemeral-storage",
            Signal::NodefsInodesFree | Signal::ImagefsInodesFree => "inodes",
            Signal::PidAvailable => "pids",
        }
    }

    pub(crate) fn condition(self) -> Condition {
        match self.resource() {
            "memory" => Condition::Memory,
            "pids" => Condition::Pids,
            _ => Condition::Disk,
        }
    }

    /// Whether it is about the disk of images.
    pub(crate) fn is_of_images(self) -> bool {
        matches!(self, Signal::ImagefsAvailable | Signal::ImagefsInodesFree)
    }

    /// The limit that was given for it; pods' own memory has that of the machine's.
    pub(crate) fn limit(self, of: &Thresholds) -> Option<Limit> {
        match self {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => of.memory,
            Signal::NodefsAvailable => of.nodefs,
            Signal::NodefsInodesFree => of.nodefs_inodes,
            Signal::ImagefsAvailable => of.imagefs,
            Signal::ImagefsInodesFree => of.imagefs_inodes,
            Signal::PidAvailable => of.pids,
        }
    }
}

/// What was found of one signal: bytes, files or process ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) capacity: i64,
    pub(crate) available: i64,
}
