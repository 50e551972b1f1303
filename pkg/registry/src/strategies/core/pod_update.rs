//! What may change in a pod, and through which subresource.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::super::validation::diff::diff;
use super::super::validation::{At, Report, scheduling};
use super::pod::validate_pod;
use crate::value::ValueExt;

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                         `spec.tolerations` (only additions to existing tolerations),\
                         `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A change of the pod itself.
pub(super) fn validate(new: &Value, old: &Value) -> ErrorList {
    let mut errors = validate_pod(new);
    annotations(new, old, &mut errors);
    let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
    for list in ["containers", "initContainers"] {
        let containers = spec.child(list);
        if containers.len() != was.child(list).len() {
            errors.push(containers.forbidden("pod updates may not add or remove containers"));
            return errors;
        }
    }
    if !deadline(&spec.child("activeDeadlineSeconds"), &was.child("activeDeadlineSeconds"), &mut errors) {
        return errors;
    }
    tolerations(&spec.child("tolerations"), &was.child("tolerations"), &mut errors);
    gates(&spec.child("schedulingGates"), &was.child("schedulingGates"), &mut errors);
    let munged = without_updatable(spec.value, was.value);
    if munged != *was.value {
        let detail = format!("pod updates may not change fields other than {UPDATABLE}\n{}", diff(was.value, &munged));
        errors.push(spec.forbidden(detail));
    }
    errors
}

fn annotations(new: &Value, old: &Value, errors: &mut ErrorList) {
    let at = |pod| At::field(pod, "metadata").child("annotations");
    let (now, was) = (at(new), at(old));
    for (key, value) in was.entries().filter(|(key, value)| now.child(key).value != value.value) {
        if key.starts_with(APP_ARMOR_PREFIX) {
            errors.push(value.forbidden("may not remove or update AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(value.forbidden("may not remove or update mirror pod annotation"));
        }
    }
    for (key, value) in now.entries().filter(|(key, _)| !was.child(key).is_set()) {
        if key.starts_with(APP_ARMOR_PREFIX) {
            errors.push(value.forbidden("may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(value.forbidden("may not add mirror pod annotation"));
        }
    }
}

/// Whether the other rules are to be checked as well.
fn deadline(now: &At<'_>, was: &At<'_>, errors: &mut ErrorList) -> bool {
    let before = errors.len();
    match (now.int(), was.int()) {
        (Some(_), was) => {
            errors.range(now, 0, i64::from(i32::MAX));
            if errors.len() == before && was.is_some_and(|was| Some(was) < now.int()) {
                errors.push(now.invalid("must be less than or equal to previous value"));
            }
            errors.len() == before
        }
        (None, Some(_)) => {
            errors.push(now.invalid("must not update from a positive integer to nil value"));
            true
        }
        (None, None) => true,
    }
}

fn tolerations(now: &At<'_>, was: &At<'_>, errors: &mut ErrorList) {
    let without_seconds = |toleration: &Value| {
        let mut copy = toleration.clone();
        copy.set_or_remove("tolerationSeconds", None);
        copy
    };
    let kept: Vec<Value> = now.items().map(|toleration| without_seconds(toleration.value)).collect();
    if was.items().any(|toleration| !kept.contains(&without_seconds(toleration.value))) {
        errors.push(now.forbidden("existing toleration can not be modified except its tolerationSeconds"));
        return;
    }
    scheduling::tolerations(now, errors);
}

fn gates(now: &At<'_>, was: &At<'_>, errors: &mut ErrorList) {
    let names: Vec<_> = was.items().map(|gate| gate.child("name").text()).collect();
    for gate in now.items() {
        let name = gate.child("name").text();
        if !names.contains(&name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(Error::forbidden(&gate.path.child("name"), detail));
        }
    }
}

/// The new spec with everything that may change put back.
fn without_updatable(new: &Value, old: &Value) -> Value {
    let mut munged = new.clone();
    for list in ["containers", "initContainers"] {
        let was = old.list(&[list]);
        for (container, was) in munged.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().zip(was) {
            container.set_or_remove("image", was.get("image").cloned());
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        munged.set_or_remove(field, old.get(field).cloned());
    }
    let grace = ["terminationGracePeriodSeconds"];
    if old.int(&grace).is_some_and(|was| was < 0) && munged.int(&grace) == Some(1) {
        munged.set_or_remove(grace[0], old.get(grace[0]).cloned());
    }
    // What a gated pod asks of its node may still be narrowed.
    if !old.list(&["schedulingGates"]).is_empty() {
        munged.set_or_remove("nodeSelector", old.get("nodeSelector").cloned());
        let was = old.at(&["affinity", "nodeAffinity"]).cloned();
        if let Some(affinity) = munged.get_mut("affinity") {
            affinity.set_or_remove("nodeAffinity", was);
            if affinity.as_object().is_some_and(serde_json::Map::is_empty) && old.get("affinity").is_none() {
                munged.set_or_remove("affinity", None);
            }
        }
    }
    munged
}

/// Ephemeral containers are added, never changed or removed.
pub(super) fn validate_ephemeral_containers(new: &Value, old: &Value) -> ErrorList {
    if old.at(&["metadata", "annotations", MIRROR]).is_some() {
        return vec![Error::forbidden(&Path::new(""), "static pods do not support ephemeral containers")];
    }
    let mut errors = validate_pod(new);
    let now = At::field(new, "spec").child("ephemeralContainers");
    for was in old.list(&["spec", "ephemeralContainers"]) {
        let name = was.text(&["name"]);
        match now.items().find(|container| container.child("name").text() == name) {
            None => errors.push(now.forbidden(format!("existing ephemeral containers {name:?} may not be removed\n"))),
            Some(container) if container.value != was => {
                let difference = diff(was, container.value);
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{difference}");
                errors.push(now.forbidden(detail));
            }
            Some(_) => {}
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 30, "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst", "containers": [{"name": "c", "image": "x", "resources": {},
                "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]},
            "status": {"qosClass": "BestEffort"}})
    }

    #[test]
    fn images_may_change_and_names_may_not() {
        let mut new = pod();
        new["spec"]["containers"][0]["image"] = json!("y");
        new["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        assert!(validate(&new, &pod()).is_empty());
        new["spec"]["containers"][0]["command"] = json!(["z"]);
        let text = validate(&new, &pod())[0].to_string();
        assert!(
            text.starts_with(
                "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            )
        );
        assert!(text.contains("\n@@ "), "{text}");
        new["spec"]["containers"] = json!([new["spec"]["containers"][0], new["spec"]["containers"][0]]);
        let texts: Vec<_> = validate(&new, &pod()).iter().map(ToString::to_string).collect();
        assert!(texts.contains(&"spec.containers: Forbidden: pod updates may not add or remove containers".to_owned()));
    }

    #[test]
    fn ephemeral_containers_stay() {
        let container =
            json!({"name": "d", "image": "x", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"});
        let mut old = pod();
        old["spec"]["ephemeralContainers"] = json!([container]);
        let mut new = old.clone();
        assert!(validate_ephemeral_containers(&new, &old).is_empty());
        new["spec"]["ephemeralContainers"][0]["image"] = json!("y");
        assert!(validate_ephemeral_containers(&new, &old)[0].to_string().contains("may not be changed"));
        new["spec"]["ephemeralContainers"] = json!([]);
        assert!(validate_ephemeral_containers(&new, &old)[0].to_string().contains("may not be removed"));
    }
}
