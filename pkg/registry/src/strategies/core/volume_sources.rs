//! Where the data of a persistent volume is: on a node, or with one of many kinds of storage.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names::{is_dns1123_label, is_dns1123_subdomain};

use super::super::validation::files::no_backsteps;
use super::super::validation::volume::csi_driver;
use super::super::validation::{At, Report};

const MAX_PARTITION: i64 = 255;
const MAX_PORTAL: usize = 64;
const MAX_TENANT: usize = 64;
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// All kinds in the order in which upstream looks at them, with what must be said of them.
const SOURCES: [(&str, &[&str]); 22] = [
    ("hostPath", &[]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &[]),
    ("cephfs", &["monitors"]),
    ("iscsi", &[]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &[]),
    ("storageos", &[]),
    ("csi", &[]),
];

/// A volume has one source; `name` is its own.
pub(super) fn sources(spec: &At<'_>, name: &str, errors: &mut ErrorList) {
    let mut count = 0;
    for (field, needed) in SOURCES {
        // Upstream calls two of them by other names in errors.
        let (many, one) = match field {
            "gcePersistentDisk" => (field, "persistentDisk"),
            "cephfs" => ("cephFS", field),
            _ => (field, field),
        };
        let at = At { path: spec.path.child(one), ..spec.child(field) };
        if !at.is_set() {
            continue;
        }
        if count > 0 && field != "flexVolume" {
            let path = spec.path.child(many);
            errors.push(Error::forbidden(&path, "may not specify more than 1 volume type"));
            continue;
        }
        count += 1;
        for text in needed.iter().map(|needed| at.child(needed)) {
            if text.text().is_empty() && text.len() == 0 {
                errors.push(text.required(""));
            }
        }
        one_source(field, &at, name, errors);
        if field == "local" && !spec.child("nodeAffinity").is_set() {
            errors.push(spec.child("nodeAffinity").required("Local volume requires node affinity"));
        }
    }
    if count == 0 {
        errors.push(spec.required("must specify a volume type"));
    }
}

fn one_source(field: &str, at: &At<'_>, name: &str, errors: &mut ErrorList) {
    let child = |name: &str| at.child(name);
    match field {
        "hostPath" | "local" => on_node(at, errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => partition(&child("partition"), errors),
        "glusterfs" => {
            let namespace = child("endpointsNamespace");
            match namespace.value.as_str() {
                Some("") => {
                    let why = "if the endpointnamespace is set, it must be a valid namespace name";
                    errors.push(namespace.invalid(why));
                }
                Some(text) => errors.complaints(&namespace, is_dns1123_label(text)),
                None => {}
            }
        }
        "flocker" => flocker(at, errors),
        "nfs" if !child("path").text().starts_with('/') => {
            errors.push(Error::invalid(&child("path").path, child("path").text(), "must be an absolute path"));
        }
        "quobyte" => quobyte(at, errors),
        "iscsi" => iscsi(at, name, errors),
        "cinder" => reference(&child("secretRef"), errors),
        "fc" => fibre_channel(at, errors),
        "flexVolume" => options(&child("options"), errors),
        "azureFile" if child("secretNamespace").is_set() => {
            errors.need_text(&child("secretNamespace"));
        }
        "azureDisk" => azure_disk(at, errors),
        "storageos" => {
            errors.need_name(&child("volumeName"), is_dns1123_label);
            errors.name(&child("volumeNamespace"), is_dns1123_label);
            reference(&child("secretRef"), errors);
        }
        "csi" => csi(at, errors),
        _ => {}
    }
}

fn on_node(at: &At<'_>, errors: &mut ErrorList) {
    if errors.need_text(&at.child("path")) {
        no_backsteps(&at.child("path"), errors);
        errors.one_of(&at.child("type"), &HOST_PATH_TYPES);
    }
}

fn partition(at: &At<'_>, errors: &mut ErrorList) {
    // None is 0, which upstream lets through.
    if at.int().is_some_and(|number| !(0..=MAX_PARTITION).contains(&number)) {
        errors.push(at.invalid("must be between 1 and 255, inclusive"));
    }
}

/// A secret by both of its names.
fn reference(at: &At<'_>, errors: &mut ErrorList) {
    if at.is_set() {
        errors.need_text(&at.child("name"));
        errors.need_text(&at.child("namespace"));
    }
}

fn flocker(at: &At<'_>, errors: &mut ErrorList) {
    let (name, id) = (at.child("datasetName"), at.child("datasetUUID"));
    match (name.text().is_empty(), id.text().is_empty()) {
        (true, true) => errors.push(at.required("one of datasetName and datasetUUID is required")),
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(Error::invalid(&at.path, "resource", why));
        }
        _ => {}
    }
    if name.text().contains('/') {
        errors.push(name.invalid("must not contain '/'"));
    }
}

