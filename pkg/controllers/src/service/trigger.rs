//! When the change happened that makes endpoints change: what the annotation `last-change-trigger-time` says.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use kedge_meta::ObjectKey;
use parking_lot::Mutex;

use crate::objects::{Pod, Service, condition, parse_time};

/// Remembers the times that were seen, by service.
#[derive(Default)]
pub struct Trigger {
    services: Mutex<HashMap<ObjectKey, Seen>>,
}

#[derive(Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

impl Trigger {
    /// The earliest change of the service or its pods since the last call for this service.
    pub fn last_change(&self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let mut services = self.services.lock();
        let mut before = services.remove(&service.metadata.key()).unwrap_or_default();
        let mut now = Seen { service: parse_time(service.metadata.creation_timestamp.as_ref()), ..Seen::default() };
        let mut earliest: Option<Timestamp> = None;
        let mut note = |at: Timestamp| earliest = Some(earliest.map_or(at, |e| e.min(at)));
        for pod in pods {
            let ready = condition(&pod.status.conditions, "Ready");
            let Some(at) = ready.and_then(|c| parse_time(c.last_transition_time.as_ref())) else { continue };
            let old = before.pods.remove(&pod.metadata.name);
            if before.service.is_some() && old.is_none_or(|old| at > old) {
                note(at);
            }
            now.pods.insert(pod.metadata.name.clone(), at);
        }
        if before.service.is_none()
            && let Some(at) = now.service
        {
            note(at);
        }
        services.insert(service.metadata.key(), now);
        earliest
    }

    /// The service is gone.
    pub fn forget(&self, service: &ObjectKey) {
        self.services.lock().remove(service);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_earliest_new_change_counts() {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"}}))
                .unwrap();
        let pod = |name: &str, at: &str| -> Arc<Pod> {
            let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": at}]);
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name}, "status": {"conditions": ready}})).unwrap(),
            )
        };
        let (a, b) = (pod("a", "2026-01-01T00:01:00Z"), pod("b", "2026-01-01T00:02:00Z"));
        let trigger = Trigger::default();
        let at = |t: Option<Timestamp>| t.map(|t| t.to_string());
        assert_eq!(at(trigger.last_change(&service, &[])).unwrap(), "2026-01-01T00:00:00Z");
        assert_eq!(at(trigger.last_change(&service, &[a.clone(), b.clone()])).unwrap(), "2026-01-01T00:01:00Z");
        assert_eq!(trigger.last_change(&service, &[a, b]), None);
    }
}
