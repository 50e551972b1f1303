//! Names of what configures admission.

use serde_json::Value;

use crate::value::ValueExt as _;

/// What comes from files is called so.
const STATIC: &str = ".static.k8s.io";

/// Warnings of a name that is meant for something else.
pub(super) fn of_name(object: &Value) -> Vec<String> {
    if !object.name().ends_with(STATIC) {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: names ending with {STATIC:?} are reserved for static manifest-based configurations and cannot \
         be managed via the API"
    )]
}