fn quobyte(at: &At<'_>, errors: &mut ErrorList) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = at.child("registry");
    if registry.text().is_empty() {
        errors.push(registry.required(PAIRS));
    } else if at.child("tenant").text().len() > MAX_TENANT {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(at.child("tenant").required(why));
    } else {
        let wrong = registry.text().split(',').filter(|pair| !is_host_and_port(pair)).count();
        errors.extend((0..wrong).map(|_| registry.invalid(PAIRS)));
    }
    errors.need_text(&at.child("volume"));
}

/// Whether a text splits into a host, which may be in brackets, and a port; either may be empty.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host = match host.strip_prefix('[') {
        Some(inner) => match inner.strip_suffix(']') {
            Some(inner) => inner,
            None => return false,
        },
        None if host.contains(':') => return false,
        None => host,
    };
    ![host, port].iter().any(|part| part.contains(['[', ']']))
}

fn iscsi(at: &At<'_>, name: &str, errors: &mut ErrorList) {
    const FORM: &str = "must be valid format";
    let (portal, iqn, lun, secret) =
        (at.child("targetPortal"), at.child("iqn"), at.child("lun"), at.child("secretRef"));
    let initiator = at.child("initiatorName");
    errors.need_text(&portal);
    if initiator.is_set() && name.len() + 1 + portal.text().len() > MAX_PORTAL {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(Error::invalid(&at.path.child("targetportal"), portal.text(), why));
    }
    if errors.need_text(&iqn) && !is_initiator(iqn.text()) {
        errors.push(iqn.invalid(FORM));
    }
    if lun.int().is_some_and(|number| !(0..=MAX_PARTITION).contains(&number)) {
        errors.push(lun.invalid("must be between 0 and 255, inclusive"));
    }
    let authenticates = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|field| at.child(field).is_true());
    if authenticates && !secret.is_set() {
        errors.push(secret.required(""));
    }
    if secret.is_set() {
        errors.need_text(&secret.child("name"));
    }
    if initiator.is_set() && !is_initiator(initiator.text()) {
        errors.push(Error::invalid(&at.path.child("initiatorname"), initiator.text(), FORM));
    }
}

/// `iqn.2001-04.com.example:storage`, `eui.` and 16, `naa.` and 32 letters and digits.
fn is_initiator(text: &str) -> bool {
    let Some((kind, rest)) = text.split_at_checked(3) else { return false };
    let mut chars = rest.chars();
    let separator = chars.next();
    let rest = chars.as_str();
    let word =
        |length: usize| separator.is_some() && rest.len() == length && rest.bytes().all(|b| b.is_ascii_alphanumeric());
    match kind {
        "eui" => word(16),
        "naa" => word(32),
        "iqn" if separator == Some('.') => {
            let Some((authority, own)) = rest.split_once(':') else { return false };
            let Some((date, domain)) = authority.split_once('.') else { return false };
            let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
            let dated = date.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2));
            let named =
                !domain.is_empty() && domain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
            let plain = |c: char| !matches!(c, ',' | ';' | '*' | '&' | '$' | '|') && !c.is_ascii_whitespace();
            dated && named && !own.is_empty() && own.chars().all(plain)
        }
        _ => false,
    }
}

fn fibre_channel(at: &At<'_>, errors: &mut ErrorList) {
    let (names, ids, lun) = (at.child("targetWWNs"), at.child("wwids"), at.child("lun"));
    match (names.len() > 0, ids.len() > 0) {
        (false, false) => errors.push(names.required("must specify either targetWWNs or wwids, but not both")),
        (true, true) => errors.push(names.invalid("targetWWNs and wwids can not be specified simultaneously")),
        _ => {}
    }
    match lun.int() {
        _ if names.len() == 0 => {}
        None => errors.push(lun.required("lun is required if targetWWNs is specified")),
        Some(number) if !(0..=MAX_PARTITION).contains(&number) => {
            errors.push(lun.invalid("must be between 0 and 255, inclusive"));
        }
        Some(_) => {}
    }
}

/// Options of a driver's own, none of which is ours.
fn options(at: &At<'_>, errors: &mut ErrorList) {
    for (name, option) in at.entries() {
        let domain = name.split_once('/').map_or(name, |(domain, _)| domain);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(&option.path, name, why));
        }
    }
}

fn azure_disk(at: &At<'_>, errors: &mut ErrorList) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let (kind, uri) = (at.child("kind"), at.child("diskURI"));
    errors.one_of(&at.child("cachingMode"), &["None", "ReadOnly", "ReadWrite"]);
    errors.one_of(&kind, &["Dedicated", "Managed", "Shared"]);
    let (begins, form) = match kind.text() {
        "Managed" => ("/subscriptions/", MANAGED),
        _ => ("https://", BLOB),
    };
    if kind.is_set() && !uri.text().starts_with(begins) {
        errors.push(Error::not_supported_of(&uri.path, uri.text(), &[form]));
    }
}

