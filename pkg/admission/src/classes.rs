//! Default classes: of storage, of ingress.

use kedge_meta::Status;
use kedge_registry::Registry;
use kedge_registry::value::ValueExt as _;
use serde_json::Value;

use crate::list;

/// The name of the class that one of these annotations marks as the default. Of several the newest counts, and of those of an age the first
/// by name.
pub(crate) fn default_class(
    registry: &Registry,
    resource: (&str, &str),
    annotations: &[&str],
) -> Result<Option<String>, Status> {
    let marked = |class: &Value| annotations.iter().any(|key| class.text(&["metadata", "annotations", key]) == "true");
    let mut classes: Vec<Value> = list(registry, resource, "")?.into_iter().filter(marked).collect();
    // Timestamps of one form sort as texts.
    classes.sort_by(|a, b| {
        let born = |class: &Value| class.text(&["metadata", "creationTimestamp"]).to_owned();
        born(b).cmp(&born(a)).then_with(|| a.name().cmp(b.name()))
    });
    Ok(classes.first().map(|class| class.name().to_owned()))
}
