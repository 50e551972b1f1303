//! Volumes of pods.

use super::Hook::{self, Before};
use super::object::{Object, child, if_absent, is_empty, text};
use super::pod::pull_policy;
use serde_json::json;

/// 0644, the mode of projected files.
const MODE: i32 = 0o644;

pub(super) const HOOKS: &[Hook] = &[
    Before("api.core.v1.Volume", volume),
    Before("api.core.v1.SecretVolumeSource", mode),
    Before("api.core.v1.ConfigMapVolumeSource", mode),
    Before("api.core.v1.DownwardAPIVolumeSource", mode),
    Before("api.core.v1.ProjectedVolumeSource", mode),
    Before("api.core.v1.ServiceAccountTokenProjection", |token| if_absent(token, "expirationSeconds", 3600)),
    Before("api.core.v1.HostPathVolumeSource", |path| if_absent(path, "type", "")),
];

fn volume(volume: &mut Object) {
    if !volume.iter().any(|(key, value)| key != "name" && !value.is_null()) {
        volume.insert("emptyDir".into(), json!({}));
    }
    if let Some(image) = child(volume, "image")
        && is_empty(image, "pullPolicy")
    {
        let policy = pull_policy(text(image, "reference"));
        image.insert("pullPolicy".into(), policy.into());
    }
}

fn mode(source: &mut Object) {
    if_absent(source, "defaultMode", MODE);
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::json;

    #[test]
    fn sources_are_completed() {
        let mut pod = json!({"spec": {"volumes": [{"name": "a"}, {"name": "b", "secret": {}},
            {"name": "c", "hostPath": {"path": "/"}}, {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {"name": "e", "iscsi": {}}, {"name": "f", "azureDisk": {}},
            {"name": "g", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]}});
        apply("", "v1", "Pod", &mut pod);
        assert_eq!(
            pod["spec"]["volumes"],
            json!([{"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"defaultMode": 420}},
                {"name": "c", "hostPath": {"path": "/", "type": ""}},
                {"name": "d", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}},
                {"name": "e", "iscsi": {"iscsiInterface": "default"}},
                {"name": "f", "azureDisk": {"cachingMode": "ReadWrite", "fsType": "ext4", "kind": "Shared", "readOnly": false}},
                {"name": "g", "ephemeral": {"volumeClaimTemplate": {"spec": {"volumeMode": "Filesystem"}}}}])
        );
    }
}