fn csi(at: &At<'_>, errors: &mut ErrorList) {
    csi_driver(&at.child("driver"), errors);
    errors.need_text(&at.child("volumeHandle"));
    for field in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let secret = at.child(field);
        if secret.is_set() {
            errors.need_name(&secret.child("name"), is_dns1123_subdomain);
            errors.need_name(&secret.child("namespace"), is_dns1123_label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(spec: Value) -> Vec<String> {
        let (object, mut errors) = (json!({ "s": spec }), ErrorList::new());
        sources(&At::field(&object, "s"), "v", &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_source_counts() {
        assert_eq!(said(json!({})), ["s: Required value: must specify a volume type"]);
        assert_eq!(said(json!({"cephfs": {}, "hostPath": {"path": "/x", "type": "Odd"}, "csi": {}})).len(), 3);
        assert_eq!(
            said(json!({"gcePersistentDisk": {"partition": 256}, "cephfs": {}})),
            [
                "s.persistentDisk.pdName: Required value",
                "s.persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
                "s.cephFS: Forbidden: may not specify more than 1 volume type",
            ]
        );
        assert_eq!(
            said(json!({"local": {"path": "/x"}})),
            ["s.nodeAffinity: Required value: Local volume requires node affinity"]
        );
    }

    #[test]
    fn each_source_says_what_it_needs() {
        for (source, wrong) in [
            (
                json!({"nfs": {"server": "s", "path": "x"}}),
                "s.nfs.path: Invalid value: \"x\": must be an absolute path",
            ),
            (json!({"glusterfs": {"endpoints": "e"}}), "s.glusterfs.path: Required value"),
            (json!({"flocker": {}}), "s.flocker: Required value: one of datasetName and datasetUUID is required"),
            (json!({"rbd": {"monitors": ["m"]}}), "s.rbd.image: Required value"),
            (json!({"cephfs": {}}), "s.cephfs.monitors: Required value"),
            (
                json!({"cinder": {"volumeID": "v", "secretRef": {"name": "n"}}}),
                "s.cinder.secretRef.namespace: Required value",
            ),
            (
                json!({"quobyte": {"registry": "h", "volume": "v"}}),
                "s.quobyte.registry: Invalid value: \"h\": must be a host:port pair or multiple pairs separated by commas",
            ),
            (
                json!({"fc": {"targetWWNs": ["a"]}}),
                "s.fc.lun: Required value: lun is required if targetWWNs is specified",
            ),
            (
                json!({"flexVolume": {"driver": "d", "options": {"A.K8s.io/b": "c"}}}),
                "s.flexVolume.options[A.K8s.io/b]: Invalid value: \"A.K8s.io/b\": kubernetes.io and k8s.io namespaces are reserved",
            ),
            (
                json!({"azureFile": {"secretName": "a", "shareName": "b", "secretNamespace": ""}}),
                "s.azureFile.secretNamespace: Required value",
            ),
            (
                json!({"azureDisk": {"diskName": "a", "diskURI": "b", "kind": "Shared"}}),
                "s.azureDisk.diskURI: Unsupported value: \"b\": supported values: \"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd\"",
            ),
            (json!({"storageos": {}}), "s.storageos.volumeName: Required value"),
            (
                json!({"csi": {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "n"}}}),
                "s.csi.nodePublishSecretRef.namespace: Required value",
            ),
        ] {
            assert_eq!(said(source), [wrong]);
        }
    }

    #[test]
    fn targets_have_names() {
        for good in
            ["iqn.2001-04.com.example:storage.disk1", "eui.0123456789abcdef", "naa.0123456789abcdef0123456789abcdef"]
        {
            assert!(is_initiator(good), "{good}");
        }
        for bad in [
            "",
            "iq",
            "iqn",
            "iqn.2001-04.com.example",
            "iqn.2001-4.a:b",
            "iqn.2001-04.a:b c",
            "eui.0",
            "nab.1",
            "iqné",
        ] {
            assert!(!is_initiator(bad), "{bad}");
        }
        assert_eq!(
            said(
                json!({"iscsi": {"targetPortal": "p".repeat(63), "iqn": "x", "lun": 256, "chapAuthSession": true, "initiatorName": "y"}})
            ),
            [
                format!(
                    "s.iscsi.targetportal: Invalid value: {:?}: Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters \
                     if iscsi.initiatorName is specified.",
                    "p".repeat(63)
                ),
                "s.iscsi.iqn: Invalid value: \"x\": must be valid format".into(),
                "s.iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive".into(),
                "s.iscsi.secretRef: Required value".into(),
                "s.iscsi.initiatorname: Invalid value: \"y\": must be valid format".into(),
            ]
        );
        for (text, fits) in
            [("h:1", true), ("[::1]:1", true), (":", true), ("a:b:1", false), ("[a:1", false), ("h", false)]
        {
            assert_eq!(is_host_and_port(text), fits, "{text}");
        }
    }
}
