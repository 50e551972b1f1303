//! What the plan makes of single objects.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn volume(spec: Value, annotations: Value, finalizers: &[&str]) -> Volume {
    let metadata = json!({"name": "v", "annotations": annotations, "finalizers": finalizers});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

#[test]
fn finalizers_guard_what_plugins_of_the_tree_have_made() {
    let (in_tree, external) = (FINALIZER, EXTERNAL_FINALIZER);
    let wanted = |by: Option<&str>, policy: &str, has: &[&str]| {
        let annotations = by.map_or(json!({}), |by| json!({ PROVISIONED_BY: by }));
        finalizers(&volume(json!({"persistentVolumeReclaimPolicy": policy}), annotations, has))
    };
    let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(wanted(None, "Delete", &["x"]), None);
    assert_eq!(wanted(Some("rancher.io/local-path"), "Delete", &[external]), None);
    assert_eq!(wanted(Some("kubernetes.io/x"), "Delete", &["x"]), list(&["x", in_tree]));
    assert_eq!(wanted(Some("kubernetes.io/x"), "Delete", &[in_tree]), None);
    assert_eq!(wanted(Some("kubernetes.io/x"), "Delete", &[external, in_tree]), list(&[in_tree]));
    assert_eq!(wanted(Some("kubernetes.io/x"), "Retain", &[in_tree, "x"]), list(&["x"]));
    assert_eq!(wanted(Some("kubernetes.io/gce-pd"), "Delete", &[in_tree, external]), list(&[external]));
    assert_eq!(wanted(Some("kubernetes.io/gce-pd"), "Delete", &[external]), None);
}

#[test]
fn what_a_driver_has_taken_over_is_said() {
    let driver = "pd.csi.storage.gke.io";
    assert_eq!(migration(None, Some("x")), None);
    assert_eq!(migration(Some("kubernetes.io/gce-pd"), None), Some(Some(driver)));
    assert_eq!(migration(Some("kubernetes.io/gce-pd"), Some(driver)), None);
    assert_eq!(migration(Some("rancher.io/local-path"), Some("x")), Some(None));
    assert_eq!(migration(Some("rancher.io/local-path"), None), None);
}

#[test]
fn the_newest_default_counts_and_of_one_second_the_first_by_name() {
    let class = |name: &str, created: &str, default: &str| -> Arc<StorageClass> {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": default});
        let metadata = json!({"name": name, "creationTimestamp": created, "annotations": annotations});
        Arc::new(serde_json::from_value(json!({ "metadata": metadata })).unwrap())
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
    let all = [class("a", old, "true"), class("c", new, "true"), class("b", new, "true"), class("d", new, "false")];
    assert_eq!(default_class(&all).unwrap().metadata.name, "b");
    assert!(default_class(&all[3..]).is_none());
}

#[test]
fn a_volume_is_released_when_its_claim_is_gone_or_elsewhere() {
    let bound = volume(json!({"claimRef": {"namespace": "n", "name": "c", "uid": "u"}}), json!({}), &[]);
    let claim = |uid: &str, volume: &str| -> Claim {
        let metadata = json!({"namespace": "n", "name": "c", "uid": uid});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"volumeName": volume}})).unwrap()
    };
    for (claim, released) in [
        (None, true),
        (Some(("u", "v")), false),
        (Some(("u", "")), false),
        (Some(("u", "w")), true),
        (Some(("x", "v")), true),
    ]
    .map(|(of, released)| (of.map(|(uid, volume)| claim(uid, volume)), released))
    {
        assert_eq!(is_released(&bound, claim.as_ref()), released, "{claim:?}");
    }
    let reserved = volume(json!({"claimRef": {"namespace": "n", "name": "c"}}), json!({}), &[]);
    assert!(!is_released(&reserved, None) && !is_released(&volume(json!({}), json!({}), &[]), None));
}
