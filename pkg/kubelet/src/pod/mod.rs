//! Reading a Pod: accessors that give Kubernetes' defaults for absent fields, and nothing that changes it.

mod qos;
mod raw;
mod resources;

use std::sync::OnceLock;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSecurityContext, PodSpec, PodStatus, Volume};
use kedge_meta::ObjectReference;

pub(crate) use qos::qos_class;
pub(crate) use raw::RawPod;
pub(crate) use resources::{Amount, amount, limit_of, pod_limits, pod_requests, request_of, resource_list};

/// The annotation that tells where a pod's manifest came from.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Which manifest it is: the uid of a static pod.
pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// When it was first seen.
pub(crate) const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// On the image in the API of a static pod: the uid of that.
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// Accessors with defaults.
pub(crate) trait PodExt {
    fn uid(&self) -> &str;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn spec(&self) -> &PodSpec;
    fn status(&self) -> &PodStatus;
    /// `name_namespace(uid)`, the form of log lines, statuses and events.
    fn display(&self) -> String;
    fn is_deleting(&self) -> bool;
    fn host_network(&self) -> bool;
    fn is_static(&self) -> bool;
    fn restart_policy(&self) -> &str;
    fn init_containers(&self) -> &[Container];
    fn ephemeral_containers(&self) -> &[EphemeralContainer];
    fn volumes(&self) -> &[Volume];
    fn security_context(&self) -> &PodSecurityContext;
    fn annotation(&self, key: &str) -> Option<&str>;
    /// The container of that name, of any of the three lists.
    fn container(&self, name: &str) -> Option<Container>;
    /// Whether a container of any list has that name.
    fn has_container(&self, name: &str) -> bool;
    fn reference(&self) -> ObjectReference;
    /// A reference to one container of the pod, for events.
    fn container_reference(&self, container: &str) -> ObjectReference;
    fn is_terminal(&self) -> bool;
}

fn empty_spec() -> &'static PodSpec {
    static EMPTY: OnceLock<PodSpec> = OnceLock::new();
    EMPTY.get_or_init(PodSpec::default)
}

fn empty_status() -> &'static PodStatus {
    static EMPTY: OnceLock<PodStatus> = OnceLock::new();
    EMPTY.get_or_init(PodStatus::default)
}

fn empty_security() -> &'static PodSecurityContext {
    static EMPTY: OnceLock<PodSecurityContext> = OnceLock::new();
    EMPTY.get_or_init(PodSecurityContext::default)
}

impl PodExt for Pod {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn spec(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or_else(|| empty_spec())
    }

    fn status(&self) -> &PodStatus {
        self.status.as_ref().unwrap_or_else(|| empty_status())
    }

    fn display(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn host_network(&self) -> bool {
        PodExt::spec(self).host_network.unwrap_or(false)
    }

    fn is_static(&self) -> bool {
        self.annotation(CONFIG_SOURCE).is_some_and(|source| source != "api")
    }

    fn restart_policy(&self) -> &str {
        PodExt::spec(self).restart_policy.as_deref().unwrap_or("Always")
    }

    fn init_containers(&self) -> &[Container] {
        PodExt::spec(self).init_containers.as_deref().unwrap_or_default()
    }

    fn ephemeral_containers(&self) -> &[EphemeralContainer] {
        PodExt::spec(self).ephemeral_containers.as_deref().unwrap_or_default()
    }

    fn volumes(&self) -> &[Volume] {
        PodExt::spec(self).volumes.as_deref().unwrap_or_default()
    }

    fn security_context(&self) -> &PodSecurityContext {
        PodExt::spec(self).security_context.as_ref().unwrap_or_else(|| empty_security())
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn container(&self, name: &str) -> Option<Container> {
        let regular = PodExt::spec(self).containers.iter().chain(self.init_containers());
        regular
            .into_iter()
            .find(|c| c.name == name)
            .cloned()
            .or_else(|| self.ephemeral_containers().iter().find(|c| c.name == name).map(ephemeral_as_container))
    }

    fn has_container(&self, name: &str) -> bool {
        PodExt::spec(self).containers.iter().any(|c| c.name == name)
            || self.init_containers().iter().any(|c| c.name == name)
            || self.ephemeral_containers().iter().any(|c| c.name == name)
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: self.namespace().into(),
            name: self.name().into(),
            uid: self.uid().into(),
            resource_version: self.metadata.resource_version.clone().unwrap_or_default(),
            field_path: String::new(),
        }
    }

    fn container_reference(&self, container: &str) -> ObjectReference {
        let list = if PodExt::spec(self).containers.iter().any(|c| c.name == container) {
            "containers"
        } else if self.init_containers().iter().any(|c| c.name == container) {
            "initContainers"
        } else {
            "ephemeralContainers"
        };
        let field_path = format!("spec.{list}{{{container}}}");
        ObjectReference { field_path, ..self.reference() }
    }

    fn is_terminal(&self) -> bool {
        matches!(PodExt::status(self).phase.as_deref(), Some("Succeeded" | "Failed"))
    }
}

/// Whether this is an init container that keeps running (a sidecar).
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The fields that an ephemeral container shares with any other.
pub(crate) fn ephemeral_as_container(e: &EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        lifecycle: e.lifecycle.clone(),
        liveness_probe: e.liveness_probe.clone(),
        name: e.name.clone(),
        ports: e.ports.clone(),
        readiness_probe: e.readiness_probe.clone(),
        resize_policy: e.resize_policy.clone(),
        resources: e.resources.clone(),
        restart_policy: e.restart_policy.clone(),
        restart_policy_rules: e.restart_policy_rules.clone(),
        security_context: e.security_context.clone(),
        startup_probe: e.startup_probe.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Pods for tests, written as JSON.
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    /// A pod with uid `u`, named `p` in namespace `ns`.
    pub(crate) fn pod(spec: Value) -> Pod {
        pod_with(json!({}), spec, json!({}))
    }

    /// As [`pod`], with more metadata and a status.
    pub(crate) fn pod_with(metadata: Value, spec: Value, status: Value) -> Pod {
        let mut meta = json!({"name": "p", "namespace": "ns", "uid": "u", "generation": 1});
        for (key, value) in metadata.as_object().unwrap() {
            meta[key] = value.clone();
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status});
        kedge_types::decode_pod(pod.to_string().as_bytes()).unwrap()
    }
}
