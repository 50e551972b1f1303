//! The security context of sandboxes and containers.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, SELinuxOptions, SeccompProfile, SecurityContext};
use kedge_cri::v1;
use kedge_cri::v1::NamespaceMode;
use kedge_cri::v1::security_profile::ProfileType;

use crate::pod::PodExt;

const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MASKED_MORE: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The user an image wants to run as: a number, or a name that only the image knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageUser {
    pub(crate) uid: Option<i64>,
    pub(crate) name: String,
}

/// What the pod and the container say together; the container's word counts.
struct Effective<'a> {
    pod: &'a Pod,
    own: SecurityContext,
}

impl<'a> Effective<'a> {
    fn new(pod: &'a Pod, container: &Container) -> Effective<'a> {
        let mut own = container.security_context.clone().unwrap_or_default();
        let of_pod = pod.security_context();
        own.run_as_user = own.run_as_user.or(of_pod.run_as_user);
        own.run_as_group = own.run_as_group.or(of_pod.run_as_group);
        own.run_as_non_root = own.run_as_non_root.or(of_pod.run_as_non_root);
        own.se_linux_options = own.se_linux_options.or_else(|| of_pod.se_linux_options.clone());
        own.seccomp_profile = own.seccomp_profile.or_else(|| of_pod.seccomp_profile.clone());
        own.app_armor_profile = own.app_armor_profile.or_else(|| of_pod.app_armor_profile.clone());
        Effective { pod, own }
    }
}

fn value(value: Option<i64>) -> Option<v1::Int64Value> {
    value.map(|value| v1::Int64Value { value })
}

/// Which namespaces are shared with what. `target` is the container whose processes an ephemeral one shares.
pub(super) fn namespaces(pod: &Pod, target: Option<&str>) -> v1::NamespaceOption {
    let spec = PodExt::spec(pod);
    let mode = |host: Option<bool>, otherwise: NamespaceMode| {
        if host == Some(true) { NamespaceMode::Node } else { otherwise }
    };
    let shared = spec.share_process_namespace == Some(true);
    let own = if shared { NamespaceMode::Pod } else { NamespaceMode::Container };
    let mut pid = mode(spec.host_pid, own);
    if target.is_some() && pid == NamespaceMode::Container {
        pid = NamespaceMode::Target;
    }
    v1::NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod) as i32,
        ipc: mode(spec.host_ipc, NamespaceMode::Pod) as i32,
        pid: pid as i32,
        target_id: target.filter(|_| pid == NamespaceMode::Target).unwrap_or_default().to_string(),
        userns_options: None,
    }
}

/// What of the node confines a container. Who asked for a profile without naming one has asked to be confined, so that it is not for this
/// node to run it without.
///
/// # Errors
/// Upstream's words for a profile that is not named.
fn seccomp(profile: Option<&SeccompProfile>, root: &str) -> Result<v1::SecurityProfile, String> {
    let (kind, path) = match profile.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let file = profile.and_then(|p| p.localhost_profile.as_deref()).filter(|file| !file.is_empty());
            let file = file.ok_or("localhostProfile must be set if seccompProfile type is Localhost.")?;
            (ProfileType::Localhost, format!("{root}/{file}"))
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    Ok(v1::SecurityProfile { profile_type: kind as i32, localhost_ref: path })
}

/// The same for AppArmor, and the profile as runtimes had it before.
///
/// # Errors
/// Upstream's words for a profile that is not named, or of a type that nobody knows.
fn apparmor(profile: &AppArmorProfile) -> Result<(v1::SecurityProfile, String), String> {
    let (kind, path, old) = match profile.type_.as_str() {
        "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new(), "runtime/default".to_string()),
        "Localhost" => {
            let file = profile.localhost_profile.clone().filter(|file| !file.is_empty());
            let file = file.ok_or("missing localhost apparmor profile name")?;
            (ProfileType::Localhost, file.clone(), format!("localhost/{file}"))
        }
        "Unconfined" => (ProfileType::Unconfined, String::new(), "unconfined".to_string()),
        other => return Err(format!("unknown apparmor profile type: {other:?}")),
    };
    Ok((v1::SecurityProfile { profile_type: kind as i32, localhost_ref: path }, old))
}

fn selinux(options: &SELinuxOptions) -> v1::SeLinuxOption {
    v1::SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    }
}

fn groups(pod: &Pod) -> Vec<i64> {
    let context = pod.security_context();
    let own = context.supplemental_groups.iter().flatten().copied();
    context.fs_group.into_iter().chain(own).collect()
}

fn groups_policy(pod: &Pod) -> i32 {
    match pod.security_context().supplemental_groups_policy.as_deref() {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict as i32,
        _ => v1::SupplementalGroupsPolicy::Merge as i32,
    }
}

/// Of the sandbox.
pub(super) fn sandbox_context(pod: &Pod) -> v1::LinuxSandboxSecurityContext {
    let context = pod.security_context();
    let mut containers = PodExt::spec(pod).containers.iter().chain(pod.init_containers());
    let privileged = containers.any(|c| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None)),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        run_as_user: value(context.run_as_user),
        run_as_group: value(context.run_as_group),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        privileged,
        // The sandbox's own process needs nothing that the runtime's profile forbids.
        seccomp: Some(v1::SecurityProfile {
            profile_type: ProfileType::RuntimeDefault as i32,
            localhost_ref: String::new(),
        }),
        ..Default::default()
    }
}

