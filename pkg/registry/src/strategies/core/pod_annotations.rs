//! What pods once said in annotations and now say in fields: profiles of AppArmor and seccomp.

use kedge_meta::field::{Error, ErrorList};
use serde_json::{Value, json};

use super::super::validation::At;
use crate::strategy::Context;
use crate::value::ValueExt as _;

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Bytes of the name of a profile on the node.
const MAX_LOCAL: usize = 4_095;
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Gives containers the AppArmor profile that an annotation names, and warns of it.
pub(super) fn app_armor(ctx: &Context<'_>, pod: &mut Value) {
    if pod.text(&["spec", "os", "name"]) == "windows" {
        return;
    }
    let annotations = pod.map(&["metadata", "annotations"]).cloned().unwrap_or_default();
    if !annotations.keys().any(|key| key.starts_with(APP_ARMOR)) {
        return;
    }
    let whole = pod.at(&["spec", "securityContext", "appArmorProfile"]).cloned();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(list)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let key = format!("{APP_ARMOR}{}", container.text(&["name"]));
            let Some(annotation) = annotations.get(&key).and_then(Value::as_str) else { continue };
            if container.at(&["securityContext", "appArmorProfile"]).is_some_and(|profile| !profile.is_null()) {
                continue;
            }
            let profile = profile(annotation);
            let is_the_pods = profile.is_some() && profile == whole;
            if is_the_pods {
                continue;
            }
            if let Some(profile) = profile {
                container.entry("securityContext").insert("appArmorProfile".into(), profile);
            }
            ctx.notes.warn(format!(
                "metadata.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            ));
        }
    }
}

/// The profile that an annotation names, where it is one.
fn profile(annotation: &str) -> Option<Value> {
    match annotation {
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        "unconfined" => Some(json!({"type": "Unconfined"})),
        other => {
            let sound = |local: &&str| !local.is_empty() && local.trim() == *local && local.len() <= MAX_LOCAL;
            let local = other.strip_prefix("localhost/").filter(sound)?;
            Some(json!({"type": "Localhost", "localhostProfile": local}))
        }
    }
}

/// Annotations that name a profile have to name one that there can be, of a container that there is.
pub(crate) fn profiles(annotations: &At<'_>, spec: &Value, errors: &mut ErrorList) {
    for (key, at) in annotations.entries() {
        if let Some(name) = key.strip_prefix(APP_ARMOR) {
            let lists = ["initContainers", "containers", "ephemeralContainers"];
            if !lists.iter().any(|list| spec.list(&[*list]).iter().any(|one| one.text(&["name"]) == name)) {
                errors.push(Error::invalid(&at.path, name, "container not found"));
            }
            let text = at.text();
            if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with("localhost/") {
                errors.push(at.invalid(format!("invalid AppArmor profile name: {text:?}")));
            }
        }
        if key != SECCOMP_POD && !key.starts_with(SECCOMP_CONTAINER) {
            continue;
        }
        let path = annotations.path.child(key);
        match at.text() {
            "runtime/default" | "docker/default" | "unconfined" => {}
            other => match other.strip_prefix("localhost/") {
                None => errors.push(Error::invalid(&path, other, "must be a valid seccomp profile")),
                Some(local) if local.starts_with('/') => {
                    errors.push(Error::invalid(&path, local, "must be a relative path"));
                }
                Some(local) if local.split('/').any(|step| step == "..") => {
                    errors.push(Error::invalid(&path, local, "must not contain '..'"));
                }
                Some(_) => {}
            },
        }
    }
}

