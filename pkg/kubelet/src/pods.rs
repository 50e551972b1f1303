//! The pods of this node, whoever told of them: the API, or files.
//!
//! Invariant: what is listed here is what shall run. The image of a static pod in the API (its mirror pod) is none of that: it shares
//! the name and the namespace of the pod that it mirrors, and says in an annotation which uid that has.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_client::{Change, Informer};
use kedge_meta::ObjectKey;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::pod::RawPod;

/// Both sources as one; clones share it.
#[derive(Clone)]
pub(crate) struct Pods {
    api: Informer<RawPod>,
    statics: Arc<RwLock<BTreeMap<ObjectKey, Arc<RawPod>>>>,
    /// Whether it is known which static pods there are.
    read: watch::Sender<bool>,
}

impl Pods {
    /// `api`: the pods that are bound to this node.
    pub(crate) fn new(api: Informer<RawPod>) -> Pods {
        Pods { api, statics: Arc::default(), read: watch::Sender::new(false) }
    }

    /// The pod of that name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<RawPod>> {
        let key = ObjectKey::new(namespace, name);
        let of_file = self.statics.read().get(&key).cloned();
        of_file.or_else(|| self.api.get(namespace, name).filter(|pod| pod.mirror_of().is_none()))
    }

    /// All pods.
    pub(crate) fn list(&self) -> Vec<Arc<RawPod>> {
        let mut all = self.api.list();
        all.retain(|pod| pod.mirror_of().is_none());
        all.extend(self.statics.read().values().cloned());
        all
    }

    /// The image in the API of a static pod of that name, whichever uid it tells.
    pub(crate) fn mirror(&self, key: &ObjectKey) -> Option<Arc<RawPod>> {
        self.api.get(&key.namespace, &key.name).filter(|pod| pod.mirror_of().is_some())
    }

    /// What the API has of the pod `uid`: the pod itself, or its mirror.
    pub(crate) fn in_api(&self, key: &ObjectKey, uid: &str) -> Option<Arc<RawPod>> {
        let pod = self.api.get(&key.namespace, &key.name)?;
        (pod.mirror_of().unwrap_or(&pod.metadata.uid) == uid).then_some(pod)
    }

    /// Whether the API has any pod of that name.
    pub(crate) fn is_named_in_api(&self, key: &ObjectKey) -> bool {
        self.api.get(&key.namespace, &key.name).is_some()
    }

    /// Whether `uid` means this pod: clients of the API know a static one by the uid of its mirror.
    pub(crate) fn is_known_as(&self, pod: &RawPod, uid: &str) -> bool {
        let mirror = || self.mirror(&pod.metadata.key()).filter(|m| m.mirror_of() == Some(&pod.metadata.uid));
        pod.metadata.uid == uid || mirror().is_some_and(|mirror| mirror.metadata.uid == uid)
    }

    /// The static pod of that name.
    pub(crate) fn of_file(&self, key: &ObjectKey) -> Option<Arc<RawPod>> {
        self.statics.read().get(key).cloned()
    }

    /// Takes in what the files say now; returns what became of each pod.
    pub(crate) fn set_static(&self, pods: Vec<Arc<RawPod>>) -> Vec<Change<RawPod>> {
        let new: BTreeMap<ObjectKey, Arc<RawPod>> = pods.into_iter().map(|pod| (pod.metadata.key(), pod)).collect();
        let mut statics = self.statics.write();
        let old = std::mem::replace(&mut *statics, new.clone());
        drop(statics);
        self.read.send_replace(true);
        let gone = old.iter().filter(|(key, _)| !new.contains_key(key));
        let gone = gone.map(|(_, pod)| Change { old: Some(pod.clone()), new: None });
        let differs = |pod: &RawPod, old: Option<&Arc<RawPod>>| old.is_none_or(|old| old.json() != pod.json());
        let come = new.iter().filter(|(key, pod)| differs(pod, old.get(key)));
        let come = come.map(|(key, pod)| Change { old: old.get(key).cloned(), new: Some(pod.clone()) });
        gone.chain(come).collect()
    }

    /// Calls `handler` for each change of a pod in the API, mirrors among them.
    pub(crate) fn on_api_change(&self, handler: impl Fn(&Change<RawPod>) + Send + Sync + 'static) {
        self.api.on_change(handler);
    }

    /// No files are followed: there are no static pods.
    pub(crate) fn without_files(&self) {
        self.read.send_replace(true);
    }

    /// Whether all pods are known. Until then one that is not listed may be one that shall run.
    pub(crate) fn are_known(&self) -> bool {
        self.api.has_synced() && *self.read.borrow()
    }

    /// Completes when the API has told of its pods, and the files of theirs.
    pub(crate) async fn synced(&self) {
        self.api.synced().await;
        // It lives as long as this does.
        let _ = self.read.subscribe().wait_for(|read| *read).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kedge_meta::resources;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, uid: &str, annotations: Value) -> RawPod {
        let metadata = json!({"name": name, "namespace": "ns", "uid": uid, "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}})).unwrap()
    }

    #[test]
    fn a_mirror_is_no_pod_and_its_uid_means_the_static_one() {
        let mirror = pod("s-n", "m", json!({"kubernetes.io/config.mirror": "hash"}));
        let pods = Pods::new(Informer::fixed(&resources::PODS, vec![pod("a", "1", json!({})), mirror]));
        assert!(pods.get("ns", "s-n").is_none());
        assert!(!pods.are_known(), "the files have not been read, and nothing may be cleared away");
        let changes = pods.set_static(vec![Arc::new(pod("s-n", "hash", json!({})))]);
        assert!(changes.len() == 1 && changes[0].old.is_none());
        assert!(pods.are_known());
        let uids: Vec<String> = pods.list().iter().map(|p| p.metadata.uid.clone()).collect();
        assert_eq!(uids, ["1", "hash"]);
        let of_file = pods.get("ns", "s-n").unwrap();
        assert!(
            pods.is_known_as(&of_file, "m") && pods.is_known_as(&of_file, "hash") && !pods.is_known_as(&of_file, "x")
        );
        let key = of_file.metadata.key();
        assert_eq!(pods.in_api(&key, "hash").unwrap().metadata.uid, "m");
        assert!(pods.in_api(&key, "other").is_none(), "the mirror of what the file said before");
    }

    #[test]
    fn what_became_of_each_file_is_told_once() {
        let pods = Pods::new(Informer::fixed(&resources::PODS, Vec::new()));
        let of = |name: &str, uid: &str| Arc::new(pod(name, uid, json!({})));
        assert_eq!(pods.set_static(vec![of("a", "1"), of("b", "2")]).len(), 2);
        assert!(pods.set_static(vec![of("a", "1"), of("b", "2")]).is_empty());
        let changes = pods.set_static(vec![of("b", "3")]);
        let uids = |change: &Change<RawPod>| {
            let uid = |pod: &Option<Arc<RawPod>>| pod.as_ref().map(|p| p.metadata.uid.clone());
            (uid(&change.old), uid(&change.new))
        };
        let told: Vec<_> = changes.iter().map(uids).collect();
        assert_eq!(told, [(Some("1".into()), None), (Some("2".into()), Some("3".into()))]);
    }
}
