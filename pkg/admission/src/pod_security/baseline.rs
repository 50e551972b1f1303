//! The baseline standard: no known ways out of a container.

use kedge_registry::value::ValueExt as _;
use serde_json::Value;

use super::checks::{Pod, Violation, containers, plural, quoted, secured, setters, sorted};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// In the order in which versions allowed them: up to 1.26, 1.28, 1.31, and now.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The same, with those of 1.31 last.
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

fn texts(values: Option<&Value>) -> impl Iterator<Item = &str> {
    values.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

pub(super) fn app_armor(pod: Pod<'_>) -> Option<Violation> {
    fn bad(of: &Value) -> Option<&str> {
        let kind = secured(of, &["appArmorProfile"])?.text(&["type"]);
        (!matches!(kind, "RuntimeDefault" | "Localhost")).then_some(kind)
    }
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let named = pod.named(|container| bad(container).is_some());
    let of_pod = bad(pod.spec);
    let mut values: Vec<String> =
        sorted(of_pod.into_iter().chain(pod.containers().filter_map(bad))).into_iter().map(str::to_owned).collect();
    let annotations = pod.annotations.into_iter().flatten().filter_map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        let fine = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        (key.starts_with(PREFIX) && !fine).then(|| format!("{key}={value:?}"))
    });
    let annotations = sorted(annotations);
    let mut who: Vec<String> = setters(of_pod.is_some(), &named).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    values.extend(annotations);
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let detail = format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&values));
    (!who.is_empty()).then(|| Violation::new(reason, detail))
}

pub(super) fn capabilities(pod: Pod<'_>) -> Option<Violation> {
    fn bad(container: &Value) -> impl Iterator<Item = &str> {
        texts(secured(container, &["capabilities", "add"])).filter(|name| !CAPABILITIES.contains(name))
    }
    let named = pod.named(|container| bad(container).next().is_some());
    let added = sorted(pod.containers().flat_map(bad));
    let detail =
        format!("{} must not include {} in securityContext.capabilities.add", containers(&named), quoted(&added));
    (!named.is_empty()).then(|| Violation::new("non-default capabilities", detail))
}

pub(super) fn host_namespaces(pod: Pod<'_>) -> Option<Violation> {
    let shared =
        ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec.flag(&[field]) == Some(true));
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    (!shared.is_empty()).then(|| Violation::new("host namespaces", shared.join(", ")))
}

pub(super) fn host_paths(pod: Pod<'_>) -> Option<Violation> {
    let volumes = pod.spec.list(&["volumes"]).iter().filter(|v| v.get("hostPath").is_some_and(|path| !path.is_null()));
    let names: Vec<&str> = volumes.map(|volume| volume.text(&["name"])).collect();
    let detail = format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names));
    (!names.is_empty()).then(|| Violation::new("hostPath volumes", detail))
}

pub(super) fn host_ports(pod: Pod<'_>) -> Option<Violation> {
    fn bad(container: &Value) -> impl Iterator<Item = String> {
        let ports = container.list(&["ports"]).iter().filter_map(|port| port.int(&["hostPort"]));
        ports.filter(|port| *port != 0).map(|port| port.to_string())
    }
    let named = pod.named(|container| bad(container).next().is_some());
    // As texts, so that 10 comes before 9.
    let ports = sorted(pod.containers().flat_map(bad));
    let detail = format!(
        "{} {} {} {}",
        containers(&named),
        plural("uses", "use", named.len()),
        plural("hostPort", "hostPorts", ports.len()),
        ports.join(", ")
    );
    (!named.is_empty()).then(|| Violation::new("hostPort", detail))
}

