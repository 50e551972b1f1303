//! The API services of this server's own group versions: made, kept as they should be, and removed when what they are about has gone.
//!
//! One that a client has made its own, by taking the label away or by pointing it at a service, is left alone as upstream leaves it: that of a built-in
//! group version until the next start, that of a custom resource not at all while it has the label.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::{StreamExt as _, stream};
use kedge_meta::{Status, Text};
use kedge_registry::priorities::{self, Priority};
use kedge_registry::verbs::{
    DeleteOptions, Preconditions, Request, UpdateOptions, Writer, create, delete, store_failure, update,
};
use kedge_storage::Matcher;
use serde_json::{Value, json};
use tracing::warn;

use super::Aggregation;
use super::service::{ApiService, MANAGED};
use crate::definition::Crd;

/// So many are written at a time: they share what the store does for each commit.
const AT_A_TIME: usize = 64;

/// What this server knows of its own API services.
#[derive(Default)]
pub(super) struct Local {
    /// What there should be, by name.
    wanted: BTreeMap<String, Wanted>,
    /// Those that were there when it started.
    at_start: HashSet<String>,
    /// Those that have been as they should be since then.
    settled: HashSet<String>,
}

/// An API service as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    group: Text,
    version: Text,
    priority: Priority,
    /// Whether it is looked at once, at the start.
    once: bool,
}

impl Wanted {
    fn manifest(&self, name: &str) -> Value {
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": { "name": name, "labels": { MANAGED: if self.once { "onstart" } else { "true" } } },
            "spec": self.spec(),
        })
    }

    fn spec(&self) -> Value {
        let Priority { group: group_priority, version: version_priority } = self.priority;
        json!({
            "group": self.group, "version": self.version,
            "groupPriorityMinimum": group_priority, "versionPriority": version_priority,
        })
    }

    /// Whether the API service may be another's for good: upstream does not have the group version, and whoever installs who serves it
    /// there finds an API service to change where they would have made one.
    fn yields_to(&self, service: &ApiService) -> bool {
        self.priority == priorities::ADDED && service.spec.service.is_some()
    }

    fn is_in(&self, service: &ApiService) -> bool {
        let spec = &service.spec;
        spec.service.is_none()
            && spec.ca_bundle.as_deref().unwrap_or_default().is_empty()
            && !spec.insecure
            && (&spec.group, &spec.version) == (&self.group, &self.version)
            && service.priority() == self.priority
    }
}

/// What has to be done with one.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    Nothing,
    Create,
    Update,
    Delete,
}

/// What has to be done, by upstream's table. One of a built-in group version that has gone comes again at once; upstream's comes with the
/// next start.
fn act(wanted: Option<&Wanted>, current: Option<&ApiService>, at_start: bool, settled: bool) -> Act {
    let Some(current) = current else { return if wanted.is_some() { Act::Create } else { Act::Nothing } };
    let once = match current.managed() {
        "onstart" => true,
        "true" => false,
        _ => return Act::Nothing,
    };
    if wanted.is_some_and(|wanted| wanted.once) && settled {
        return Act::Nothing;
    }
    if once && (!at_start || settled) {
        return Act::Nothing;
    }
    match wanted {
        // Somebody has pointed it elsewhere, and what was here is switched off: now it is theirs alone.
        None if once && current.spec.service.is_some() => Act::Nothing,
        None => Act::Delete,
        Some(wanted) if wanted.is_in(current) || wanted.yields_to(current) => Act::Nothing,
        Some(_) => Act::Update,
    }
}

impl Aggregation {
    /// Makes all that are missing, and removes those of what is served no more. Those of which that fails are returned.
    pub(super) async fn settle_all(&self) -> BTreeSet<String> {
        self.want();
        let Ok(services) = self.services() else { return BTreeSet::new() };
        let stored = services.store.readable("", &Matcher::default()).objects;
        let stored: Vec<String> =
            stored.iter().filter_map(|(_, object)| ApiService::read(object)).map(|one| one.metadata.name).collect();
        let names: BTreeSet<String> = {
            let mut local = self.local.lock();
            if local.settled.is_empty() {
                local.at_start = stored.iter().cloned().collect();
            }
            local.wanted.keys().cloned().chain(stored).collect()
        };
        self.settle(names).await
    }

