//! Roles and bindings: names are path segments, such as `system:node`.

pub(crate) mod binding;
pub(crate) mod role;
