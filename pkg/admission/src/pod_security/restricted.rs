//! The restricted standard: as little as most programs can do with.

use kedge_registry::value::ValueExt as _;
use serde_json::Value;

use super::baseline::bad_seccomp;
use super::checks::{Pod, Violation, containers, plural, quoted, secured, setters, sorted};

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// In the order in which upstream looks for them.
const FORBIDDEN_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn escalation(pod: Pod<'_>) -> Option<Violation> {
    let named = pod.named(|c| secured(c, &["allowPrivilegeEscalation"]) != Some(&Value::Bool(false)));
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&named));
    (!named.is_empty()).then(|| Violation::new("allowPrivilegeEscalation != false", detail))
}

pub(super) fn escalation_1_25(pod: Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { escalation(pod) }
}

pub(super) fn capabilities(pod: Pod<'_>) -> Option<Violation> {
    fn listed<'a>(container: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
        let list = secured(container, &["capabilities", field]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }
    fn added(container: &Value) -> impl Iterator<Item = &str> {
        listed(container, "add").filter(|name| *name != "NET_BIND_SERVICE")
    }
    let keeping = pod.named(|container| !listed(container, "drop").any(|name| name == "ALL"));
    let adding = pod.named(|container| added(container).next().is_some());
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        let names = sorted(pod.containers().flat_map(added));
        let (who, what) = (containers(&adding), quoted(&names));
        details.push(format!("{who} must not include {what} in securityContext.capabilities.add"));
    }
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

pub(super) fn capabilities_1_25(pod: Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

pub(super) fn volumes(pod: Pod<'_>) -> Option<Violation> {
    let has = |volume: &Value, kind: &str| volume.get(kind).is_some_and(|source| !source.is_null());
    let bad: Vec<&Value> =
        pod.spec.list(&["volumes"]).iter().filter(|volume| !VOLUMES.iter().any(|kind| has(volume, kind))).collect();
    let names: Vec<&str> = bad.iter().map(|volume| volume.text(&["name"])).collect();
    let kind = |volume: &&Value| FORBIDDEN_VOLUMES.into_iter().find(|kind| has(volume, kind)).unwrap_or("unknown");
    let kinds = sorted(bad.iter().map(kind));
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(&kinds)
    );
    (!names.is_empty()).then(|| Violation::new("restricted volume types", detail))
}

pub(super) fn non_root(pod: Pod<'_>) -> Option<Violation> {
    let said = |of: &Value| secured(of, &["runAsNonRoot"]).and_then(Value::as_bool);
    let of_pod = said(pod.spec);
    let violation = |detail: String| Some(Violation::new("runAsNonRoot != true", detail));
    if let Some(who) = setters(of_pod == Some(false), &pod.named(|container| said(container) == Some(false))) {
        return violation(format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = pod.named(|container| said(container).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    violation(format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent)))
}

pub(super) fn non_root_1_35(pod: Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { non_root(pod) }
}

pub(super) fn user(pod: Pod<'_>) -> Option<Violation> {
    let root = |of: &Value| secured(of, &["runAsUser"]).and_then(Value::as_i64) == Some(0);
    let who = setters(root(pod.spec), &pod.named(root))?;
    Some(Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

pub(super) fn user_1_35(pod: Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { user(pod) }
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    if let Some(violation) = super::baseline::seccomp(pod) {
        return Some(violation);
    }
    let set = |of: &Value| secured(of, &["seccompProfile"]).is_some();
    let silent = pod.named(|container| !set(container));
    if (set(pod.spec) && bad_seccomp(pod.spec).is_none()) || silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&silent)
    );
    Some(Violation::new("seccompProfile", detail))
}

pub(super) fn seccomp_1_25(pod: Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { seccomp(pod) }
}
