//! Pods that mix what the standards look at, made up from a seed: the same seed makes the same pods.

use serde_json::{Map, Value, json};

/// What pods and containers may have in common, as merge patches of their security contexts.
const CONTEXTS: [&str; 19] = [
    r#"{"runAsNonRoot":true}"#,
    r#"{"runAsNonRoot":false}"#,
    r#"{"runAsUser":0}"#,
    r#"{"runAsUser":1000}"#,
    r#"{"seccompProfile":{"type":"RuntimeDefault"}}"#,
    r#"{"seccompProfile":{"type":"Localhost","localhostProfile":"a"}}"#,
    r#"{"seccompProfile":{"type":"Unconfined"}}"#,
    r#"{"seccompProfile":null}"#,
    r#"{"appArmorProfile":{"type":"RuntimeDefault"}}"#,
    r#"{"appArmorProfile":{"type":"Unconfined"}}"#,
    r#"{"seLinuxOptions":{}}"#,
    r#"{"seLinuxOptions":{"type":"container_t"}}"#,
    r#"{"seLinuxOptions":{"type":"container_engine_t"}}"#,
    r#"{"seLinuxOptions":{"type":"spc_t"}}"#,
    r#"{"seLinuxOptions":{"type":"other_t","level":"s0"}}"#,
    r#"{"seLinuxOptions":{"user":"u"}}"#,
    r#"{"seLinuxOptions":{"role":"r","type":"container_init_t"}}"#,
    r#"{"runAsGroup":0}"#,
    r#"{"windowsOptions":{"hostProcess":false}}"#,
];
/// What only pods have, as merge patches of their specification.
const OF_PODS: [&str; 18] = [
    r#"{"hostNetwork":true}"#,
    r#"{"hostPID":true}"#,
    r#"{"hostIPC":true}"#,
    r#"{"hostPID":false,"hostIPC":false}"#,
    r#"{"hostUsers":false}"#,
    r#"{"hostUsers":true}"#,
    r#"{"os":{"name":"linux"}}"#,
    r#"{"securityContext":{"sysctls":[{"name":"kernel.shm_rmid_forced","value":"1"}]}}"#,
    r#"{"securityContext":{"sysctls":[{"name":"net.ipv4.ip_local_reserved_ports","value":"1"}]}}"#,
    r#"{"securityContext":{"sysctls":[{"name":"net.ipv4.tcp_keepalive_time","value":"1"},{"name":"kernel.sem","value":"1"}]}}"#,
    r#"{"securityContext":{"sysctls":[{"name":"net.ipv4.tcp_rmem","value":"1"}]}}"#,
    r#"{"securityContext":{"sysctls":[{"name":"net.ipv4.ip_unprivileged_port_start","value":"1"}]}}"#,
    r#"{"securityContext":{"sysctls":[{"name":"net/core/somaxconn","value":"1"}]}}"#,
    r#"{"securityContext":{"windowsOptions":{"hostProcess":true}},"hostNetwork":true}"#,
    r#"{"securityContext":{"fsGroup":0,"supplementalGroups":[0]}}"#,
    r#"{"hostNetwork":true,"hostPID":true}"#,
    r#"{"securityContext":{"procMount":null}}"#,
    r#"{"shareProcessNamespace":true}"#,
];
/// What only containers have, as merge patches.
const OF_CONTAINERS: [&str; 22] = [
    r#"{"securityContext":{"privileged":true,"allowPrivilegeEscalation":null}}"#,
    r#"{"securityContext":{"privileged":false}}"#,
    r#"{"securityContext":{"allowPrivilegeEscalation":false}}"#,
    r#"{"securityContext":{"allowPrivilegeEscalation":true}}"#,
    r#"{"securityContext":{"capabilities":{"add":["CHOWN"]}}}"#,
    r#"{"securityContext":{"capabilities":{"add":["NET_ADMIN","BPF"]}}}"#,
    r#"{"securityContext":{"capabilities":{"add":["NET_BIND_SERVICE","NET_RAW"]}}}"#,
    r#"{"securityContext":{"capabilities":{"add":["NET_BIND_SERVICE"]}}}"#,
    r#"{"securityContext":{"capabilities":{"drop":["ALL"]}}}"#,
    r#"{"securityContext":{"capabilities":{"drop":["CHOWN"]}}}"#,
    r#"{"securityContext":{"capabilities":null}}"#,
    r#"{"securityContext":{"procMount":"Default"}}"#,
    r#"{"securityContext":{"procMount":"Unmasked"}}"#,
    r#"{"ports":[{"containerPort":80}]}"#,
    r#"{"ports":[{"containerPort":80,"hostPort":80}]}"#,
    r#"{"ports":[{"containerPort":9,"hostPort":9},{"containerPort":10,"hostPort":10}]}"#,
    r#"{"livenessProbe":{"httpGet":{"port":1,"host":"probed"}}}"#,
    r#"{"readinessProbe":{"tcpSocket":{"port":1,"host":"127.0.0.1"}}}"#,
    r#"{"livenessProbe":{"httpGet":{"port":1}}}"#,
    r#"{"lifecycle":{"postStart":{"httpGet":{"port":1,"host":"started"}}}}"#,
    r#"{"lifecycle":{"preStop":{"tcpSocket":{"port":1,"host":"stopped"}}}}"#,
    r#"{"securityContext":null}"#,
];
const VOLUMES: [&str; 20] = [
    r#"{"hostPath":{"path":"/"}}"#,
    r#"{"hostPath":{"path":"/var"}}"#,
    r#"{"emptyDir":{}}"#,
    r#"{"secret":{"secretName":"s"}}"#,
    r#"{"configMap":{"name":"c"}}"#,
    r#"{"downwardAPI":{"items":[]}}"#,
    r#"{"projected":{"sources":[]}}"#,
    r#"{"persistentVolumeClaim":{"claimName":"c"}}"#,
    r#"{"csi":{"driver":"d"}}"#,
    r#"{"ephemeral":{"volumeClaimTemplate":{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1"}}}}}}"#,
    r#"{"image":{"reference":"i"}}"#,
    r#"{"nfs":{"server":"s","path":"/"}}"#,
    r#"{"iscsi":{"targetPortal":"1.2.3.4","iqn":"iqn.2001-04.com.example:a","lun":0}}"#,
    r#"{"rbd":{"monitors":["m"],"image":"i"}}"#,
    r#"{"cephfs":{"monitors":["m"]}}"#,
    r#"{"glusterfs":{"endpoints":"e","path":"p"}}"#,
    r#"{"gitRepo":{"repository":"r"}}"#,
    r#"{"flexVolume":{"driver":"a/b"}}"#,
    r#"{"fc":{"targetWWNs":["w"],"lun":0}}"#,
    r#"{"azureFile":{"secretName":"s","shareName":"s"}}"#,
];
const ANNOTATIONS: [(&str, &str); 7] = [
    ("seccomp.security.alpha.kubernetes.io/pod", "unconfined"),
    ("seccomp.security.alpha.kubernetes.io/pod", "runtime/default"),
    ("container.seccomp.security.alpha.kubernetes.io/c0", "localhost/a"),
    ("container.seccomp.security.alpha.kubernetes.io/i0", "unconfined"),
    ("container.apparmor.security.beta.kubernetes.io/c0", "unconfined"),
    ("container.apparmor.security.beta.kubernetes.io/c0", "runtime/default"),
    ("container.apparmor.security.beta.kubernetes.io/c1", "localhost/a"),
];
/// What the restricted standard wants of a container.
const GOOD: &str = r#"{"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"runAsNonRoot":true,
    "seccompProfile":{"type":"RuntimeDefault"}}}"#;

