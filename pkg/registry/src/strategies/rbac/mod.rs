//! Roles and bindings: names are path segments, such as `system:node`.

use kedge_meta::names;

use crate::strategy::Strategy;

pub(crate) struct Rbac;

impl Strategy for Rbac {
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::is_path_segment_name(name)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
