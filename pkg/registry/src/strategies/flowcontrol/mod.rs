//! Priority and fairness.

pub(crate) mod flow_schema;
pub(crate) mod priority_level;

use serde_json::{Value, json};

/// The groups that everybody is in one of.
const EVERYBODY: [&str; 2] = ["system:unauthenticated", "system:authenticated"];

/// Rules about all resources, and about all paths.
fn everything() -> (Value, Value) {
    let all = json!(["*"]);
    let resources =
        json!([{"verbs": all, "apiGroups": all, "resources": all, "clusterScope": true, "namespaces": all}]);
    (resources, json!([{"verbs": all, "nonResourceURLs": all}]))
}
