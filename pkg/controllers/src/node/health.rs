//! When a node counts as lost, and which conditions say so.

use std::time::Duration;

use jiff::Timestamp;
use kedge_base::time;

use crate::objects::{Condition, Node, condition};
use crate::settings::NodeSettings;

const WATCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// How long the node may still be silent, `silent` being for how long it has been.
pub fn patience(node: &Node, silent: Duration, settings: &NodeSettings) -> Duration {
    let has_spoken = condition(&node.status.conditions, "Ready").is_some();
    let grace = if has_spoken { settings.monitor_grace } else { settings.startup_grace };
    grace.saturating_sub(silent)
}

/// The conditions of a node that is lost, or none if they say so already.
pub fn lost(node: &Node, now: Timestamp) -> Option<Vec<Condition>> {
    let now = Some(time::rfc3339(now));
    let mut conditions = Vec::new();
    for kind in WATCHED {
        match condition(&node.status.conditions, kind) {
            Some(c) if c.status == "Unknown" => {}
            Some(c) => conditions.push(Condition {
                status: "Unknown".into(),
                reason: "NodeStatusUnknown".into(),
                message: "Kubelet stopped posting node status.".into(),
                last_transition_time: now.clone(),
                ..c.clone()
            }),
            None => conditions.push(Condition {
                kind: kind.into(),
                status: "Unknown".into(),
                reason: "NodeStatusNeverUpdated".into(),
                message: "Kubelet never posted node status.".into(),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: now.clone(),
                ..Condition::default()
            }),
        }
    }
    (!conditions.is_empty()).then_some(conditions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_silent_node_becomes_unknown_once() {
        let mut node: Node = serde_json::from_value(json!({
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}
        }))
        .unwrap();
        assert_eq!(patience(&node, Duration::from_secs(10), &NodeSettings::default()), Duration::from_secs(40));
        assert_eq!(patience(&node, Duration::from_secs(70), &NodeSettings::default()), Duration::ZERO);
        let conditions = lost(&node, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(conditions.len(), 4);
        assert_eq!(conditions[0].last_heartbeat_time.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(conditions[1].reason, "NodeStatusNeverUpdated");
        node.status.conditions = conditions;
        assert!(lost(&node, Timestamp::UNIX_EPOCH).is_none());
    }
}
