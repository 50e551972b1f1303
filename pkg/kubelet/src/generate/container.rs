//! The CRI configuration of a container.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use kedge_cri::v1;

use super::expansion::expand;
use super::limits::{Machine, container_resources};
use super::security::container_context;
pub(crate) use super::security::{ImageUser, verify_run_as_non_root};
use crate::logs;
use crate::runtime::labels;

/// What is decided elsewhere.
pub(crate) struct ContainerParts<'a> {
    pub(crate) restart_count: i32,
    /// The reference by which the runtime knows the image.
    pub(crate) image_ref: String,
    pub(crate) image_user: ImageUser,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<v1::Mount>,
    pub(crate) devices: Vec<v1::Device>,
    /// The container whose processes an ephemeral container shares.
    pub(crate) target: Option<String>,
    pub(crate) machine: &'a Machine,
    pub(crate) seccomp_root: &'a str,
}

/// The configuration.
///
/// # Errors
/// The message for the container's waiting state.
pub(crate) fn container_config(
    pod: &Pod,
    container: &Container,
    parts: ContainerParts<'_>,
) -> Result<v1::ContainerConfig, String> {
    let variables: HashMap<&str, &str> =
        parts.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let lookup = |name: &str| variables.get(name).map(ToString::to_string);
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, &lookup).0).collect()
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let target = parts.target.as_deref();
    let security = container_context(pod, container, &parts.image_user, target, parts.seccomp_root)?;
    let envs =
        parts.env.iter().map(|(name, value)| v1::KeyValue { key: name.clone(), value: value.clone().into_bytes() });
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: container.name.clone(),
            attempt: u32::try_from(parts.restart_count).unwrap_or_default(),
        }),
        image: Some(v1::ImageSpec {
            image: parts.image_ref,
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: envs.collect(),
        mounts: parts.mounts,
        devices: parts.devices,
        labels: labels::container_labels(pod, container),
        annotations: labels::container_annotations(pod, container, parts.restart_count),
        log_path: logs::relative_log_path(&container.name, parts.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(container_resources(pod, container, parts.machine)),
            security_context: Some(security),
        }),
        stop_signal: stop_signal(container),
        ..Default::default()
    })
}

fn stop_signal(container: &Container) -> i32 {
    let name = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    let name = name.map(|n| n.replace('+', "PLUS").replace('-', "MINUS"));
    name.and_then(|n| v1::Signal::from_str_name(&n)).unwrap_or(v1::Signal::RuntimeDefault) as i32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::PodExt;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn commands_are_expanded_and_the_attempt_is_kept() {
        let pod = pod(json!({"containers": [
            {"name": "a", "image": "i", "command": ["$(A)"], "args": ["$(B)", "$$(A)"]}]}));
        let parts = ContainerParts {
            restart_count: 3,
            image_ref: "sha256:1".into(),
            image_user: ImageUser::default(),
            env: vec![("A".into(), "1".into())],
            mounts: Vec::new(),
            devices: Vec::new(),
            target: None,
            machine: &Machine::default(),
            seccomp_root: "",
        };
        let config = container_config(&pod, &PodExt::spec(&pod).containers[0], parts).unwrap();
        assert_eq!(config.command, ["1"]);
        assert_eq!(config.args, ["$(B)", "$(A)"]);
        assert_eq!(config.log_path, "a/3.log");
        assert_eq!(config.annotations[labels::RESTART_COUNT], "3");
        assert_eq!(config.labels[labels::POD_UID], "u");
    }
}
