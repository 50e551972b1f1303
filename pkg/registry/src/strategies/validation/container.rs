//! Containers: regular, init and ephemeral ones.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::Value;

use super::probe::{self, Kind};
use super::volume::{self, Volumes};
use super::{At, Report, env, resources, security};

const NOT_FOR_INIT: &str = "may not be set for init containers without restartPolicy=Always";
const EPHEMERAL_FIELDS: &[&str] = &[
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "targetContainerName",
];

/// What containers need to know of their pod.
pub(crate) struct Pod<'a> {
    pub volumes: Volumes<'a>,
    pub claims: Vec<&'a str>,
    pub grace: Option<i64>,
    pub restart_policy: &'a str,
    pub host_users: bool,
}

/// Regular containers.
pub(crate) fn containers(at: &At<'_>, pod: &Pod<'_>, errors: &mut ErrorList) {
    if at.len() == 0 {
        errors.push(at.required(""));
        return;
    }
    let mut names: Vec<&str> = Vec::new();
    for container in at.items() {
        common(&container, pod, errors);
        let name = container.child("name");
        if names.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        names.push(name.text());
        lifecycle_and_probes(&container, pod, errors);
        restart_policy(&container, errors);
    }
    host_port_conflicts(&at.items().collect::<Vec<_>>(), errors);
}

/// Init containers; those that always restart are sidecars.
pub(crate) fn init_containers(at: &At<'_>, regular: &At<'_>, pod: &Pod<'_>, errors: &mut ErrorList) {
    let mut names: Vec<&str> = regular.items().map(|container| container.child("name").text()).collect();
    for container in at.items() {
        common(&container, pod, errors);
        restart_policy(&container, errors);
        let name = container.child("name");
        if names.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        names.push(name.text());
        host_port_conflicts(std::slice::from_ref(&container), errors);
        if is_sidecar(container.value) {
            lifecycle_and_probes(&container, pod, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.child(field).is_set() {
                errors.push(container.child(field).forbidden(NOT_FOR_INIT));
            }
        }
        for policy in container.child("resizePolicy").items() {
            let restart = policy.child("restartPolicy");
            if restart.text() == "RestartContainer" {
                let rule = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(restart.invalid(rule));
            }
        }
    }
}

/// Ephemeral containers, which are added to pods that run.
pub(crate) fn ephemeral_containers(at: &At<'_>, spec: &At<'_>, pod: &Pod<'_>, errors: &mut ErrorList) {
    let others: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec.child(list).items())
        .map(|container| container.child("name").text())
        .collect();
    let mut names = others.clone();
    for container in at.items() {
        common(&container, pod, errors);
        image_without_blanks(&container, errors);
        let (name, target) = (container.child("name"), container.child("targetContainerName"));
        if names.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        names.push(name.text());
        if !target.text().is_empty() && !others.contains(&target.text()) {
            errors.push(target.not_found());
        }
        for (field, value) in container.value.as_object().into_iter().flatten() {
            let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
            if !EPHEMERAL_FIELDS.contains(&field.as_str()) && !empty {
                errors.push(container.child(field).forbidden("cannot be set for an Ephemeral Container"));
            }
        }
        for mount in container.child("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.child(field).text().is_empty() {
                    errors.push(mount.child(field).forbidden("cannot be set for an Ephemeral Container"));
                }
            }
        }
    }
}

/// Whether an init container runs as long as the pod.
pub(crate) fn is_sidecar(container: &Value) -> bool {
    container.get("restartPolicy").is_some_and(|policy| policy == "Always")
}

/// What a pod must not have that a template may.
pub(crate) fn image_without_blanks(container: &At<'_>, errors: &mut ErrorList) {
    let image = container.child("image");
    if image.text().trim().len() != image.text().len() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

fn common(at: &At<'_>, pod: &Pod<'_>, errors: &mut ErrorList) {
    errors.need_name(&at.child("name"), names::is_dns1123_label);
    errors.need_text(&at.child("image"));
    errors.need_one_of(&at.child("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"]);
    ports(&at.child("ports"), errors);
    env::variables(&at.child("env"), errors);
    env::sources(&at.child("envFrom"), errors);
    volume::mounts(&at.child("volumeMounts"), at, &pod.volumes, errors);
    volume::devices(&at.child("volumeDevices"), &pod.volumes, errors);
    errors.need_one_of(&at.child("imagePullPolicy"), &["Always", "IfNotPresent", "Never"]);
    resources::requirements(&at.child("resources"), &pod.claims, errors);
    resources::resize_policy(&at.child("resizePolicy"), pod.restart_policy, errors);
    security::container(&at.child("securityContext"), pod.host_users, errors);
}

fn lifecycle_and_probes(container: &At<'_>, pod: &Pod<'_>, errors: &mut ErrorList) {
    probe::lifecycle(&container.child("lifecycle"), pod.grace, errors);
    probe::probe(&container.child("livenessProbe"), Kind::Liveness, pod.grace, errors);
    probe::probe(&container.child("readinessProbe"), Kind::Readiness, pod.grace, errors);
    probe::probe(&container.child("startupProbe"), Kind::Startup, pod.grace, errors);
}

fn restart_policy(container: &At<'_>, errors: &mut ErrorList) {
    let (policy, rules) = (container.child("restartPolicy"), container.child("restartPolicyRules"));
    if !policy.is_set() && rules.len() > 0 {
        errors.push(policy.required("must specify restartPolicy when restart rules are used"));
    }
    errors.one_of(&policy, &["Always", "Never", "OnFailure"]);
    if rules.len() > 20 {
        errors.push(Error::too_many(&rules.path, rules.len(), 20));
    }
    for rule in rules.items() {
        errors.one_of(&rule.child("action"), &["Restart", "RestartAllContainers"]);
        let codes = rule.child("exitCodes");
        if codes.is_set() {
            errors.one_of(&codes.child("operator"), &["In", "NotIn"]);
        } else {
            errors.push(codes.required("must be specified"));
        }
    }
}

fn ports(at: &At<'_>, errors: &mut ErrorList) {
    let mut names: Vec<&str> = Vec::new();
    for port in at.items() {
        let name = port.child("name");
        if !name.text().is_empty() {
            let complaints = names::is_valid_port_name(name.text());
            if !complaints.is_empty() {
                errors.complaints(&name, complaints);
            } else if names.contains(&name.text()) {
                errors.push(name.duplicate());
            } else {
                names.push(name.text());
            }
        }
        let number = port.child("containerPort");
        match number.int().unwrap_or_default() {
            0 => errors.push(number.required("")),
            value => errors.complaints(&number, names::is_valid_port_num(value)),
        }
        let host = port.child("hostPort");
        if let Some(value) = host.int().filter(|value| *value != 0) {
            errors.complaints(&host, names::is_valid_port_num(value));
        }
        errors.need_one_of(&port.child("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn host_port_conflicts(containers: &[At<'_>], errors: &mut ErrorList) {
    let mut taken: Vec<String> = Vec::new();
    for port in containers.iter().flat_map(|container| container.child("ports").items()) {
        let host = port.child("hostPort");
        let Some(number) = host.int().filter(|number| *number != 0) else { continue };
        let key = format!("{}/{}/{number}", port.child("protocol").text(), port.child("hostIP").text());
        if taken.contains(&key) {
            errors.push(Error::duplicate(&host.path, key));
        } else {
            taken.push(key);
        }
    }
}
