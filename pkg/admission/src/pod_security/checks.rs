//! The checks of the Pod Security Standards, in upstream's order, each from the version on that brought it.

use kedge_registry::value::ValueExt as _;
use serde_json::{Map, Value};

use super::policy::{Level, Minor, Standard};
use super::{baseline, restricted};

/// What a standard sees of a pod.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub annotations: Option<&'a Map<String, Value>>,
    pub spec: &'a Value,
}

/// Why a check forbids a pod: in short, and with names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub reason: String,
    pub detail: String,
}

impl Violation {
    pub(super) fn new(reason: &str, detail: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), detail: detail.into() }
    }
}

type Check = fn(Pod<'_>) -> Option<Violation>;

/// A check: its name, the check it takes the place of, and its forms, each from a version on.
struct Rule {
    name: &'static str,
    instead_of: Option<&'static str>,
    forms: &'static [(Minor, Check)],
}

const fn rule(name: &'static str, forms: &'static [(Minor, Check)]) -> Rule {
    Rule { name, instead_of: None, forms }
}

static BASELINE: [Rule; 12] = [
    rule("appArmorProfile", &[(0, baseline::app_armor)]),
    rule("capabilities_baseline", &[(0, baseline::capabilities)]),
    rule("hostNamespaces", &[(0, baseline::host_namespaces)]),
    rule("hostPathVolumes", &[(0, baseline::host_paths)]),
    rule("hostPorts", &[(0, baseline::host_ports)]),
    rule("hostProbesAndHostLifecycle", &[(34, baseline::probe_hosts)]),
    rule("privileged", &[(0, baseline::privileged)]),
    rule("procMount", &[(0, baseline::proc_mount), (35, baseline::proc_mount_1_35)]),
    rule("seLinuxOptions", &[(0, baseline::selinux), (31, baseline::selinux_1_31)]),
    rule("seccompProfile_baseline", &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)]),
    rule(
        "sysctls",
        &[
            (0, baseline::sysctls),
            (27, baseline::sysctls_1_27),
            (29, baseline::sysctls_1_29),
            (32, baseline::sysctls_1_32),
        ],
    ),
    rule("windowsHostProcess", &[(0, baseline::host_process)]),
];

static RESTRICTED: [Rule; 7] = [
    rule("allowPrivilegeEscalation", &[(8, restricted::escalation), (25, restricted::escalation_1_25)]),
    Rule {
        name: "capabilities_restricted",
        instead_of: Some("capabilities_baseline"),
        forms: &[(22, restricted::capabilities), (25, restricted::capabilities_1_25)],
    },
    Rule { name: "procMount_restricted", instead_of: Some("procMount"), forms: &[(35, baseline::proc_mount)] },
    Rule { name: "restrictedVolumes", instead_of: Some("hostPathVolumes"), forms: &[(0, restricted::volumes)] },
    rule("runAsNonRoot", &[(0, restricted::non_root), (35, restricted::non_root_1_35)]),
    rule("runAsUser", &[(23, restricted::user), (35, restricted::user_1_35)]),
    Rule {
        name: "seccompProfile_restricted",
        instead_of: Some("seccompProfile_baseline"),
        forms: &[(19, restricted::seccomp), (25, restricted::seccomp_1_25)],
    },
];

impl Rule {
    fn form(&self, minor: Minor) -> Option<Check> {
        self.forms.iter().rev().find(|(since, _)| *since <= minor).map(|(_, check)| *check)
    }
}

/// Why a standard forbids a pod.
pub(super) fn evaluate(standard: Standard, pod: Pod<'_>) -> Vec<Violation> {
    let minor = standard.minor;
    let strict: &[Rule] = if standard.level == Level::Restricted { &RESTRICTED } else { &[] };
    let base: &[Rule] = if standard.level == Level::Privileged { &[] } else { &BASELINE };
    let replaced = |name: &str| strict.iter().any(|rule| rule.instead_of == Some(name) && rule.form(minor).is_some());
    let rules = base.iter().filter(|rule| !replaced(rule.name)).chain(strict);
    rules.filter_map(|rule| rule.form(minor)?(pod)).collect()
}

/// With names: `hostPort (container "c" uses hostPort 80), privileged (…)`.
pub(super) fn detailed(violations: &[Violation]) -> String {
    let each = violations.iter().map(|violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Without.
pub(super) fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ")
}

impl<'a> Pod<'a> {
    /// All containers: those that run first, those that stay, and those that are added.
    pub(super) fn containers(self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |field| self.spec.list(&[field]))
    }

    /// The names of the containers for which something holds.
    pub(super) fn named(self, holds: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| holds(container)).map(|container| container.text(&["name"])).collect()
    }

    /// Whether users of the pod are others than those of its node.
    pub(super) fn has_own_users(self) -> bool {
        self.spec.flag(&["hostUsers"]) == Some(false)
    }

    pub(super) fn is_windows(self) -> bool {
        self.spec.text(&["os", "name"]) == "windows"
    }
}

/// A field of a security context, if it is set.
pub(super) fn secured<'a>(of: &'a Value, path: &[&str]) -> Option<&'a Value> {
    of.get("securityContext")?.at(path).filter(|value| !value.is_null())
}

/// `"a", "b"`.
pub(super) fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}

pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Who sets something: the pod, containers, or both.
pub(super) fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let all = pod.then(|| "pod".to_owned()).into_iter().chain((!names.is_empty()).then(|| containers(names)));
    let all: Vec<String> = all.collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

/// Each once, sorted.
pub(super) fn sorted<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "controls_tests.rs"]
mod controls_tests;