/// Numbers that look random (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below a bound.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or_default()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// The next pod.
///
/// # Errors
/// When a patch of the lists is no JSON.
pub fn pod(numbers: &mut Numbers) -> anyhow::Result<Value> {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {}});
    if numbers.one_in(12) {
        pod["spec"]["os"] = json!({"name": "windows"});
    }
    for _ in 0..numbers.below(4) {
        let patch = numbers.one(&OF_PODS);
        merge(&mut pod["spec"], &serde_json::from_str(patch)?);
    }
    for _ in 0..numbers.below(3) {
        let patch: Value = serde_json::from_str(numbers.one(&CONTEXTS))?;
        merge(&mut pod["spec"], &json!({"securityContext": patch}));
    }
    let good = !numbers.one_in(3);
    for (field, letter, most) in [("containers", 'c', 2), ("initContainers", 'i', 1)] {
        let count = if letter == 'c' { 1 + numbers.below(most) } else { numbers.below(most + 1) };
        let mut containers = Vec::new();
        for at in 0..count {
            containers.push(container(numbers, &format!("{letter}{at}"), good)?);
        }
        pod["spec"][field] = containers.into();
    }
    let mut volumes = Vec::new();
    for at in 0..numbers.below(3) {
        let mut volume: Value = serde_json::from_str(numbers.one(&VOLUMES))?;
        volume["name"] = format!("v{at}").into();
        volumes.push(volume);
    }
    pod["spec"]["volumes"] = volumes.into();
    if numbers.one_in(4) {
        let (key, value) = numbers.one(&ANNOTATIONS);
        pod["metadata"]["annotations"] = json!({ key: value });
        app_armor(&mut pod["spec"], key, value);
    }
    Ok(pod)
}

