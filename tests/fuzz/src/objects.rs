//! Objects of all kinds through the registry: defaults, strategies and validation, on a store in memory.

use std::sync::Arc;

use kedge_kv::Embedded;
use kedge_meta::UserInfo;
use kedge_registry::verbs::{self, DeleteOptions, Request, UpdateOptions};
use kedge_registry::{ClusterConfig, NoAdmission, Notes, Registry, WriteOptions};
use kedge_schema::ResourceInfo;
use kedge_storage::Storage;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::input;

/// Inputs after which the cluster is made anew: what could not be deleted is not to fill memory.
const LIFE: usize = 1_000;

struct Cluster {
    runtime: Runtime,
    registry: Registry,
    user: UserInfo,
    used: usize,
}

impl Cluster {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let clock = kedge_base::system_clock();
        let kv = Embedded::memory(clock.clone()).expect("a store in memory opens");
        let configs = Registry::storage_configs();
        let storage = Storage::open(Arc::new(kv), &configs, Arc::default(), clock.clone());
        let storage = Arc::new(runtime.block_on(storage).expect("an empty store is read"));
        let addresses = "10.43.0.0/24".parse().expect("a range is read");
        let config = ClusterConfig { service_cidrs: vec![addresses], node_ports: (30_000, 30_100), shared: false };
        let registry =
            Registry::new(storage, clock, config).with_optional(&["storagemigration.k8s.io", "metrics.k8s.io"]);
        Self { runtime, registry, user: UserInfo::new("tester", &[]), used: 0 }
    }

    fn request<'a>(&'a self, info: &ResourceInfo, object: &'a Value, dry_run: bool) -> Option<Request<'a>> {
        Some(Request {
            registry: &self.registry,
            served: self.registry.builtin(&info.group, &info.version, &info.plural)?,
            admission: &NoAdmission,
            user: &self.user,
            namespace: if info.namespaced { "test" } else { "" },
            name: object["metadata"]["name"].as_str().unwrap_or_default(),
            subresource: "",
            dry_run,
            options: WriteOptions::default(),
            writer: verbs::Writer::Manager("tester".into()),
            later: verbs::Later::default(),
            notes: Notes::default(),
        })
    }
}

thread_local! {
    static CLUSTER: std::cell::RefCell<Option<Cluster>> = const { std::cell::RefCell::new(None) };
}

/// `[object, object that takes its place]`, of the kind that the first says.
pub fn object(data: &[u8]) {
    let Some([object, newer]) = input::several(data) else { return };
    let Some(info) = info_of(&object) else { return };
    let read = |mut value: Value| {
        info.schema.conform(&mut value, &mut Vec::new()).ok()?;
        info.schema.default(&mut value);
        Some(value)
    };
    let Some(object) = read(object) else { return };
    let newer = read(newer);
    CLUSTER.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|cluster| cluster.used >= LIFE) {
            *slot = Some(Cluster::new());
        }
        let Some(cluster) = slot else { return };
        cluster.used += 1;
        write(cluster, info, &object, newer.as_ref());
    });
}

fn info_of(object: &Value) -> Option<&'static ResourceInfo> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    input::resources().find(|info| info.api_version() == api_version && *info.kind == *kind)
}

fn write(cluster: &Cluster, info: &ResourceInfo, object: &Value, newer: Option<&Value>) {
    let Some(request) = cluster.request(info, object, false) else { return };
    cluster.runtime.block_on(async {
        let Ok(made) = verbs::create(&request, object.clone()).await else { return };
        let made = made.object;
        let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let request = Request { name: &name, ..request };
        let unchanged = |old: Option<&Value>| Ok(old.cloned().unwrap_or_default());
        match verbs::update(&request, &unchanged, UpdateOptions::default()).await {
            Ok(written) => assert_eq!(written.object, made, "an update that changes nothing is not written"),
            Err(status) => panic!("what was created cannot be updated with itself: {}", status.message),
        }
        if let Some(newer) = newer {
            let replace = |_: Option<&Value>| Ok(newer.clone());
            let _refusal = verbs::update(&request, &replace, UpdateOptions::default()).await;
        }
        // What has finalizers, or is deleted gracefully, stays until the cluster is made anew.
        let _refusal = verbs::delete(&request, &DeleteOptions::default()).await;
    });
}