    /// Looks at what is served now. What has come or gone since the last time is returned.
    pub(super) fn want(&self) -> BTreeSet<String> {
        let catalogue = self.registry.catalogue();
        let own = catalogue.own().filter(|(group, ..)| **group != *super::GROUP);
        let mut wanted: BTreeMap<String, Wanted> = own
            .map(|(group, version, priority, built_in)| {
                let wanted = Wanted { group: group.clone(), version: version.clone(), priority, once: built_in };
                (format!("{version}.{group}"), wanted)
            })
            .collect();
        // They are out of the catalogue for a moment when they go on in another form.
        for (group, version) in self.custom() {
            let name = format!("{version}.{group}");
            let priority = priorities::CUSTOM;
            wanted.entry(name).or_insert(Wanted { group, version, priority, once: false });
        }
        let mut local = self.local.lock();
        let changed = wanted.iter().filter(|(name, one)| local.wanted.get(*name) != Some(one)).map(|(name, _)| name);
        let gone = local.wanted.keys().filter(|name| !wanted.contains_key(*name));
        let names = changed.chain(gone).cloned().collect();
        local.wanted = wanted;
        names
    }

    /// Makes API services what they should be. Those of which that fails are returned.
    pub(super) async fn settle(&self, names: BTreeSet<String>) -> BTreeSet<String> {
        let work = names.into_iter().map(|name| async move {
            let done = self.settle_one(&name).await;
            if let Err(status) = &done {
                warn!(service = name, error = %status.message, "an API service cannot be written");
            }
            done.is_err().then_some(name)
        });
        stream::iter(work).buffer_unordered(AT_A_TIME).filter_map(|failed| async { failed }).collect().await
    }

    async fn settle_one(&self, name: &str) -> Result<(), Status> {
        let services = self.services()?;
        let stored = services.store.current(name).await.map_err(store_failure)?;
        let current = stored.as_ref().and_then(|object| ApiService::read(object));
        let (wanted, act) = {
            let local = self.local.lock();
            let wanted = local.wanted.get(name);
            let (at_start, settled) = (local.at_start.contains(name), local.settled.contains(name));
            (wanted.cloned(), act(wanted, current.as_ref(), at_start, settled))
        };
        if let (Act::Delete, Some(current)) = (&act, &current)
            && self.is_defined(&current.spec.group, &current.spec.version)
        {
            // Another server on the same store serves it already, and this one is about to.
            return Ok(());
        }
        let done = match (act, &wanted, &current) {
            (Act::Create, Some(wanted), _) => {
                create(&self.writing(services, ""), wanted.manifest(name)).await.map(|_| ())
            }
            (Act::Update, Some(wanted), _) => {
                let transform = |current: Option<&Value>| {
                    let mut service = current.cloned().unwrap_or_default();
                    service["spec"] = wanted.spec();
                    Ok(service)
                };
                update(&self.writing(services, name), &transform, UpdateOptions::default()).await.map(|_| ())
            }
            (Act::Delete, _, Some(current)) => {
                let uid = Some(current.metadata.uid.clone());
                let preconditions = Some(Preconditions { uid, ..Preconditions::default() });
                let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
                delete(&self.writing(services, name), &options).await.map(|_| ())
            }
            _ => Ok(()),
        };
        match done {
            // It has changed meanwhile: that is seen, and it is looked at again.
            Err(status) if matches!(status.code, 404 | 409) => return Ok(()),
            done => done?,
        }
        let mut local = self.local.lock();
        if wanted.is_some() {
            local.settled.insert(name.to_owned());
        } else {
            local.settled.remove(name);
            local.at_start.remove(name);
        }
        Ok(())
    }