/// Servers write what an annotation says of AppArmor into the field before they look at it; here it is there from the beginning.
fn app_armor(spec: &mut Value, key: &str, value: &str) {
    let Some(name) = key.strip_prefix("container.apparmor.security.beta.kubernetes.io/") else { return };
    let profile = match value.strip_prefix("localhost/") {
        Some(local) => json!({"type": "Localhost", "localhostProfile": local}),
        None if value == "unconfined" => json!({"type": "Unconfined"}),
        None => json!({"type": "RuntimeDefault"}),
    };
    // Where the pod has the same profile, nothing is written.
    if spec["securityContext"]["appArmorProfile"] == profile {
        return;
    }
    let containers = spec["containers"].as_array_mut().into_iter().flatten();
    for container in containers.filter(|container| container["name"] == name) {
        if container["securityContext"]["appArmorProfile"].is_null() {
            merge(container, &json!({"securityContext": {"appArmorProfile": profile}}));
        }
    }
}

fn container(numbers: &mut Numbers, name: &str, good: bool) -> anyhow::Result<Value> {
    let mut container = json!({"name": name, "image": "i"});
    if good {
        merge(&mut container, &serde_json::from_str(GOOD)?);
    }
    for _ in 0..numbers.below(3) {
        merge(&mut container, &serde_json::from_str(numbers.one(&OF_CONTAINERS))?);
    }
    if numbers.one_in(3) {
        let patch: Value = serde_json::from_str(numbers.one(&CONTEXTS))?;
        merge(&mut container, &json!({"securityContext": patch}));
    }
    Ok(container)
}

/// As RFC 7396 says.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Map::new().into();
    }
    for (field, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|target| target.remove(field));
        } else {
            merge(&mut target[field], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_pods_and_they_differ() -> anyhow::Result<()> {
        let made = |seed| {
            let mut numbers = Numbers(seed);
            (0..50).map(|_| pod(&mut numbers)).collect::<anyhow::Result<Vec<_>>>()
        };
        let pods = made(1)?;
        assert_eq!(pods, made(1)?);
        assert_ne!(pods, made(2)?);
        assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["name"] == "c0"));
        Ok(())
    }
}
