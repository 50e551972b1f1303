//! Policies with their bindings, made ready once for each change of one of them.
//!
//! What is asked on every request is whether anything has changed since, as for webhooks.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Registry, Served, convert};
use kedge_storage::Matcher;
use parking_lot::RwLock;
use serde_json::Value;

use super::GROUP;
use super::definition::{Binding, Policy, Rules};

/// The policies of one kind.
pub(crate) struct Source<E> {
    policies: Option<Arc<Served>>,
    bindings: Option<Arc<Served>>,
    ready: RwLock<Arc<Ready<E>>>,
}

/// A policy that is bound.
#[derive(Debug)]
pub(crate) struct Bound<E> {
    pub policy: Arc<Policy<E>>,
    pub bindings: Vec<Arc<Binding>>,
}

struct Ready<E> {
    /// Of the two resources, when this was made ready.
    revisions: Option<(u64, u64)>,
    compiled: Vec<Compiled<E>>,
    bound: Arc<[Bound<E>]>,
}

/// What was compiled, and of which generation of which policy.
struct Compiled<E> {
    uid: Box<str>,
    generation: Option<i64>,
    policy: Arc<Policy<E>>,
}

impl<E> Default for Ready<E> {
    fn default() -> Self {
        Self { revisions: None, compiled: Vec::new(), bound: Arc::from([]) }
    }
}

impl<E: Rules> Source<E> {
    pub(crate) fn new(registry: &Registry, policies: &str, bindings: &str) -> Self {
        let served = |plural| registry.builtin(GROUP, "v1", plural).cloned();
        Self { policies: served(policies), bindings: served(bindings), ready: RwLock::default() }
    }

    /// All policies that are bound, by name, each with its bindings by name.
    ///
    /// # Errors
    /// When one of them cannot be read: nobody knows then what it would have said.
    pub(crate) fn bound(&self) -> Result<Arc<[Bound<E>]>, Status> {
        let (Some(policies), Some(bindings)) = (&self.policies, &self.bindings) else { return Ok(Arc::from([])) };
        let newest = (policies.store.newest(), bindings.store.newest());
        {
            let ready = self.ready.read();
            if ready.revisions == Some(newest) {
                return Ok(ready.bound.clone());
            }
        }
        let ready = Arc::new(self.make((policies, bindings), newest)?);
        let bound = ready.bound.clone();
        *self.ready.write() = ready;
        Ok(bound)
    }

    fn make(&self, (policies, bindings): (&Served, &Served), newest: (u64, u64)) -> Result<Ready<E>, Status> {
        let mut by_policy: BTreeMap<Box<str>, Vec<Arc<Binding>>> = BTreeMap::new();
        for binding in all(bindings)? {
            let binding = Binding::read(&binding);
            by_policy.entry(binding.policy.clone()).or_default().push(binding);
        }
        let before = self.ready.read().clone();
        let mut ready = Ready { revisions: Some(newest), ..Ready::default() };
        let mut bound = Vec::new();
        for (name, mut bindings) in by_policy {
            let Some(object) = policies.store.get(&name).map_err(store_failure)? else { continue };
            let object = convert::read(policies, &object)?;
            let (uid, generation) = (object.text(&["metadata", "uid"]), object.int(&["metadata", "generation"]));
            // Without a generation nobody can tell whether it is another one.
            let same = |one: &&Compiled<E>| *one.uid == *uid && one.generation == generation && generation.is_some();
            let known = before.compiled.iter().find(same).map(|known| known.policy.clone());
            let policy = known.unwrap_or_else(|| Arc::new(Policy::read(&object)));
            ready.compiled.push(Compiled { uid: uid.into(), generation, policy: policy.clone() });
            bindings.sort_by(|a, b| a.name.cmp(&b.name));
            bound.push(Bound { policy, bindings });
        }
        ready.bound = bound.into();
        Ok(ready)
    }
}

fn all(served: &Served) -> Result<Vec<Value>, Status> {
    let listing = served.store.list("", &Matcher::default(), 0).map_err(store_failure)?;
    listing.objects.iter().map(|(_, object)| convert::read(served, object)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::validation::Validations;
    use super::*;
    use crate::testing;
    use kedge_storage::With;
    use serde_json::json;

    fn object(kind: &str, name: &str, generation: i64, spec: Value) -> Value {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "spec": spec,
            "metadata": {"name": name, "uid": name, "generation": generation}})
    }

    #[tokio::test]
    async fn a_change_is_seen_at_once_and_compiled_once() {
        let (registry, _) = testing::registry().await;
        let (policies, bindings) = ("validatingadmissionpolicies", "validatingadmissionpolicybindings");
        let source: Source<Validations> = Source::new(&registry, policies, bindings);
        let names = || -> Vec<String> {
            let bound = source.bound().unwrap();
            let told =
                |one: &Bound<_>| one.bindings.iter().map(|b| format!("{}/{}", one.policy.name, b.name)).collect();
            bound.iter().flat_map(|one| -> Vec<String> { told(one) }).collect()
        };
        let bind = |name: &str, policy: &str| {
            object("ValidatingAdmissionPolicyBinding", name, 1, json!({"policyName": policy}))
        };
        let policy = |name: &str, generation| object("ValidatingAdmissionPolicy", name, generation, json!({}));
        testing::put(&registry, bind("z", "b")).await;
        assert_eq!(names(), [""; 0], "there is no such policy yet");
        testing::put(&registry, policy("b", 1)).await;
        testing::put(&registry, policy("unbound", 1)).await;
        testing::put(&registry, policy("a", 1)).await;
        testing::put(&registry, bind("y", "b")).await;
        testing::put(&registry, bind("x", "a")).await;
        assert_eq!(names(), ["a/x", "b/y", "b/z"]);
        let before = source.bound().unwrap();
        assert!(Arc::ptr_eq(&before, &source.bound().unwrap()), "nothing has changed");
        let served = registry.builtin(GROUP, "v1", policies).unwrap();
        let revision = served.store.get("a").unwrap().unwrap().revision;
        let mut status = policy("a", 1);
        status["status"] = json!({"observedGeneration": 1});
        let written = served.store.update("a", &status, revision, With::default()).await.unwrap();
        assert!(Arc::ptr_eq(&before[0].policy, &source.bound().unwrap()[0].policy), "the generation is the same");
        served.store.update("a", &policy("a", 2), written.revision, With::default()).await.unwrap();
        let after = source.bound().unwrap();
        assert!(!Arc::ptr_eq(&before[0].policy, &after[0].policy));
        assert!(Arc::ptr_eq(&before[1].policy, &after[1].policy));
        let served = registry.builtin(GROUP, "v1", bindings).unwrap();
        let revision = served.store.get("x").unwrap().unwrap().revision;
        served.store.delete("x", revision, With::default()).await.unwrap();
        assert_eq!(names(), ["b/y", "b/z"]);
    }
}
