//! A registry in memory, for tests of plugins.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use kedge_auth::RbacAuthorizer;
use kedge_base::net::DirectDialer;
use kedge_base::{Shutdown, TaskGroup};
use kedge_kv::Embedded;
use kedge_meta::UserInfo;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{ClusterConfig, Registry};
use kedge_schema::ResourceInfo;
use kedge_storage::{Storage, With};
use kedge_webhook::{Caller, Settings};
use serde_json::Value;

use crate::ServiceEndpoints;

/// A registry with nothing in it, and who may do what there.
pub(crate) async fn registry() -> (Arc<Registry>, Arc<RbacAuthorizer>) {
    let clock = kedge_base::system_clock();
    let kv = Arc::new(Embedded::memory(clock.clone()).unwrap());
    let configs = Registry::storage_configs();
    let storage = Arc::new(Storage::open(kv, &configs, Arc::default(), clock.clone()).await.unwrap());
    let store = |prefix: &str| storage.resource(prefix).unwrap();
    let rbac =
        RbacAuthorizer::new(store("roles"), store("rolebindings"), store("clusterroles"), store("clusterrolebindings"));
    let config = ClusterConfig {
        service_cidrs: vec!["10.43.0.0/24".parse().unwrap()],
        node_ports: (30_000, 30_100),
        shared: false,
    };
    (Arc::new(Registry::new(storage, clock, config)), Arc::new(rbac))
}

/// Calls webhooks of the registry's services.
pub(crate) fn caller(registry: &Arc<Registry>) -> Arc<Caller> {
    Arc::new(Caller::new(Settings {
        services: Arc::new(ServiceEndpoints(registry.clone())),
        dialer: Arc::new(DirectDialer),
        tasks: TaskGroup::new("webhooks", Shutdown::new()),
        clock: registry.clock.clone(),
    }))
}

/// Puts an object into the store as it is.
pub(crate) async fn put(registry: &Registry, object: Value) {
    let (group, version) = object.text(&["apiVersion"]).split_once('/').unwrap_or(("", object.text(&["apiVersion"])));
    let info = info(group, version, |info| info.kind == object.text(&["kind"]));
    let served = registry.builtin(group, version, &info.plural).unwrap();
    let key = served.key(object.namespace(), object.name());
    served.store.create(&key, &object, With::default()).await.unwrap();
}

fn info(group: &str, version: &str, is: impl Fn(&ResourceInfo) -> bool) -> &'static ResourceInfo {
    let mut all = kedge_schema::resources().iter();
    all.find(|info| info.group == group && info.version == version && info.is_stored() && is(info)).unwrap()
}

/// A resource in `v1`.
pub(crate) fn resource(group: &str, plural: &str) -> &'static ResourceInfo {
    info(group, "v1", |info| info.plural == plural)
}

/// Somebody.
pub(crate) fn user() -> UserInfo {
    UserInfo::new("somebody", &[])
}