/// What annotations and fields both say of seccomp has to be the same. `spec` is the pod's, or that of a template.
pub(crate) fn seccomp_agrees(annotations: &At<'_>, spec: &At<'_>, errors: &mut ErrorList) {
    let said = |key: &str| annotations.value.get(key).and_then(Value::as_str);
    let whole = (said(SECCOMP_POD), spec.child("securityContext"));
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| spec.child(list));
    let containers = lists.iter().flat_map(|list| list.items()).map(|container| {
        let key = format!("{SECCOMP_CONTAINER}{}", container.child("name").text());
        (said(&key), container.child("securityContext"))
    });
    for (annotation, context) in std::iter::once(whole).chain(containers) {
        let (Some(annotation), profile) = (annotation, context.child("seccompProfile")) else { continue };
        if !profile.is_set() {
            continue;
        }
        let (kind, local) = (profile.child("type"), profile.child("localhostProfile"));
        let agrees = match kind.text() {
            "Unconfined" => annotation == "unconfined",
            "RuntimeDefault" => matches!(annotation, "runtime/default" | "docker/default"),
            "Localhost" => annotation.starts_with("localhost/"),
            _ => true,
        };
        if !agrees {
            errors.push(kind.forbidden("seccomp type in annotation and field must match"));
        } else if kind.text() == "Localhost"
            && (!local.is_set() || annotation.strip_prefix("localhost/") != Some(local.text()))
        {
            errors.push(local.forbidden("seccomp profile in annotation and field must match"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_and_fields_agree_on_seccomp() {
        let said = |annotation: &str, profile: Value| {
            let pod = json!({"metadata": {"annotations": {SECCOMP_POD: annotation, "container.seccomp.security.alpha.kubernetes.io/c": annotation}},
                "spec": {"securityContext": {"seccompProfile": profile}, "containers": [{"name": "c"}]}});
            let mut errors = ErrorList::new();
            let annotations = At::field(&pod, "metadata").child("annotations");
            seccomp_agrees(&annotations, &At::field(&pod, "spec"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let profile = "spec.securityContext.seccompProfile";
        let kind = format!("{profile}.type: Forbidden: seccomp type in annotation and field must match");
        let local =
            format!("{profile}.localhostProfile: Forbidden: seccomp profile in annotation and field must match");
        assert_eq!(said("unconfined", json!({"type": "RuntimeDefault"})), [&*kind]);
        assert_eq!(said("runtime/default", json!({"type": "Localhost", "localhostProfile": "a"})), [&*kind]);
        assert_eq!(said("localhost/b", json!({"type": "Localhost", "localhostProfile": "a"})), [&*local]);
        assert_eq!(said("localhost/a", json!({"type": "Localhost"})), [&*local]);
        for (annotation, profile) in [
            ("localhost/a", json!({"type": "Localhost", "localhostProfile": "a"})),
            ("docker/default", json!({"type": "RuntimeDefault"})),
            ("unconfined", Value::Null),
        ] {
            assert_eq!(said(annotation, profile), Vec::<String>::new(), "{annotation}");
        }
    }

    #[test]
    fn profiles_are_read_and_judged() {
        assert_eq!(profile("localhost/x"), Some(json!({"type": "Localhost", "localhostProfile": "x"})));
        assert_eq!((profile("localhost/"), profile("x"), profile("localhost/ x")), (None, None, None));
        let pod = json!({"metadata": {"annotations": {SECCOMP_POD: "x", "other": "y", "container.apparmor.security.beta.kubernetes.io/none": "z",
            "container.seccomp.security.alpha.kubernetes.io/a": "localhost/../b",
            "container.seccomp.security.alpha.kubernetes.io/c": "docker/default"}}});
        let mut errors = ErrorList::new();
        profiles(&At::field(&pod, "metadata").child("annotations"), &pod["spec"], &mut errors);
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/none]: Invalid value: \"none\": \
                 container not found",
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/none]: Invalid value: \"z\": invalid \
                 AppArmor profile name: \"z\"",
                "metadata.annotations.container.seccomp.security.alpha.kubernetes.io/a: Invalid value: \"../b\": must not \
                 contain '..'",
                "metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: \"x\": must be a valid \
                 seccomp profile",
            ]
        );
    }
}
