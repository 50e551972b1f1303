//! The conditions of a node that the kubelet writes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::eviction::Pressure;
use crate::runtime::Health;

/// Upstream's limit for the age of the last list of pods.
const PLEG_LIMIT: Duration = Duration::from_secs(180);

struct Condition {
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

/// The conditions, in upstream's order; times of transition are those of `have` where the status is the same.
pub(super) fn all(
    health: &Health,
    pleg_age: Option<Duration>,
    pressure: Pressure,
    have: &Value,
    now: &str,
) -> Vec<Value> {
    let pick = |short: bool, yes: (&'static str, &str), no: (&'static str, &str)| {
        let (reason, message) = if short { yes } else { no };
        (short, reason, message.to_string())
    };
    let memory = pick(
        pressure.memory,
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    );
    let disk = pick(
        pressure.disk,
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    );
    let pids = pick(
        pressure.pids,
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    );
    let ready = match problem(health, pleg_age) {
        None => (true, "KubeletReady", "kubelet is posting ready status".to_string()),
        Some(message) => (false, "KubeletNotReady", message),
    };
    let named = [("MemoryPressure", memory), ("DiskPressure", disk), ("PIDPressure", pids), ("Ready", ready)];
    let conditions = named.map(|(kind, (status, reason, message))| Condition { kind, status, reason, message });
    conditions.iter().map(|c| c.render(have, now)).collect()
}

impl Condition {
    fn render(&self, have: &Value, now: &str) -> Value {
        let status = if self.status { "True" } else { "False" };
        let old = have.as_array().into_iter().flatten().find(|c| c["type"] == self.kind);
        let same = old.filter(|c| c["status"] == status).and_then(|c| c["lastTransitionTime"].as_str());
        json!({
            "type": self.kind,
            "status": status,
            "lastHeartbeatTime": now,
            "lastTransitionTime": same.unwrap_or(now),
            "reason": self.reason,
            "message": self.message,
        })
    }
}

/// Why the node is not ready.
fn problem(health: &Health, pleg_age: Option<Duration>) -> Option<String> {
    let stale = pleg_age.filter(|age| *age > PLEG_LIMIT);
    let pleg = stale.map(|age| {
        let seconds = age.as_secs();
        format!(
            "PLEG is not healthy: pleg was last seen active {}m{}s ago; threshold is 3m0s",
            seconds / 60,
            seconds % 60
        )
    });
    let mut errors: Vec<String> =
        [&health.runtime_error, &health.network_error].into_iter().flatten().cloned().collect();
    errors.extend(pleg);
    match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(format!("[{}]", errors.join(", "))),
    }
}

/// (type, status) of the kubelet's own conditions.
pub(super) fn states(status: &Value) -> Vec<(String, String)> {
    let list = status["conditions"].as_array().into_iter().flatten();
    list.filter_map(|c| Some((c["type"].as_str()?.to_string(), c["status"].as_str()?.to_string()))).collect()
}

/// The reason of the event that tells of a change.
pub(super) fn event(kind: &str, status: &str) -> Option<&'static str> {
    Some(match (kind, status == "True") {
        ("Ready", true) => "NodeReady",
        ("Ready", false) => "NodeNotReady",
        ("MemoryPressure", true) => "NodeHasInsufficientMemory",
        ("MemoryPressure", false) => "NodeHasSufficientMemory",
        ("DiskPressure", true) => "NodeHasDiskPressure",
        ("DiskPressure", false) => "NodeHasNoDiskPressure",
        ("PIDPressure", true) => "NodeHasInsufficientPID",
        ("PIDPressure", false) => "NodeHasSufficientPID",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(network_error: Option<&str>) -> Health {
        Health {
            name: "containerd".into(),
            version: "1".into(),
            runtime_error: None,
            network_error: network_error.map(str::to_string),
        }
    }

    #[test]
    fn ready_and_not() {
        let old = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "then"}]);
        let ready = all(&health(None), Some(Duration::ZERO), Pressure::default(), &old, "now");
        assert_eq!(ready[3]["message"], "kubelet is posting ready status");
        assert_eq!((&ready[3]["lastTransitionTime"], &ready[3]["lastHeartbeatTime"]), (&json!("then"), &json!("now")));
        assert_eq!(ready[0]["reason"], "KubeletHasSufficientMemory");
        let not = all(&health(Some("x")), Some(Duration::from_secs(200)), Pressure::default(), &old, "now");
        assert_eq!(
            not[3]["message"],
            "[x, PLEG is not healthy: pleg was last seen active 3m20s ago; threshold is 3m0s]"
        );
        assert_eq!(not[3]["lastTransitionTime"], "now");
    }
}