/// Of a container. `seccomp_root` is the directory of profiles on the node.
///
/// # Errors
/// The message for the container's waiting state.
#[allow(deprecated, reason = "containerd before 2.0 only reads the old AppArmor field")]
pub(super) fn container_context(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    target: Option<&str>,
    seccomp_root: &str,
) -> Result<v1::LinuxContainerSecurityContext, String> {
    let effective = Effective::new(pod, container);
    let own = &effective.own;
    let privileged = own.privileged == Some(true);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked") || privileged;
    let paths = |list: Vec<&str>| {
        if unmasked { Vec::new() } else { list.into_iter().map(str::to_string).collect() }
    };
    let from_image = own.run_as_user.is_none();
    let armor = own.app_armor_profile.as_ref().map(apparmor).transpose()?;
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|c| v1::Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespaces(effective.pod, target)),
        selinux_options: own.se_linux_options.as_ref().map(selinux),
        run_as_user: value(own.run_as_user.or(image.uid)),
        run_as_group: value(own.run_as_group),
        run_as_username: if from_image { image.name.clone() } else { String::new() },
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(effective.pod),
        supplemental_groups_policy: groups_policy(effective.pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(MASKED.iter().chain(&MASKED_MORE).copied().collect()),
        readonly_paths: paths(READ_ONLY.to_vec()),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref(), seccomp_root)?),
        apparmor_profile: armor.as_ref().map(|a| a.1.clone()).unwrap_or_default(),
        apparmor: armor.map(|a| a.0),
        ..Default::default()
    })
}

/// Refuses a container that must not run as root and would, or might.
///
/// # Errors
/// The message for the container's waiting state.
pub(crate) fn verify_run_as_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let own = Effective::new(pod, container).own;
    if own.run_as_non_root != Some(true) {
        return Ok(());
    }
    let place = format!("(pod: {:?}, container: {})", pod.display(), container.name);
    match (own.run_as_user, image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {place}")),
        (None, None) if !image.name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {place}",
            image.name
        )),
        (None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    /// CVE-2023-2431: a profile of the node that is not named was once none at all.
    #[test]
    fn who_asks_to_be_confined_never_runs_unconfined() {
        let of = |kind: &str, of_pod: serde_json::Value, own: serde_json::Value| {
            let pod = pod(json!({"securityContext": {kind: of_pod},
                "containers": [{"name": "a", "securityContext": {kind: own}}]}));
            let container = &PodExt::spec(&pod).containers[0];
            container_context(&pod, container, &ImageUser::default(), None, "/s")
        };
        let seccomp = |of_pod, own| of("seccompProfile", of_pod, own).map(|context| context.seccomp.unwrap());
        let armor = |own| of("appArmorProfile", json!(null), own).map(|context| context.apparmor.unwrap());
        let (none, default) = (json!(null), json!({"type": "RuntimeDefault"}));
        for unnamed in [json!({"type": "Localhost"}), json!({"type": "Localhost", "localhostProfile": ""})] {
            let refused = "localhostProfile must be set if seccompProfile type is Localhost.";
            assert_eq!(seccomp(default.clone(), unnamed.clone()).unwrap_err(), refused);
            assert_eq!(seccomp(unnamed.clone(), none.clone()).unwrap_err(), refused);
            assert_eq!(armor(unnamed).unwrap_err(), "missing localhost apparmor profile name");
        }
        assert!(armor(json!({"type": "localhost"})).is_err());
        let named = seccomp(default.clone(), json!({"type": "Localhost", "localhostProfile": "a/b.json"})).unwrap();
        assert_eq!((named.profile_type, named.localhost_ref.as_str()), (ProfileType::Localhost as i32, "/s/a/b.json"));
        assert_eq!(seccomp(default, none).unwrap().profile_type, ProfileType::RuntimeDefault as i32);
    }

    #[test]
    fn the_containers_word_counts() {
        let pod = pod(json!({"securityContext": {"runAsUser": 1, "fsGroup": 5, "supplementalGroups": [6]},
            "containers": [{"name": "a", "securityContext": {"runAsUser": 2, "allowPrivilegeEscalation": false}},
                           {"name": "b", "securityContext": {"privileged": true}}]}));
        let of = |index: usize| {
            let container = &PodExt::spec(&pod).containers[index];
            container_context(&pod, container, &ImageUser::default(), None, "/s").unwrap()
        };
        let a = of(0);
        assert_eq!(a.run_as_user.map(|u| u.value), Some(2));
        assert_eq!(a.supplemental_groups, [5, 6]);
        assert!(a.no_new_privs && !a.masked_paths.is_empty());
        let b = of(1);
        assert_eq!(b.run_as_user.map(|u| u.value), Some(1));
        assert!(b.privileged && b.masked_paths.is_empty());
        assert!(sandbox_context(&pod).privileged);
    }

    #[test]
    fn root_is_refused() {
        let pod = pod(json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a"}]}));
        let container = &PodExt::spec(&pod).containers[0];
        let with = |uid, name: &str| verify_run_as_non_root(&pod, container, &ImageUser { uid, name: name.into() });
        assert_eq!(
            with(Some(0), ""),
            Err("container has runAsNonRoot and image will run as root (pod: \"p_ns(u)\", container: a)".into())
        );
        assert!(with(Some(5), "").is_ok() && with(None, "www").is_err());
    }

    #[test]
    fn namespaces_follow_the_pod() {
        let shared = pod(json!({"containers": [], "shareProcessNamespace": true, "hostNetwork": true}));
        let options = namespaces(&shared, None);
        assert_eq!((options.pid, options.network), (NamespaceMode::Pod as i32, NamespaceMode::Node as i32));
        let plain = pod(json!({"containers": []}));
        let options = namespaces(&plain, Some("id"));
        assert_eq!((options.pid, options.target_id.as_str()), (NamespaceMode::Target as i32, "id"));
    }
}
