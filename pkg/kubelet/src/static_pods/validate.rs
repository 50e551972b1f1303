//! What keeps a manifest from being a pod. The API checks far more, and says it when the mirror is made; here it is what a pod cannot
//! run without, and what would make a path or a name of something else.

use std::collections::HashSet;

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names::{is_dns1123_label, is_dns1123_subdomain};
use serde_json::Value;

/// The problems, in upstream's words; none of a good pod.
pub(super) fn validate(pod: &Value) -> Vec<String> {
    let mut errors = ErrorList::new();
    let metadata = Path::new("metadata");
    named(&pod["metadata"]["name"], &metadata.child("name"), is_dns1123_subdomain, &mut errors);
    named(&pod["metadata"]["namespace"], &metadata.child("namespace"), is_dns1123_label, &mut errors);
    // It becomes part of paths and of the name of a control group.
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    if !is_dns1123_subdomain(uid).is_empty() {
        errors.push(Error::invalid(&metadata.child("uid"), uid, "must be usable as a part of a path"));
    }
    let spec = Path::new("spec");
    let volumes = volumes(&pod["spec"], &spec, &mut errors);
    containers(&pod["spec"], &spec, &volumes, &mut errors);
    enumerated(&pod["spec"], &spec, "restartPolicy", &["Always", "Never", "OnFailure"], &mut errors);
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    enumerated(&pod["spec"], &spec, "dnsPolicy", &policies, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn named(value: &Value, path: &Path, check: fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    let name = value.as_str().unwrap_or_default();
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    errors.extend(check(name).into_iter().map(|why| Error::invalid(path, name, why)));
}

fn enumerated(spec: &Value, path: &Path, field: &str, valid: &[&str], errors: &mut ErrorList) {
    let value = spec[field].as_str().unwrap_or_default();
    if !value.is_empty() && !valid.contains(&value) {
        errors.push(Error::not_supported(&path.child(field), value, valid));
    }
}

/// The names of the volumes.
fn volumes(spec: &Value, path: &Path, errors: &mut ErrorList) -> HashSet<String> {
    let mut names = HashSet::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let path = path.child("volumes").index(index).child("name");
        named(&volume["name"], &path, is_dns1123_label, errors);
        let name = volume["name"].as_str().unwrap_or_default();
        if !names.insert(name.to_owned()) {
            errors.push(Error::duplicate(&path, name));
        }
    }
    names
}

fn containers(spec: &Value, path: &Path, volumes: &HashSet<String>, errors: &mut ErrorList) {
    if list(spec, "containers").is_empty() {
        errors.push(Error::required(&path.child("containers"), ""));
    }
    if !list(spec, "ephemeralContainers").is_empty() {
        errors.push(Error::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    let mut names = HashSet::new();
    for field in ["containers", "initContainers"] {
        for (index, container) in list(spec, field).iter().enumerate() {
            let path = path.child(field).index(index);
            named(&container["name"], &path.child("name"), is_dns1123_label, errors);
            let name = container["name"].as_str().unwrap_or_default();
            if !names.insert(name.to_owned()) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            if container["image"].as_str().unwrap_or_default().is_empty() {
                errors.push(Error::required(&path.child("image"), ""));
            }
            mounts(container, &path, volumes, errors);
        }
    }
}

fn mounts(container: &Value, path: &Path, volumes: &HashSet<String>, errors: &mut ErrorList) {
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let path = path.child("volumeMounts").index(index);
        let name = mount["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else if !volumes.contains(name) {
            errors.push(Error::not_found(&path.child("name"), name));
        }
        if mount["mountPath"].as_str().unwrap_or_default().is_empty() {
            errors.push(Error::required(&path.child("mountPath"), ""));
        }
        for field in ["subPath", "subPathExpr"] {
            let sub = mount[field].as_str().unwrap_or_default();
            if sub.starts_with('/') {
                errors.push(Error::invalid(&path.child(field), sub, "must be a relative path"));
            } else if sub.split('/').any(|part| part == "..") {
                errors.push(Error::invalid(&path.child(field), sub, "must not contain '..'"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: Value) -> Vec<String> {
        validate(&json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}))
    }

    #[test]
    fn a_good_pod_has_no_problems() {
        let mounts = json!([{"name": "v", "mountPath": "/v", "subPath": "a/b"}]);
        let spec =
            json!({"containers": [{"name": "c", "image": "i", "volumeMounts": mounts}], "volumes": [{"name": "v"}]});
        assert!(of(spec).is_empty());
    }

    #[test]
    fn problems_are_named_as_upstream_names_them() {
        let mounts = json!([{"name": "w", "mountPath": "/w", "subPath": "../x"}]);
        let spec = json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "volumeMounts": mounts}],
            "volumes": [{"name": "v"}, {"name": "v"}], "restartPolicy": "Sometimes"});
        assert_eq!(
            of(spec),
            [
                "spec.volumes[1].name: Duplicate value: \"v\"",
                "spec.containers[1].name: Duplicate value: \"c\"",
                "spec.containers[1].image: Required value",
                "spec.containers[1].volumeMounts[0].name: Not found: \"w\"",
                "spec.containers[1].volumeMounts[0].subPath: Invalid value: \"../x\": must not contain '..'",
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
            ]
        );
        let stranger = validate(&json!({"metadata": {"name": "p", "namespace": "ns", "uid": "../../x"},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}));
        assert!(stranger.len() == 1 && stranger[0].starts_with("metadata.uid: Invalid value"), "{stranger:?}");
    }
}
