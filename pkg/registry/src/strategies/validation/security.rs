//! Security contexts of pods and containers.

use kedge_meta::field::{Error, ErrorList};

use super::files::descending;
use super::{At, Report, scalar};

const MAX_SYSCTL: usize = 253;

/// The security context of a container.
pub(crate) fn container(at: &At<'_>, host_users: bool, errors: &mut ErrorList) {
    if !at.is_set() {
        return;
    }
    scalar::id(&at.child("runAsUser"), errors);
    scalar::id(&at.child("runAsGroup"), errors);
    let proc_mount = at.child("procMount");
    errors.one_of(&proc_mount, &["Default", "Unmasked"]);
    if host_users && proc_mount.text() == "Unmasked" {
        errors.push(proc_mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(&at.child("seccompProfile"), errors);
    if at.child("allowPrivilegeEscalation").flag() == Some(false) {
        if at.child("privileged").is_true() {
            errors.push(at.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
        }
        if at.child("capabilities").child("add").items().any(|cap| cap.text() == "CAP_SYS_ADMIN") {
            let rule = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(at.invalid(rule));
        }
    }
    app_armor(&at.child("appArmorProfile"), errors);
}

/// The security context of a pod.
pub(crate) fn pod(spec: &At<'_>, errors: &mut ErrorList) {
    let at = spec.child("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        scalar::id(&at.child(field), errors);
    }
    at.child("supplementalGroups").items().for_each(|group| scalar::id(&group, errors));
    let shared = spec.child("shareProcessNamespace");
    if shared.is_true() && spec.child("hostPID").is_true() {
        // Upstream names the field as if it were the context's own.
        let path = at.path.child("shareProcessNamespace");
        errors.push(Error::invalid(&path, true, "ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    sysctls(&at.child("sysctls"), spec, errors);
    errors.one_of(&at.child("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    seccomp(&at.child("seccompProfile"), errors);
    app_armor(&at.child("appArmorProfile"), errors);
    errors.one_of(&at.child("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    errors.one_of(&at.child("seLinuxChangePolicy"), &["MountOption", "Recursive"]);
}

fn sysctls(at: &At<'_>, spec: &At<'_>, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for sysctl in at.items() {
        let name = sysctl.child("name");
        if errors.need_text(&name) {
            if !is_sysctl(name.text()) {
                errors.push(name.invalid(format!(
                    "must have at most {MAX_SYSCTL} characters and match regex \
                     ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
                )));
            } else if seen.contains(&name.text()) {
                errors.push(name.duplicate());
            }
        }
        let dotted = name.text().replace('/', ".");
        if spec.child("hostNetwork").is_true() && dotted.starts_with("net.") {
            errors.push(name.invalid("may not be specified when 'hostNetwork' is true"));
        }
        let ipc =
            dotted.starts_with("kernel.shm") || dotted.starts_with("kernel.msg") || dotted.starts_with("fs.mqueue.");
        if spec.child("hostIPC").is_true() && (ipc || dotted == "kernel.sem") {
            errors.push(name.invalid("may not be specified when 'hostIPC' is true"));
        }
        seen.push(name.text());
    }
}

fn is_sysctl(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= MAX_SYSCTL
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if plain(*first) && plain(*last))
                && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
        })
}

fn seccomp(at: &At<'_>, errors: &mut ErrorList) {
    if !at.is_set() {
        return;
    }
    let (kind, local) = (at.child("type"), at.child("localhostProfile"));
    if errors.need_text(&kind) {
        errors.one_of(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    if kind.text() == "Localhost" {
        if local.is_set() {
            descending(&local, errors);
        } else {
            errors.push(local.required("must be set when seccomp type is Localhost"));
        }
    } else if local.is_set() {
        errors.push(local.invalid("can only be set when seccomp type is Localhost"));
    }
}

fn app_armor(at: &At<'_>, errors: &mut ErrorList) {
    if !at.is_set() {
        return;
    }
    let (kind, local) = (at.child("type"), at.child("localhostProfile"));
    match kind.text() {
        "Localhost" if local.text().trim().is_empty() => {
            errors.push(local.required("must be set when AppArmor type is Localhost"));
        }
        "Localhost" if local.text().trim() != local.text() => {
            errors.push(local.invalid("must not be padded with whitespace"));
        }
        "Localhost" => {}
        "RuntimeDefault" | "Unconfined" if local.is_set() => {
            errors.push(local.invalid("can only be set when AppArmor type is Localhost"));
        }
        "RuntimeDefault" | "Unconfined" => {}
        "" => errors.push(kind.required("type is required when appArmorProfile is set")),
        _ => errors.push(kind.not_supported(&["Localhost", "RuntimeDefault", "Unconfined"])),
    }
}
