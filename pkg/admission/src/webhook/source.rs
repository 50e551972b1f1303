//! The webhooks of all configurations of a kind, made ready once for each change of a configuration.
//!
//! What is asked on every request is whether anything has changed since: the revision of the resource's last change, which its cache
//! knows. A configuration that is acknowledged is therefore in force.

use std::sync::Arc;

use kedge_meta::Status;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Registry, Served, convert};
use kedge_storage::Matcher;
use parking_lot::RwLock;

use super::hook::{Hook, hooks};

const GROUP: &str = "admissionregistration.k8s.io";

/// The webhooks of one kind of configurations.
pub(crate) struct Source {
    served: Option<Arc<Served>>,
    ready: RwLock<Arc<Ready>>,
}

#[derive(Default)]
struct Ready {
    /// Of the resource, when they were made ready.
    revision: Option<u64>,
    configurations: Vec<Configuration>,
    hooks: Arc<[Arc<Hook>]>,
}

struct Configuration {
    name: Box<str>,
    revision: u64,
    hooks: Vec<Arc<Hook>>,
}

impl Source {
    pub(crate) fn new(registry: &Registry, plural: &str) -> Self {
        Self { served: registry.builtin(GROUP, "v1", plural).cloned(), ready: RwLock::default() }
    }

    /// All webhooks: configurations by name, and in each its own order.
    ///
    /// # Errors
    /// When a configuration cannot be read: nobody knows then whom it would have asked.
    pub(crate) fn hooks(&self) -> Result<Arc<[Arc<Hook>]>, Status> {
        let Some(served) = &self.served else { return Ok(Arc::default()) };
        let newest = served.store.newest();
        {
            let ready = self.ready.read();
            if ready.revision == Some(newest) {
                return Ok(ready.hooks.clone());
            }
        }
        let ready = Arc::new(self.make(served, newest)?);
        let hooks = ready.hooks.clone();
        *self.ready.write() = ready;
        Ok(hooks)
    }

    fn make(&self, served: &Served, newest: u64) -> Result<Ready, Status> {
        let listing = served.store.list("", &Matcher::default(), 0).map_err(store_failure)?;
        let before = self.ready.read().clone();
        let mut configurations = Vec::new();
        for (name, object) in &listing.objects {
            let known = before.configurations.iter().find(|one| *one.name == **name && one.revision == object.revision);
            let hooks = match known {
                Some(known) => known.hooks.clone(),
                None => hooks(&convert::read(served, object)?).into_iter().map(Arc::new).collect(),
            };
            configurations.push(Configuration { name: (**name).into(), revision: object.revision, hooks });
        }
        configurations.sort_by(|a, b| a.name.cmp(&b.name));
        let hooks = configurations.iter().flat_map(|one| one.hooks.iter().cloned()).collect();
        Ok(Ready { revision: Some(newest), configurations, hooks })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_storage::With;
    use serde_json::json;

    #[tokio::test]
    async fn a_change_is_seen_at_once_and_alone() {
        let (registry, _) = testing::registry().await;
        let source = Source::new(&registry, "mutatingwebhookconfigurations");
        let names = |source: &Source| -> Vec<String> {
            source.hooks().unwrap().iter().map(|hook| hook.uid.to_string()).collect()
        };
        assert_eq!(names(&source), [""; 0]);
        let configuration = |name: &str, hooks: &[&str]| {
            let hooks: Vec<_> = hooks.iter().map(|name| json!({"name": name})).collect();
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": name}, "webhooks": hooks})
        };
        testing::put(&registry, configuration("b", &["x.y.z", "u.v.w", "x.y.z"])).await;
        testing::put(&registry, configuration("a", &["last.of.all"])).await;
        assert_eq!(names(&source), ["a/last.of.all/0", "b/x.y.z/0", "b/u.v.w/0", "b/x.y.z/1"]);
        let before = source.hooks().unwrap();
        assert!(Arc::ptr_eq(&before, &source.hooks().unwrap()), "nothing has changed");
        let served = source.served.clone().unwrap();
        let revision = served.store.get("a").unwrap().unwrap().revision;
        served.store.update("a", &configuration("a", &[]), revision, With::default()).await.unwrap();
        assert_eq!(names(&source), ["b/x.y.z/0", "b/u.v.w/0", "b/x.y.z/1"]);
        assert!(Arc::ptr_eq(&before[1], &source.hooks().unwrap()[0]), "what has not changed is not made anew");
        let revision = served.store.get("b").unwrap().unwrap().revision;
        served.store.delete("b", revision, With::default()).await.unwrap();
        assert_eq!(names(&source), [""; 0]);
        assert_eq!(served.info.plural, "mutatingwebhookconfigurations");
        assert!(registry.builtin(GROUP, "v1", "validatingwebhookconfigurations").is_some());
    }
}
