//! Which EndpointSlices belong to a service.

use kedge_meta::Status;
use kedge_meta::labels::Selector;
use kedge_storage::Matcher;
use serde_json::Value;

use crate::convert;
use crate::registry::Registry;

/// The label that names the service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The slices of a service.
///
/// # Errors
/// When one cannot be read.
pub fn of_service(registry: &Registry, namespace: &str, name: &str) -> Result<Vec<Value>, Status> {
    let Some(served) = registry.builtin("discovery.k8s.io", "v1", "endpointslices") else { return Ok(Vec::new()) };
    let labels = [(SERVICE_NAME.to_owned(), name.to_owned())].into_iter().collect();
    let matcher = Matcher { labels: Selector::from_map(&labels), ..Matcher::default() };
    let listing = served.store.readable(&served.scope(namespace), &matcher);
    listing.objects.iter().map(|(_, object)| convert::read(served, object)).collect()
}