    /// Whether the definition of a custom resource has a group version served, whether or not that is so here yet.
    fn is_defined(&self, group: &str, version: &str) -> bool {
        let definitions = self.registry.builtin("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let Some(definitions) = definitions else { return false };
        let all = definitions.store.readable("", &Matcher::default()).objects;
        all.iter().any(|(_, object)| Crd::read(object).is_ok_and(|crd| defines(&crd, group, version)))
    }

    /// A request on API services in general (an empty name) or on one. What is made here has no owners noted: there are as many as group versions.
    fn writing<'a>(&'a self, services: &'a kedge_registry::Served, name: &'a str) -> Request<'a> {
        Request { writer: Writer::Settled, ..self.extensions.request(services, "", name, "") }
    }
}

/// Whether a definition says that a group version is to be served, and is in force.
fn defines(definition: &Crd, group: &str, version: &str) -> bool {
    !definition.is_deleted()
        && *definition.spec.group == *group
        && definition.spec.versions.iter().any(|one| one.served && *one.name == *version)
        && definition.is_true("Established")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn current(managed: &str, more: Value) -> ApiService {
        let mut service = json!({
            "metadata": {"name": "v1.g", "labels": {MANAGED: managed}},
            "spec": {"group": "g", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100},
        });
        for (field, value) in more.as_object().unwrap() {
            service["spec"][field] = value.clone();
        }
        serde_json::from_value(service).unwrap()
    }

    #[test]
    fn what_is_done_is_what_upstreams_table_says() {
        let priority = priorities::CUSTOM;
        let wanted = |once| Wanted { group: "g".into(), version: "v1".into(), priority, once };
        let (always, once) = (wanted(false), wanted(true));
        let taken = json!({"service": {"namespace": "a", "name": "s"}});
        let (same, moved) = (current("true", json!({})), current("true", taken.clone()));
        assert_eq!(act(None, None, false, false), Act::Nothing);
        assert_eq!(act(Some(&always), None, false, true), Act::Create);
        assert_eq!(act(Some(&always), Some(&same), false, true), Act::Nothing);
        assert_eq!(act(Some(&always), Some(&moved), false, true), Act::Update, "that of a custom resource is kept");
        assert_eq!(act(None, Some(&same), false, false), Act::Delete);
        let own = current("", taken.clone());
        assert_eq!(act(Some(&always), Some(&own), true, false), Act::Nothing, "a client's own is left alone");
        let added = Wanted { priority: priorities::ADDED, ..once.clone() };
        let built_in = current("onstart", taken);
        assert_eq!(act(Some(&added), Some(&built_in), true, false), Act::Nothing, "an add-on that was installed stays");
        assert_eq!(act(Some(&once), Some(&built_in), true, false), Act::Update, "at the start");
        assert_eq!(act(Some(&once), Some(&built_in), true, true), Act::Nothing, "and then it is left alone");
        assert_eq!(act(Some(&once), Some(&built_in), false, false), Act::Nothing);
        assert_eq!(act(Some(&once), None, true, true), Act::Create, "what is gone comes again");
        assert_eq!(act(None, Some(&built_in), true, false), Act::Nothing, "also when what was here is switched off");
        assert_eq!(act(None, Some(&current("onstart", json!({}))), true, false), Act::Delete, "of an older server");
    }

    /// A server that had not taken in a definition yet once removed the API service that another one had made of it, and so on.
    #[test]
    fn what_a_definition_serves_stays() {
        let definition = |change: fn(&mut Value)| -> Crd {
            let names = json!({"plural": "as", "kind": "A"});
            let mut definition = json!({
                "metadata": {"name": "as.g"},
                "spec": {"group": "g", "names": names, "scope": "Cluster",
                    "versions": [{"name": "v1", "served": true}, {"name": "v2", "served": false}]},
                "status": {"conditions": [{"type": "Established", "status": "True"}]},
            });
            change(&mut definition);
            serde_json::from_value(definition).unwrap()
        };
        let whole = definition(|_| {});
        assert!(defines(&whole, "g", "v1"));
        assert!(!defines(&whole, "g", "v2") && !defines(&whole, "h", "v1"));
        let going = definition(|it| it["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert!(!defines(&going, "g", "v1"));
        let refused = definition(|it| it["status"] = json!({"conditions": null}));
        assert!(!defines(&refused, "g", "v1"));
    }
}
