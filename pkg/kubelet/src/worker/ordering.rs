//! The order in which the containers of a pod are stopped: sidecars serve the others, so they go last, the one that
//! started first being the last of all.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kedge_base::time;
use tokio::sync::watch;

use crate::pod::{PodExt, is_sidecar};

/// Who waits for whom, and who has ended.
pub(super) struct Ordering {
    waits_for: HashMap<String, Vec<String>>,
    ended: HashMap<String, watch::Sender<bool>>,
}

impl Ordering {
    pub(super) fn new(pod: &Pod, running: &[&str]) -> Ordering {
        let sidecars = pod.init_containers().iter().filter(|c| is_sidecar(c)).map(|c| c.name.as_str());
        let sidecars: Vec<&str> = sidecars.filter(|name| running.contains(name)).collect();
        let others = running.iter().filter(|name| !sidecars.contains(name));
        let mut before: Vec<String> = others.map(ToString::to_string).collect();
        let mut waits_for = HashMap::new();
        for name in sidecars.iter().rev() {
            waits_for.insert((*name).to_string(), before.clone());
            before.push((*name).to_string());
        }
        let ended = running.iter().map(|name| ((*name).to_string(), watch::Sender::new(false))).collect();
        Ordering { waits_for, ended }
    }

    /// Waits until all that must end before `name` have ended, at most `limit`.
    pub(super) async fn turn(&self, name: &str, limit: Duration) {
        let wait = async {
            for other in self.waits_for.get(name).into_iter().flatten() {
                if let Some(ended) = self.ended.get(other) {
                    // The sender lives as long as this does, so that waiting cannot fail.
                    let _ = ended.subscribe().wait_for(|ended| *ended).await;
                }
            }
        };
        // Who does not get its turn in time is stopped all the same.
        let _ = time::timeout(limit, wait).await;
    }

    pub(super) fn ended(&self, name: &str) {
        if let Some(ended) = self.ended.get(name) {
            ended.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[tokio::test]
    async fn sidecars_go_last_and_in_reverse() {
        let pod = pod(json!({
            "initContainers": [{"name": "s1", "restartPolicy": "Always"}, {"name": "s2", "restartPolicy": "Always"}],
            "containers": [{"name": "a"}]}));
        let order = Ordering::new(&pod, &["s1", "s2", "a"]);
        assert_eq!(order.waits_for["s2"], ["a"]);
        assert_eq!(order.waits_for["s1"], ["a", "s2"]);
        order.turn("a", Duration::from_secs(60)).await;
        order.ended("a");
        order.turn("s2", Duration::from_secs(60)).await;
        order.ended("s2");
        order.turn("s1", Duration::from_secs(60)).await;
    }
}
