//! Volumes of pods: made before containers start, kept up to date while they run, taken down after them.
//!
//! What is mounted is found again from the directory tree and the kernel's mount table, never from memory alone.

mod atomic;
mod directories;
mod host_path;
mod manager;
mod mounter;
mod ownership;
mod payload;
mod persistent;
mod subpath;
mod token;

pub(crate) use directories::Directories;
pub(crate) use manager::{MountedVolume, Volumes, referenced_objects};
pub(crate) use mounter::{KernelMounter, Mounter};
pub(crate) use subpath::{MountPlan, SubPath, container_mounts};

#[cfg(test)]
mod kernel_tests;
