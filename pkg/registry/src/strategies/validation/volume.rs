//! Volumes of a pod, and how containers mount them.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;

use super::env::{FILE_FIELDS, field_ref, resource_ref};
use super::files::{descending, key_to_path, local, mode, no_backsteps};
use super::scalar::quantity;
use super::{At, Report};
use crate::strategies::core::persistent_volume_claim;

const MIN_TOKEN_SECONDS: i64 = 10 * 60;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

const MAX_DRIVER: usize = 63;

/// The valid volumes of a pod by name.
pub(crate) struct Volumes<'a>(Vec<(&'a str, At<'a>)>);

impl<'a> Volumes<'a> {
    fn get(&self, name: &str) -> Option<&At<'a>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, volume)| volume)
    }
}

/// Checks the volumes of a pod; `pod` is its name, empty for templates.
pub(crate) fn volumes<'a>(at: &At<'a>, pod: &str, errors: &mut ErrorList) -> Volumes<'a> {
    let mut valid: Vec<(&str, At<'_>)> = Vec::new();
    let ephemeral: Vec<String> = at
        .items()
        .filter(|volume| !pod.is_empty() && volume.child("ephemeral").is_set())
        .map(|volume| format!("{pod}-{}", volume.child("name").text()))
        .collect();
    for volume in at.items() {
        let mut own = ErrorList::new();
        source(&volume, &mut own);
        let name = volume.child("name");
        own.need_name(&name, names::is_dns1123_label);
        if valid.iter().any(|(known, _)| *known == name.text()) {
            own.push(name.duplicate());
        }
        let claim = volume.child("persistentVolumeClaim").child("claimName");
        if ephemeral.iter().any(|created| created == claim.text()) {
            errors.push(claim.invalid("must not reference a PVC that gets created for an ephemeral volume"));
        }
        if own.is_empty() {
            valid.push((name.text(), volume));
        }
        errors.append(&mut own);
    }
    Volumes(valid)
}

fn source(volume: &At<'_>, errors: &mut ErrorList) {
    let fields =
        volume.value.as_object().into_iter().flatten().filter(|(key, value)| *key != "name" && !value.is_null());
    let mut sources = 0;
    for (kind, _) in fields {
        sources += 1;
        let at = volume.child(kind);
        if sources > 1 {
            errors.push(at.forbidden("may not specify more than 1 volume type"));
        } else {
            one_source(kind, &at, errors);
        }
    }
    if sources == 0 {
        errors.push(volume.required("must specify a volume type"));
    }
}

fn one_source(kind: &str, at: &At<'_>, errors: &mut ErrorList) {
    match kind {
        "emptyDir" => {
            let limit = at.child("sizeLimit");
            if quantity(&limit).is_some_and(|limit| limit.is_negative()) {
                errors.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
            }
        }
        "hostPath" => host_path(at, errors),
        "secret" | "configMap" => {
            errors.need_text(&at.child(if kind == "secret" { "secretName" } else { "name" }));
            mode(&at.child("defaultMode"), errors);
            at.child("items").items().for_each(|item| key_to_path(&item, errors));
        }
        "downwardAPI" => {
            mode(&at.child("defaultMode"), errors);
            at.child("items").items().for_each(|item| downward_file(at, &item, errors));
        }
        "projected" => {
            mode(&at.child("defaultMode"), errors);
            projections(at, errors);
        }
        "persistentVolumeClaim" => {
            errors.need_text(&at.child("claimName"));
        }
        "gitRepo" => {
            errors.need_text(&at.child("repository"));
            descending(&at.child("directory"), errors);
        }
        "nfs" => {
            errors.need_text(&at.child("server"));
            errors.need_text(&at.child("path"));
            if !at.child("path").text().starts_with('/') {
                errors.push(at.child("path").invalid("must be an absolute path"));
            }
        }
        "csi" => {
            csi_driver(&at.child("driver"), errors);
            let secret = at.child("nodePublishSecretRef");
            if secret.is_set() {
                errors.need_name(&secret.child("name"), names::is_dns1123_subdomain);
            }
        }
        "ephemeral" => {
            let template = at.child("volumeClaimTemplate");
            if template.is_set() {
                persistent_volume_claim::spec(&template.child("spec"), errors);
            } else {
                errors.push(template.required(""));
            }
        }
        "image" => {
            errors.need_text(&at.child("reference"));
            errors.one_of(&at.child("pullPolicy"), &["Always", "IfNotPresent", "Never"]);
        }
        _ => {}
    }
}

