//! ConfigMaps and Secrets that pods of this node refer to: one watch for each object, as long as a pod needs it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kedge_base::{TaskGroup, time};
use kedge_client::{Client, Informer, Keyed, ListParams};
use kedge_meta::{ObjectKey, ObjectMeta, Resource, resources};
use parking_lot::Mutex;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

/// How long a reader waits for the first list.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// Bytes that are base64 in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map(Blob).map_err(D::Error::custom)
    }
}

/// What the kubelet reads of a ConfigMap.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigMap {
    pub(crate) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) data: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) binary_data: BTreeMap<String, Blob>,
}

/// What the kubelet reads of a Secret.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Secret {
    pub(crate) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) data: BTreeMap<String, Blob>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl Keyed for ConfigMap {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Keyed for Secret {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

/// Why an object is not to be had.
#[allow(clippy::enum_variant_names)]
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    #[error("{kind} {name:?} not found")]
    Missing { kind: &'static str, name: String },
    #[error("failed to sync {kind} cache: timed out waiting for the condition")]
    Unsynced { kind: &'static str },
    #[error("object {namespace:?}/{name:?} not registered")]
    Unregistered { namespace: String, name: String },
}

impl ObjectError {
    #[cfg(test)]
    pub(crate) fn not_found(kind: &'static str, name: &str) -> ObjectError {
        ObjectError::Missing { kind, name: name.to_string() }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, ObjectError::Missing { .. })
    }
}

struct Entry<T> {
    informer: Informer<T>,
    tasks: TaskGroup,
    /// The uids of the pods that refer to the object.
    pods: Arc<Mutex<HashSet<String>>>,
}

/// The objects of one kind.
pub(crate) struct Objects<T> {
    client: Client,
    tasks: TaskGroup,
    resource: &'static Resource,
    /// The word in messages, such as `configmap`.
    kind: &'static str,
    entries: Mutex<HashMap<ObjectKey, Entry<T>>>,
    changed: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Objects<ConfigMap> {
    /// `changed` is called with the uid of each pod whose object changed.
    pub(crate) fn config_maps(client: Client, tasks: &TaskGroup, changed: Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        Objects::new(client, tasks, &resources::CONFIG_MAPS, "configmap", changed)
    }
}

impl Objects<Secret> {
    /// As [`Objects::config_maps`].
    pub(crate) fn secrets(client: Client, tasks: &TaskGroup, changed: Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        Objects::new(client, tasks, &resources::SECRETS, "secret", changed)
    }
}

impl<T: Keyed + DeserializeOwned + Send + Sync + 'static> Objects<T> {
    fn new(
        client: Client,
        tasks: &TaskGroup,
        resource: &'static Resource,
        kind: &'static str,
        changed: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Self {
        let tasks = tasks.clone();
        Objects { client, tasks, resource, kind, entries: Mutex::default(), changed }
    }

    /// Says which objects a pod refers to now; watches begin and end with that.
    pub(crate) fn register(&self, uid: &str, namespace: &str, names: &HashSet<String>) {
        let mut entries = self.entries.lock();
        for name in names {
            let key = ObjectKey::new(namespace, name);
            let entry = entries.entry(key.clone()).or_insert_with(|| self.follow(&key));
            entry.pods.lock().insert(uid.to_string());
        }
        entries.retain(|key, entry| {
            let wanted = key.namespace == namespace && names.contains(&key.name);
            let mut pods = entry.pods.lock();
            if !wanted {
                pods.remove(uid);
            }
            let keep = !pods.is_empty();
            if !keep {
                entry.tasks.shutdown().trigger();
            }
            keep
        });
    }

    /// Ends what was followed only for this pod.
    pub(crate) fn unregister(&self, uid: &str) {
        self.register(uid, "", &HashSet::new());
    }

    fn follow(&self, key: &ObjectKey) -> Entry<T> {
        let tasks = self.tasks.child("object");
        let one = ListParams::fields(format!("metadata.name={}", key.name));
        let informer = Informer::start_in(&self.client, &tasks, self.resource, &key.namespace, one);
        let pods: Arc<Mutex<HashSet<String>>> = Arc::default();
        let (changed, listeners) = (self.changed.clone(), pods.clone());
        informer.on_change(move |_| {
            let uids: Vec<String> = listeners.lock().iter().cloned().collect();
            uids.iter().for_each(|uid| changed(uid));
        });
        Entry { informer, tasks, pods }
    }

    /// The object as the API has it.
    ///
    /// # Errors
    /// [`ObjectError`]; a pod must have registered the object before.
    pub(crate) async fn get(&self, namespace: &str, name: &str) -> Result<Arc<T>, ObjectError> {
        let key = ObjectKey::new(namespace, name);
        let informer = self.entries.lock().get(&key).map(|e| e.informer.clone());
        let Some(informer) = informer else {
            let (namespace, name) = (key.namespace, key.name);
            return Err(ObjectError::Unregistered { namespace, name });
        };
        let synced = time::timeout(FIRST_LIST, informer.synced()).await;
        synced.map_err(|_| ObjectError::Unsynced { kind: self.kind })?;
        let missing = || ObjectError::Missing { kind: self.kind, name: name.to_string() };
        informer.get(namespace, name).ok_or_else(missing)
    }
}
