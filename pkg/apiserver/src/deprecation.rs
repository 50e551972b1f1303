//! Warnings about whole kinds: whoever uses one is told.

use kedge_meta::Text;
use kedge_registry::{Catalogue, Entry};

use crate::input::request_info::RequestInfo;

/// What users of a kind are told, if it is deprecated in upstream's 1.36, or by the definition of a custom resource.
pub(crate) fn warning(info: &RequestInfo, catalogue: &Catalogue) -> Option<Text> {
    match (&*info.group, &*info.version, &*info.resource) {
        ("", "v1", "endpoints") => {
            Some(Text::of("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"))
        }
        (group, version, resource) => match catalogue.get(group, version, resource)? {
            Entry::Stored(served) => served.custom.as_ref()?.deprecation.clone(),
            Entry::Answered(_) => None,
        },
    }
}