pub(super) fn probe_hosts(pod: Pod<'_>) -> Option<Violation> {
    fn bad(container: &Value) -> impl Iterator<Item = &str> {
        let handlers: [&[&str]; 5] = [
            &["livenessProbe"],
            &["readinessProbe"],
            &["startupProbe"],
            &["lifecycle", "postStart"],
            &["lifecycle", "preStop"],
        ];
        let handlers = handlers.into_iter().filter_map(|path| container.at(path));
        let hosts = handlers.flat_map(|handler| ["httpGet", "tcpSocket"].map(|how| handler.text(&[how, "host"])));
        hosts.filter(|host| !host.is_empty())
    }
    let named = sorted(pod.named(|container| bad(container).next().is_some()));
    let hosts = sorted(pod.containers().flat_map(bad));
    let detail = format!(
        "{} {} {} {}",
        containers(&named),
        plural("uses", "use", named.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(&hosts)
    );
    (!named.is_empty()).then(|| Violation::new("probe or lifecycle host", detail))
}

pub(super) fn privileged(pod: Pod<'_>) -> Option<Violation> {
    let named = pod.named(|container| secured(container, &["privileged"]) == Some(&Value::Bool(true)));
    let detail = format!("{} must not set securityContext.privileged=true", containers(&named));
    (!named.is_empty()).then(|| Violation::new("privileged", detail))
}

pub(super) fn proc_mount(pod: Pod<'_>) -> Option<Violation> {
    fn bad(container: &Value) -> Option<&str> {
        secured(container, &["procMount"]).and_then(Value::as_str).filter(|mount| *mount != "Default")
    }
    let named = pod.named(|container| bad(container).is_some());
    let mounts = sorted(pod.containers().filter_map(bad));
    let detail = format!("{} must not set securityContext.procMount to {}", containers(&named), quoted(&mounts));
    (!named.is_empty()).then(|| Violation::new("procMount", detail))
}

pub(super) fn proc_mount_1_35(pod: Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { proc_mount(pod) }
}

pub(super) fn selinux(pod: Pod<'_>) -> Option<Violation> {
    selinux_with(pod, &SELINUX_TYPES[..4])
}

pub(super) fn selinux_1_31(pod: Pod<'_>) -> Option<Violation> {
    selinux_with(pod, &SELINUX_TYPES)
}

fn selinux_with(pod: Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    fn options(of: &Value) -> Option<&Value> {
        secured(of, &["seLinuxOptions"])
    }
    let all = || std::iter::once(pod.spec).chain(pod.containers()).filter_map(options);
    let bad_type = |options: &Value| !allowed.contains(&options.text(&["type"]));
    let has = |options: &Value, field: &str| !options.text(&[field]).is_empty();
    let bad = |of: &Value| options(of).is_some_and(|o| bad_type(o) || has(o, "user") || has(o, "role"));
    let who = setters(bad(pod.spec), &pod.named(bad))?;
    let types = sorted(all().filter(|options| bad_type(options)).map(|options| options.text(&["type"])));
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    for field in ["user", "role"] {
        if all().any(|options| has(options, field)) {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    Some(Violation::new("seLinuxOptions", detail))
}

/// What seccomp profiles were before they were fields.
pub(super) fn seccomp_annotations(pod: Pod<'_>) -> Option<Violation> {
    let fine = |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let of_containers = pod
        .containers()
        .map(|container| format!("container.seccomp.security.alpha.kubernetes.io/{}", container.text(&["name"])));
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned()).chain(of_containers);
    let forbidden = sorted(keys.filter_map(|key| {
        let value = pod.annotations?.get(&key)?.as_str()?;
        (!fine(value)).then(|| format!("{key}={value:?}"))
    }));
    let what = plural("annotation", "annotations", forbidden.len());
    (!forbidden.is_empty())
        .then(|| Violation::new("seccompProfile", format!("forbidden {what} {}", forbidden.join(", "))))
}

/// A seccomp profile that is none of the allowed ones, if one is set.
pub(super) fn bad_seccomp(of: &Value) -> Option<&str> {
    let kind = secured(of, &["seccompProfile"])?.text(&["type"]);
    (!matches!(kind, "RuntimeDefault" | "Localhost")).then_some(kind)
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    let of_pod = bad_seccomp(pod.spec);
    let who = setters(of_pod.is_some(), &pod.named(|container| bad_seccomp(container).is_some()))?;
    let values = sorted(of_pod.into_iter().chain(pod.containers().filter_map(bad_seccomp)));
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&values));
    Some(Violation::new("seccompProfile", detail))
}

fn sysctls_with(pod: Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let all = pod.spec.list(&["securityContext", "sysctls"]).iter().map(|sysctl| sysctl.text(&["name"]));
    let forbidden: Vec<&str> = all.filter(|name| !allowed.contains(name)).collect();
    (!forbidden.is_empty()).then(|| Violation::new("forbidden sysctls", forbidden.join(", ")))
}

pub(super) fn sysctls(pod: Pod<'_>) -> Option<Violation> {
    sysctls_with(pod, &SYSCTLS[..5])
}

pub(super) fn sysctls_1_27(pod: Pod<'_>) -> Option<Violation> {
    sysctls_with(pod, &SYSCTLS[..6])
}

pub(super) fn sysctls_1_29(pod: Pod<'_>) -> Option<Violation> {
    sysctls_with(pod, &SYSCTLS[..10])
}

pub(super) fn sysctls_1_32(pod: Pod<'_>) -> Option<Violation> {
    sysctls_with(pod, &SYSCTLS)
}

pub(super) fn host_process(pod: Pod<'_>) -> Option<Violation> {
    let bad = |of: &Value| secured(of, &["windowsOptions", "hostProcess"]) == Some(&Value::Bool(true));
    let who = setters(bad(pod.spec), &pod.named(bad))?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Violation::new("hostProcess", detail))
}
