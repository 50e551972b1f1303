//! Pods and their templates.

use std::collections::{HashMap, HashSet};

use kedge_meta::names;
use serde_json::Value;

use super::storage::{GONE, called, claim_spec};
use super::{At, MOST_WARNINGS, address, fraction, node_label, volume_paths};
use crate::value::ValueExt;

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const NO_MATCH: &str = "a null labelSelector results in matching no pod";
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

/// A pod.
pub(super) fn pod(pod: &Value, warnings: &mut Vec<String>) {
    let complaints = names::is_dns1123_label(pod.name());
    if !complaints.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label \
             is recommended: [{}]",
            complaints.join(" ")
        ));
    }
    Check { meta: At::field(pod, "metadata"), spec: At::field(pod, "spec"), is_template: false }.all(warnings);
}

/// What pods are made from.
pub(super) fn template(template: &At<'_>, warnings: &mut Vec<String>) {
    Check { meta: template.child("metadata"), spec: template.child("spec"), is_template: true }.all(warnings);
}

struct Check<'a> {
    meta: At<'a>,
    spec: At<'a>,
    is_template: bool,
}

impl<'a> Check<'a> {
    fn all(&self, warnings: &mut Vec<String>) {
        self.nodes(warnings);
        self.annotations(warnings);
        self.volumes(warnings);
        self.lists(warnings);
        for resource in ["memory", "ephemeral-storage"] {
            fraction(&entry(&self.spec.child("overhead"), resource), warnings);
        }
        self.profiles(warnings);
        for container in self.containers() {
            resources(&container, warnings);
            variables(&container, warnings);
        }
        self.ports(warnings);
        if self.spec.child("terminationGracePeriodSeconds").int().is_some_and(|seconds| seconds < 0) {
            let why = "must be >= 0; negative values are invalid and will be treated as 1";
            warnings.push(format!("{}: {why}", self.spec.child("terminationGracePeriodSeconds").path));
        }
        self.affinities(warnings);
        self.spec.child("dnsConfig").child("nameservers").items().for_each(|ip| address::ip(&ip, warnings));
        self.spec.child("hostAliases").items().for_each(|alias| address::ip(&alias.child("ip"), warnings));
    }

    /// Init containers, containers and ephemeral ones, as upstream visits them.
    fn containers(&self) -> impl Iterator<Item = At<'a>> {
        let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| self.spec.child(list));
        lists.into_iter().flat_map(|list| list.items())
    }

    fn nodes(&self, warnings: &mut Vec<String>) {
        node_label::map(&self.spec.child("nodeSelector"), warnings);
        let affinity = self.spec.child("affinity").child("nodeAffinity");
        let required = affinity.child("requiredDuringSchedulingIgnoredDuringExecution");
        required.child("nodeSelectorTerms").items().for_each(|term| node_label::term(&term, false, warnings));
        for preferred in affinity.child("preferredDuringSchedulingIgnoredDuringExecution").items() {
            node_label::term(&preferred.child("preference"), true, warnings);
        }
        for constraint in self.spec.child("topologySpreadConstraints").items() {
            node_label::key(&constraint.child("topologyKey"), warnings);
            unselecting(&constraint.child("labelSelector"), warnings);
        }
    }

    fn annotations(&self, warnings: &mut Vec<String>) {
        let annotations = self.meta.child("annotations");
        for (key, message) in ANNOTATIONS {
            if annotations.child(key).is_set() {
                warnings.push(format!("{}: {message}", annotations.path.key(key)));
            }
        }
    }

    fn volumes(&self, warnings: &mut Vec<String>) {
        for volume in self.spec.child("volumes").items() {
            if volume.child("gitRepo").is_set() {
                let why = "deprecated in v1.11, and disabled by default in v1.33+";
                warnings.push(format!("{}: {why}", volume.path.child("gitRepo")));
            }
            let quobyte = ("quobyte", "deprecated in v1.22, non-functional in v1.25+");
            for (field, message) in GONE.into_iter().chain([quobyte]) {
                if volume.child(field).is_set() {
                    warnings.push(format!("{}: {message}", volume.path.child(called(field))));
                }
            }
            let claim = volume.child("ephemeral").child("volumeClaimTemplate");
            if claim.is_set() {
                claim_spec(&claim.child("spec"), warnings);
            }
        }
        volume_paths::overlaps(&self.spec.child("volumes"), warnings);
    }

    /// Entries of lists that occur twice, or name nothing.
    fn lists(&self, warnings: &mut Vec<String>) {
        for (list, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
            let mut seen = HashSet::new();
            for item in self.spec.child(list).items().map(|item| item.child(field)) {
                if !seen.insert(item.text()) {
                    warnings.push(format!("{}: duplicate {field} {:?}", item.path, item.text()));
                }
            }
        }
        for name in self.spec.child("imagePullSecrets").items().map(|secret| secret.child("name")) {
            if name.text().is_empty() {
                warnings.push(format!("{}: invalid empty name \"\"", name.path));
            }
        }
    }

    /// Security profiles by annotations of old.
    fn profiles(&self, warnings: &mut Vec<String>) {
        let annotations = self.meta.child("annotations");
        let whole = self.spec.child("securityContext");
        let mut say = |key: &str, message: &str| {
            if annotations.child(key).is_set() {
                warnings.push(format!("{}: {message}", annotations.path.key(key)));
            }
        };
        let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
        if !whole.child("seccompProfile").is_set() {
            say(SECCOMP_POD, seccomp);
        }
        for container in self.containers() {
            let (name, own) = (container.child("name").text(), container.child("securityContext"));
            if !own.child("seccompProfile").is_set() {
                say(&format!("{SECCOMP_CONTAINER}{name}"), seccomp);
            }
            let key = format!("{APP_ARMOR}{name}");
            let same = is_profile(whole.child("appArmorProfile").value, annotations.child(&key).text());
            if self.is_template && !own.child("appArmorProfile").is_set() && !same {
                say(&key, "deprecated since v1.30; use the \"appArmorProfile\" field instead");
            }
        }
    }

    fn ports(&self, warnings: &mut Vec<String>) {
        let ports: Vec<At<'_>> =
            self.containers().flat_map(|container| container.child("ports").items().collect::<Vec<_>>()).collect();
        let mut same: HashMap<(i64, &str), Vec<&At<'_>>> = HashMap::new();
        for port in &ports {
            let (ip, host) = host_of(port);
            if !ip.is_empty() && host == 0 {
                warnings.push(format!("{}: hostIP set without hostPort: {}", port.path, go_port(port)));
            }
            let key = (port.child("containerPort").int().unwrap_or_default(), port.child("protocol").text());
            let others = same.entry(key).or_default();
            // More than these are never sent, and are not made.
            for other in others.iter().take(MOST_COMPARED) {
                if warnings.len() >= MOST_WARNINGS {
                    return;
                }
                let (other_ip, other_host) = host_of(other);
                let what = if (ip, host) == (other_ip, other_host) {
                    "duplicate"
                } else if host == 0 || other_host == 0 {
                    "overlapping"
                } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{}: {what} port definition with {}", port.path, other.path));
            }
            others.push(port);
        }
        let mut names: HashMap<&str, &At<'_>> = HashMap::new();
        for port in ports.iter().filter(|port| !port.child("name").text().is_empty()) {
            let name = port.child("name").text();
            match names.get(name) {
                Some(other) => warnings.push(format!(
                    "{}: duplicate port name {name:?} with {}, services and probes that select ports by name will use {}",
                    port.path, other.path, other.path
                )),
                None => {
                    names.insert(name, port);
                }
            }
        }
    }

    fn affinities(&self, warnings: &mut Vec<String>) {
        for kind in ["podAffinity", "podAntiAffinity"] {
            let affinity = self.spec.child("affinity").child(kind);
            for term in affinity.child("requiredDuringSchedulingIgnoredDuringExecution").items() {
                unselecting(&term.child("labelSelector"), warnings);
            }
            for term in affinity.child("preferredDuringSchedulingIgnoredDuringExecution").items() {
                unselecting(&term.child("podAffinityTerm").child("labelSelector"), warnings);
            }
        }
    }
}

