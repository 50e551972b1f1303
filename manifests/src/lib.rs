//! What a new cluster starts with, as YAML, embedded in the binary.
//!
//! Invariant: every file holds objects that are created when they are missing and left alone afterwards.

/// A file of objects.
pub struct Manifest {
    pub name: &'static str,
    /// YAML documents.
    pub content: &'static str,
}

/// All files, in the order in which they are applied.
pub const ALL: &[Manifest] = &[
    Manifest { name: "namespaces.yaml", content: include_str!("../namespaces.yaml") },
    Manifest { name: "priorityclasses.yaml", content: include_str!("../priorityclasses.yaml") },
    Manifest { name: "rbac.yaml", content: include_str!("../rbac.yaml") },
    Manifest { name: "rbac-users.yaml", content: include_str!("../rbac-users.yaml") },
];
