//! Parameters of policies: objects of any kind that is served, read as they are now.

use std::sync::Arc;

use kedge_registry::{Entry, Registry, Served, convert};
use kedge_storage::Matcher;
use serde_json::Value;

use super::definition::{ParamKind, ParamRef, Which};

impl ParamKind {
    /// The resource of the kind.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn resource(&self, registry: &Registry) -> Result<Arc<Served>, String> {
        match registry.catalogue().kind(&self.group, &self.version, &self.kind) {
            Some(Entry::Stored(served)) => Ok(served.clone()),
            _ => Err(format!("failed to find resource referenced by paramKind: '{self}'")),
        }
    }
}

/// The parameters that a binding means for a request in `namespace`: null is one that is not there, and none that there is nothing to do.
///
/// # Errors
/// What is wrong with the binding.
pub(super) async fn collect(
    resource: Option<&Served>,
    reference: Option<&ParamRef>,
    namespace: &str,
) -> Result<Vec<Value>, String> {
    let (Some(resource), Some(reference)) = (resource, reference) else { return Ok(vec![Value::Null]) };
    let within = match (resource.info.namespaced, &*reference.namespace) {
        (true, "") if namespace.is_empty() => {
            let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, "") => namespace,
        (false, "") => "",
        (true, own) => own,
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
    };
    let objects = match &reference.which {
        Which::Named(name) => {
            let found = resource.store.get(&resource.key(within, name)).map_err(|err| err.to_string())?;
            found.into_iter().collect()
        }
        Which::Selected(selector) => {
            let labels = selector.clone()?;
            let matcher = Matcher { labels, ..Matcher::default() };
            let listing = resource.store.list(&resource.scope(within), &matcher, 0).map_err(|err| err.to_string())?;
            listing.objects.into_iter().map(|(_, object)| object).collect::<Vec<_>>()
        }
        Which::Unsaid => return Err("one of name or selector must be provided".to_owned()),
    };
    if objects.is_empty() && reference.denies_without {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    convert::read_all(resource, &objects).await.map_err(|err| err.message)
}