/// Ports of the same number that one is compared with.
const MOST_COMPARED: usize = 64;

fn unselecting(selector: &At<'_>, warnings: &mut Vec<String>) {
    if !selector.is_set() {
        warnings.push(format!("{}: {NO_MATCH}", selector.path));
    }
}

fn entry<'a>(map: &At<'a>, key: &str) -> At<'a> {
    At { value: map.child(key).value, path: map.path.key(key) }
}

fn resources(container: &At<'_>, warnings: &mut Vec<String>) {
    let resources = container.child("resources");
    for resource in ["memory", "ephemeral-storage"] {
        for kind in ["limits", "requests"] {
            fraction(&entry(&resources.child(kind), resource), warnings);
        }
    }
}

/// A variable that hides one of the same name. One that builds on it is no mistake.
fn variables(container: &At<'_>, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for variable in container.child("env").items() {
        let (name, value) = (variable.child("name").text(), variable.child("value").text());
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        let builds_on = value.contains(&reference) && value != reference;
        if variable.child("valueFrom").is_set() || !builds_on {
            let path = &variable.path;
            warnings
                .push(format!("{path}: hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}

fn host_of<'a>(port: &At<'a>) -> (&'a str, i64) {
    (port.child("hostIP").text(), port.child("hostPort").int().unwrap_or_default())
}

/// A port as Go prints its fields.
fn go_port(port: &At<'_>) -> String {
    let (ip, host) = host_of(port);
    format!(
        "{{Name:{} HostPort:{host} ContainerPort:{} Protocol:{} HostIP:{ip}}}",
        port.child("name").text(),
        port.child("containerPort").int().unwrap_or_default(),
        port.child("protocol").text()
    )
}

/// Whether a profile of AppArmor is the one that an annotation names.
fn is_profile(profile: &Value, annotation: &str) -> bool {
    let named = match annotation {
        "runtime/default" => ("RuntimeDefault", ""),
        "unconfined" => ("Unconfined", ""),
        other => match other.strip_prefix("localhost/") {
            Some(local) => ("Localhost", local),
            None => return false,
        },
    };
    profile.is_object() && (profile.text(&["type"]), profile.text(&["localhostProfile"])) == named
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
