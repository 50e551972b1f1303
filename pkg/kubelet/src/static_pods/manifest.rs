//! From the bytes of a file to the pod that shall run: pure, and the same bytes at the same place give the same pod.

use kedge_schema::decode::Format;
use kedge_schema::{Limits, decode_object, defaults, kind};
use serde_json::{Map, Value, json};

use super::validate::validate;
use crate::pod::{CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE, RawPod};

/// Upstream's limit of a file, in bytes.
pub(super) const MAX_BYTES: usize = 10 << 20;

/// What a manifest becomes a pod of.
pub(super) struct Place<'a> {
    pub(super) node: &'a str,
    /// The file, as the path that it was found at.
    pub(super) file: &'a str,
    /// When it was first seen, RFC 3339 with nanoseconds.
    pub(super) seen: &'a str,
}

/// Makes the pod.
///
/// # Errors
/// What is wrong with the manifest, as upstream says it.
pub(super) fn read(bytes: &[u8], place: &Place<'_>) -> Result<RawPod, String> {
    let unreadable = |error: &dyn std::fmt::Display| {
        format!("{}: couldn't parse as pod({error}), please check config file", place.file)
    };
    let limits = Limits { max_bytes: MAX_BYTES, ..Limits::default() };
    // JSON is YAML, too.
    let untyped = decode_object(Format::Yaml, bytes, None, &limits).map_err(|error| unreadable(&error))?.value;
    let text = |field: &str| untyped.get(field).and_then(Value::as_str).unwrap_or_default();
    for (field, name) in [("kind", "Kind"), ("apiVersion", "apiVersion")] {
        if text(field).is_empty() {
            return Err(unreadable(&format!("Object '{name}' is missing in '{}'", short(&untyped))));
        }
    }
    if (text("apiVersion"), text("kind")) != ("v1", "Pod") {
        let found = format!("no kind {:?} is registered for version {:?} of pods", text("kind"), text("apiVersion"));
        return Err(unreadable(&found));
    }
    let pod_type = kind("", "v1", "Pod");
    let mut pod = decode_object(Format::Yaml, bytes, pod_type, &limits).map_err(|error| unreadable(&error))?.value;
    if pod["metadata"]["name"].as_str().unwrap_or_default().is_empty() {
        return Err("invalid pod: name is needed for the pod".into());
    }
    defaults::apply("", "v1", "Pod", &mut pod);
    complete(&mut pod, place);
    let problems = validate(&pod);
    if !problems.is_empty() {
        return Err(format!("invalid pod: [{}]", problems.join(", ")));
    }
    if let Some(what) = reference(&pod["spec"]) {
        return Err(format!("static pods may not reference {what}"));
    }
    let raw: RawPod = serde_json::from_str(&pod.to_string()).map_err(|error| unreadable(&error))?;
    Ok(raw.into_static())
}

