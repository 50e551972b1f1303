//! Migrations of storage versions.

pub(crate) mod storage_version_migration;