fn host_path(at: &At<'_>, errors: &mut ErrorList) {
    if errors.need_text(&at.child("path")) {
        no_backsteps(&at.child("path"), errors);
        errors.one_of(&at.child("type"), HOST_PATH_TYPES);
    }
}

/// A file of the downward API. Upstream names its fields as if they were those of the volume `within`.
fn downward_file(within: &At<'_>, file: &At<'_>, errors: &mut ErrorList) {
    let at = &At { value: file.value, path: within.path.clone() };
    errors.need_text(&at.child("path"));
    local(&at.child("path"), errors);
    let (field, resource) = (at.child("fieldRef"), at.child("resourceFieldRef"));
    match (field.is_set(), resource.is_set()) {
        (true, both) => {
            field_ref(&field, FILE_FIELDS, errors);
            if both {
                let rule = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(&at.path, "resource", rule));
            }
        }
        (false, true) => resource_ref(&resource, true, errors),
        (false, false) => errors.push(at.required("one of fieldRef and resourceFieldRef is required")),
    }
    mode(&at.child("mode"), errors);
}

fn projections(at: &At<'_>, errors: &mut ErrorList) {
    let mut paths: Vec<&str> = Vec::new();
    for source in at.child("sources").items() {
        let mut kinds = 0;
        for kind in
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"]
        {
            let part = source.child(kind);
            if !part.is_set() {
                continue;
            }
            kinds += 1;
            if kinds > 1 {
                errors.push(part.forbidden("may not specify more than 1 volume type"));
            }
            let items: Vec<_> = part.child("items").items().collect();
            match kind {
                "secret" | "configMap" => {
                    errors.need_text(&part.child("name"));
                    items.iter().for_each(|item| key_to_path(item, errors));
                }
                "downwardAPI" => items.iter().for_each(|item| downward_file(&part, item, errors)),
                "serviceAccountToken" => token(at, &part, errors),
                _ => {}
            }
            for path in items.iter().map(|item| item.child("path").text()).filter(|path| !path.is_empty()) {
                if paths.contains(&path) {
                    let who = if kind == "downwardAPI" { path } else { part.child("name").text() };
                    errors.push(Error::invalid(&at.path, who, "conflicting duplicate paths"));
                }
                paths.push(path);
            }
        }
    }
}

fn token(volume: &At<'_>, at: &At<'_>, errors: &mut ErrorList) {
    let seconds = at.child("expirationSeconds");
    let asked = seconds.int().unwrap_or_default();
    if asked < MIN_TOKEN_SECONDS {
        errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
    }
    if asked > MAX_TOKEN_SECONDS {
        errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
    }
    // Upstream names the path as if it were the volume's own.
    let path = At { value: at.child("path").value, path: volume.path.child("path") };
    if errors.need_text(&path) {
        local(&path, errors);
    }
}

/// The name of a driver.
pub(crate) fn csi_driver(at: &At<'_>, errors: &mut ErrorList) {
    if !errors.need_text(at) {
        return;
    }
    if at.text().len() > MAX_DRIVER {
        errors.push(Error::too_long(&at.path, MAX_DRIVER));
    }
    errors.complaints(at, names::is_dns1123_subdomain(&at.text().to_lowercase()));
}