/// Enough of an object to recognize it.
fn short(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

/// Gives the pod what upstream gives it: an identity, its node, and that nothing drives it away.
fn complete(pod: &mut Value, place: &Place<'_>) {
    let metadata = pod["metadata"].clone();
    let name = metadata["name"].as_str().unwrap_or_default();
    let uid = match metadata["uid"].as_str().filter(|uid| !uid.is_empty()) {
        Some(own) => own.to_owned(),
        None => hash(&[pod.to_string().as_str(), "host:", place.node, "file:", place.file]),
    };
    if !pod["spec"].is_object() {
        pod["spec"] = json!({});
    }
    let namespace = metadata["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or("default").to_owned();
    let mut annotations = metadata["annotations"].as_object().cloned().unwrap_or_default();
    annotations.insert(CONFIG_HASH.into(), json!(uid));
    annotations.insert(CONFIG_SOURCE.into(), json!("file"));
    annotations.insert(CONFIG_SEEN.into(), json!(place.seen));
    pod["metadata"]["name"] = json!(format!("{name}-{}", place.node.to_lowercase()));
    pod["metadata"]["namespace"] = json!(namespace);
    pod["metadata"]["uid"] = json!(uid);
    pod["metadata"]["annotations"] = Value::Object(annotations);
    // What only the API gives is nothing that a file can say.
    for field in
        ["resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        pod["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
    }
    pod["spec"]["nodeName"] = json!(place.node);
    tolerate(&mut pod["spec"]);
    pod["status"] = json!({"phase": "Pending"});
}

/// Taints that drive other pods away leave this one: nobody would make it elsewhere.
fn tolerate(spec: &mut Value) {
    let mut list = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let all = json!({"operator": "Exists", "effect": "NoExecute"});
    if !list.contains(&all) {
        list.push(all);
    }
    spec["tolerations"] = Value::Array(list);
}

/// FNV-1a with 128 bits, as hexadecimal digits.
fn hash(parts: &[&str]) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|part| part.bytes());
    format!("{:032x}", bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
}

/// What of the API the pod needs, which may not be there: then it is none that runs without it.
fn reference(spec: &Value) -> Option<&'static str> {
    if spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    let is_set = |value: &Value| !value.is_null();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers: Vec<Value> = lists.iter().flat_map(|name| list(&spec[*name])).collect();
    let from = |container: &Value, whole: &str, key: &str| {
        list(&container["envFrom"]).iter().any(|source| is_set(&source[whole]))
            || list(&container["env"]).iter().any(|variable| is_set(&variable["valueFrom"][key]))
    };
    let pulls = !list(&spec["imagePullSecrets"]).is_empty();
    if pulls || containers.iter().any(|c| from(c, "secretRef", "secretKeyRef")) {
        return Some("secrets");
    }
    if containers.iter().any(|c| from(c, "configMapRef", "configMapKeyRef")) {
        return Some("configmaps");
    }
    if !list(&spec["resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    list(&spec["volumes"]).iter().find_map(|volume| volume.as_object().and_then(volume_reference))
}

fn volume_reference(volume: &Map<String, Value>) -> Option<&'static str> {
    let kinds = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    let has = |map: &Map<String, Value>, name: &str| map.get(name).is_some_and(|value| !value.is_null());
    if let Some((_, what)) = kinds.into_iter().find(|(name, _)| has(volume, name)) {
        return Some(what);
    }
    let parts = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let sources = volume.get("projected")?.get("sources")?.as_array()?;
    let of = |source: &Map<String, Value>| parts.into_iter().find(|(name, _)| has(source, name)).map(|(_, what)| what);
    sources.iter().filter_map(Value::as_object).find_map(of)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLACE: Place<'static> = Place { node: "N1", file: "/pods/a.yaml", seen: "then" };

    fn of(text: &str) -> Result<RawPod, String> {
        read(text.as_bytes(), &PLACE)
    }

    fn with(spec: &str) -> Result<RawPod, String> {
        of(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{{name: c, image: i}}], {spec}}}}}"
        ))
    }

    #[test]
    fn a_pod_is_completed_as_upstream_does() {
        let pod = with("tolerations: [{key: x}]").unwrap();
        assert_eq!((pod.metadata.name.as_str(), pod.metadata.namespace.as_str()), ("a-n1", "default"));
        let uid = &pod.metadata.uid;
        assert!(uid.len() == 32 && uid.bytes().all(|b| b.is_ascii_hexdigit()), "{uid}");
        let annotation = |key: &str| pod.metadata.annotations.get(key).map(str::to_owned);
        assert_eq!(annotation(CONFIG_HASH).as_ref(), Some(uid));
        assert_eq!((annotation(CONFIG_SOURCE), annotation(CONFIG_SEEN)), (Some("file".into()), Some("then".into())));
        let typed = pod.decode().unwrap();
        let spec = typed.spec.unwrap();
        assert_eq!((spec.node_name.as_deref(), spec.restart_policy.as_deref()), (Some("N1"), Some("Always")));
        let tolerations = spec.tolerations.unwrap();
        assert_eq!((tolerations.len(), tolerations[1].effect.as_deref()), (2, Some("NoExecute")));
        assert_eq!(spec.containers[0].termination_message_path.as_deref(), Some("/dev/termination-log"));
    }

    #[test]
    fn the_uid_tells_content_and_place_and_may_be_given() {
        let uid = |text: &str| of(text).unwrap().metadata.uid;
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
        let yaml = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n    image: i\n";
        assert_eq!(uid(json), uid(yaml));
        assert_ne!(uid(json), uid(&json.replace("\"i\"", "\"j\"")));
        assert_ne!(read(json.as_bytes(), &Place { file: "/b", ..PLACE }).unwrap().metadata.uid, uid(json));
        let given = json.replace("\"name\":\"a\"", "\"name\":\"a\",\"uid\":\"mine\"");
        let pod = of(&given).unwrap();
        assert_eq!((pod.metadata.uid.as_str(), pod.metadata.annotations.get(CONFIG_HASH)), ("mine", Some("mine")));
        assert_eq!(hash(&["a"]), "d228cb696f1a8caf78912b704e4a8964", "the published example of FNV-1a");
    }

    #[test]
    fn what_needs_the_api_is_refused() {
        for (spec, what) in [
            ("serviceAccountName: x", "serviceaccounts"),
            ("imagePullSecrets: [{name: s}]", "secrets"),
            ("initContainers: [{name: d, image: i, envFrom: [{configMapRef: {name: m}}]}]", "configmaps"),
            ("volumes: [{name: v, secret: {secretName: s}}]", "secrets (via secret volumes)"),
            ("volumes: [{name: v, persistentVolumeClaim: {claimName: s}}]", "persistentvolumeclaims"),
            (
                "volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]",
                "serviceaccounts (via projected volumes)",
            ),
        ] {
            assert_eq!(with(spec).map(|_| ()), Err(format!("static pods may not reference {what}")), "{spec}");
        }
        let fine =
            "volumes: [{name: v, hostPath: {path: /x}}, {name: w, projected: {sources: [{downwardAPI: {items: []}}]}}]";
        assert!(with(fine).is_ok());
    }

    #[test]
    fn mistakes_are_told_with_the_file() {
        for (text, told) in [
            ("{", "/pods/a.yaml: couldn't parse as pod("),
            ("{metadata: {name: a}}", "Object 'Kind' is missing in"),
            ("{apiVersion: v1, kind: Secret}", "no kind \"Secret\" is registered"),
            ("{apiVersion: v1, kind: Pod}", "invalid pod: name is needed for the pod"),
            ("{apiVersion: v1, kind: Pod, metadata: {name: a}}", "invalid pod: [spec.containers: Required value]"),
            ("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: 1}", "couldn't parse as pod("),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
