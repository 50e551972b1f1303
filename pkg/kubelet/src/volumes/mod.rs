//! Volumes of pods: made before containers start, kept up to date while they run, taken down after them.
//!
//! What is mounted is found again from the directory tree and the kernel's mount table, never from memory alone.

mod atomic;
mod directories;
mod empty_dir;
mod host_path;
mod known;
mod manager;
mod mounter;
mod nfs;
mod ownership;
mod payload;
mod persistent;
mod references;
mod refresh;
mod removal;
mod subpath;
mod token;

pub(crate) use directories::Directories;
pub(crate) use known::boot_id;
pub(crate) use manager::{MountedVolume, Tools, VolumeError, Volumes};
pub(crate) use mounter::{KernelMounter, Mounter};
pub(crate) use ownership::set_volume_group;
pub(crate) use references::referenced_objects;
pub(crate) use refresh::Refreshing;
pub(crate) use subpath::{MountPlan, SubPath, container_devices, container_mounts};
pub(crate) use token::{TokenRequest, Tokens};

#[cfg(test)]
mod kernel_tests;
