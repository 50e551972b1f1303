//! What a new cluster starts with, embedded in the binary.
//!
//! Invariant: what the YAML files hold is created when it is missing and left alone afterwards; the roles and bindings of
//! `rbac.policy` are completed at every start, as upstream's, and those of `flowcontrol.yaml` come back whenever they are deleted.

/// A file of objects.
pub struct Manifest {
    pub name: &'static str,
    /// YAML documents.
    pub content: &'static str,
}

/// All files of objects, in the order in which they are applied.
pub const ALL: &[Manifest] = &[
    Manifest { name: "namespaces.yaml", content: include_str!("../namespaces.yaml") },
    Manifest { name: "priorityclasses.yaml", content: include_str!("../priorityclasses.yaml") },
];

/// The default priority levels and flow schemas.
pub const FLOW_CONTROL: Manifest = Manifest { name: "flowcontrol.yaml", content: include_str!("../flowcontrol.yaml") };

/// The default roles and bindings, in the form that the file itself explains.
pub const RBAC: &str = include_str!("../rbac.policy");

/// Roles for the built-in metrics API.
pub const METRICS: &str = include_str!("../metrics.policy");

/// Roles for the migration of storage versions.
pub const MIGRATION: &str = include_str!("../migration.policy");