/// The mounts of a container.
pub(crate) fn mounts(at: &At<'_>, container: &At<'_>, volumes: &Volumes<'_>, errors: &mut ErrorList) {
    let privileged = container.child("securityContext").child("privileged").is_true();
    let devices: Vec<_> = container.child("volumeDevices").items().collect();
    let mut seen: Vec<&str> = Vec::new();
    for mount in at.items() {
        let (name, path) = (mount.child("name"), mount.child("mountPath"));
        errors.need_text(&name);
        if volumes.get(name.text()).is_none() {
            errors.push(name.not_found());
        }
        errors.need_text(&path);
        if seen.contains(&path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        seen.push(path.text());
        if devices.iter().any(|device| device.child("name").text() == name.text()) {
            errors.push(name.invalid("must not already exist in volumeDevices"));
        }
        if devices.iter().any(|device| device.child("devicePath").text() == path.text()) {
            errors.push(path.invalid("must not already exist as a path in volumeDevices"));
        }
        // Upstream names these as if they were the list's own.
        let own = |field: &str| At { value: mount.child(field).value, path: at.path.child(field) };
        let (sub, expression) = (own("subPath"), own("subPathExpr"));
        if !sub.text().is_empty() {
            descending(&sub, errors);
        }
        if !expression.text().is_empty() {
            if !sub.text().is_empty() {
                errors.push(mount.child("subPathExpr").invalid("subPathExpr and subPath are mutually exclusive"));
            }
            descending(&expression, errors);
        }
        let propagation = own("mountPropagation");
        errors.one_of(&propagation, &["Bidirectional", "HostToContainer", "None"]);
        if propagation.text() == "Bidirectional" && !privileged {
            let rule = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(propagation.forbidden(rule));
        }
        recursive_read_only(&own("recursiveReadOnly"), &mount, errors);
    }
}

fn recursive_read_only(at: &At<'_>, mount: &At<'_>, errors: &mut ErrorList) {
    errors.one_of(at, &["Disabled", "IfPossible", "Enabled"]);
    if matches!(at.text(), "IfPossible" | "Enabled") {
        if !mount.child("readOnly").is_true() {
            errors.push(at.forbidden("may only be specified when readOnly is true"));
        }
        let propagation = mount.child("mountPropagation");
        if propagation.is_set() && propagation.text() != "None" {
            errors.push(at.forbidden("may only be specified when mountPropagation is None or not specified"));
        }
    }
}

/// The raw devices of a container.
pub(crate) fn devices(at: &At<'_>, volumes: &Volumes<'_>, errors: &mut ErrorList) {
    let (mut names, mut paths): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for device in at.items() {
        let (name, path) = (device.child("name"), device.child("devicePath"));
        errors.need_text(&name);
        if names.contains(&name.text()) {
            errors.push(name.invalid("must be unique"));
        }
        match volumes.get(name.text()) {
            None => errors.push(name.not_found()),
            Some(volume) if volume.child("persistentVolumeClaim").is_set() || volume.child("ephemeral").is_set() => {}
            Some(_) => errors.push(
                name.invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"),
            ),
        }
        errors.need_text(&path);
        if paths.contains(&path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        if path.text().split('/').any(|part| part == "..") {
            errors.push(path.invalid("can not contain backsteps ('..')"));
        }
        names.push(name.text());
        paths.push(path.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mounts_name_volumes_that_exist() {
        let pod = json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}},
            {"name": "b", "emptyDir": {}, "hostPath": {"path": "/"}}, {"name": "c"}],
            "container": {"volumeMounts": [{"name": "a", "mountPath": "/x"}, {"name": "b", "mountPath": "/x"},
                {"name": "a", "mountPath": "/y", "subPath": "../z"}]}});
        let mut errors = ErrorList::new();
        let known = volumes(&At::field(&pod, "volumes"), "", &mut errors);
        let container = At::field(&pod, "container");
        mounts(&container.child("volumeMounts"), &container, &known, &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "volumes[1].name: Duplicate value: \"a\"",
                "volumes[2].hostPath: Forbidden: may not specify more than 1 volume type",
                "volumes[3]: Required value: must specify a volume type",
                "container.volumeMounts[1].name: Not found: \"b\"",
                "container.volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
                "container.volumeMounts.subPath: Invalid value: \"../z\": must not contain '..'",
            ]
        );
    }

    #[test]
    fn projected_paths_do_not_collide() {
        let item = json!({"key": "k", "path": "p"});
        let pod = json!({"volumes": [{"name": "v", "projected": {"sources": [
            {"secret": {"name": "s", "items": [item]}}, {"configMap": {"name": "c", "items": [item]}},
            {"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]}}]});
        let mut errors = ErrorList::new();
        volumes(&At::field(&pod, "volumes"), "", &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "volumes[0].projected: Invalid value: \"c\": conflicting duplicate paths",
                "volumes[0].projected.sources[2].serviceAccountToken.expirationSeconds: Invalid value: 60: \
             may not specify a duration less than 10 minutes",
            ]
        );
    }
}
