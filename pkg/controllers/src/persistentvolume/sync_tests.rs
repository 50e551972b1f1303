//! Whole passes against an API in memory, one table of states before and after. The cases are those that upstream tests its binder by,
//! told in our words.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::testing::{NAMESPACE, World, claim_of, object_of, volume_of};
use crate::objects::Pod;

/// What is there, what is looked at, what there is then (claims first), and how what is said begins.
type Case = (&'static [&'static str], &'static str, &'static [&'static str], &'static [&'static str]);

async fn hold(cases: &[Case]) {
    for (before, what, after, said) in cases {
        let objects: Vec<Value> = before.iter().map(|line| object_of(line)).collect();
        let world = World::new(&objects, &[], Vec::new(), None);
        world.sync(what).await.unwrap();
        assert_eq!(world.lines(), *after, "{what} of {before:?}");
        let heard = world.said.lock().clone();
        let as_said = heard.len() == said.len() && heard.iter().zip(*said).all(|(heard, said)| heard.starts_with(said));
        assert!(as_said, "{what} of {before:?}: {heard:?}");
        // What has been done is not done again, whoever does it.
        let writes = world.api.writes.lock().len();
        world.sync(what).await.unwrap();
        assert_eq!(world.lines(), *after, "{what} of {before:?} again");
        assert_eq!(world.api.writes.lock().len(), writes, "{what} of {before:?} again");
    }
}

const NONE: &str = "FailedBinding: no persistent volumes available for this claim and no storage class is set";

#[tokio::test]
async fn claims_that_take_any_volume() {
    hold(&[
        (
            &["c:u 1Gi Pending", "v 1Gi Available"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=1Gi by-controller bound", "v 1Gi Bound claim=c:u by-controller"],
            &[],
        ),
        (&["c:u 10Gi Pending", "v 1Gi Available"], "claim c", &["c:u 10Gi Pending", "v 1Gi Available"], &[NONE]),
        (&["c:u 10Gi Bound has=1Gi"], "claim c", &["c:u 10Gi Pending"], &[NONE]),
        (
            &["c:u 1Gi Pending", "v 10Gi Available", "w 1Gi Available"],
            "claim c",
            &[
                "c:u 1Gi Bound volume=w has=1Gi by-controller bound",
                "v 10Gi Available",
                "w 1Gi Bound claim=c:u by-controller",
            ],
            &[],
        ),
        // Reserved, by name or also by uid.
        (
            &["c:u 1Gi Pending", "v 10Gi Available claim=c", "w 1Gi Available"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=10Gi by-controller bound", "v 10Gi Bound claim=c:u", "w 1Gi Available"],
            &[],
        ),
        (
            &["c:u 1Gi Pending", "v 10Gi Available claim=c:u", "w 1Gi Available"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=10Gi by-controller bound", "v 10Gi Bound claim=c:u", "w 1Gi Available"],
            &[],
        ),
        (
            &["c:u 1Gi Pending", "v 10Gi Available claim=c:other"],
            "claim c",
            &["c:u 1Gi Pending", "v 10Gi Available claim=c:other"],
            &[NONE],
        ),
        // Selectors, phases, classes and modes.
        (
            &["c:u 1Gi Pending label=a", "v 1Gi Available", "w 2Gi Available label=a"],
            "claim c",
            &[
                "c:u 1Gi Bound volume=w has=2Gi by-controller bound",
                "v 1Gi Available",
                "w 2Gi Bound claim=c:u by-controller",
            ],
            &[],
        ),
        (
            &["c:u 1Gi Pending", "v 1Gi Pending", "w 1Gi Failed", "x 1Gi Released"],
            "claim c",
            &["c:u 1Gi Pending", "v 1Gi Pending", "w 1Gi Failed", "x 1Gi Released"],
            &[NONE],
        ),
        (
            &["c:u 1Gi Pending class=made", "v 1Gi Available", "w 10Gi Available class=made"],
            "claim c",
            &[
                "c:u 1Gi Bound volume=w class=made has=10Gi by-controller bound",
                "v 1Gi Available",
                "w 10Gi Bound claim=c:u by-controller",
            ],
            &[],
        ),
        (
            &["c:u 1Gi Pending class=-", "v 1Gi Available class=made", "w 10Gi Available"],
            "claim c",
            &[
                "c:u 1Gi Bound volume=w class=- has=10Gi by-controller bound",
                "v 1Gi Available",
                "w 10Gi Bound claim=c:u by-controller",
            ],
            &[],
        ),
        (
            &["c:u 1Gi Pending mode=Block", "v 1Gi Available", "w 5Gi Available mode=Block"],
            "claim c",
            &[
                "c:u 1Gi Bound volume=w has=5Gi by-controller bound",
                "v 1Gi Available",
                "w 5Gi Bound claim=c:u by-controller",
            ],
            &[],
        ),
        (
            &["c:u 1Gi Pending", "v 1Gi Available claim=c mode=Block"],
            "claim c",
            &["c:u 1Gi Pending", "v 1Gi Available claim=c"],
            &[NONE],
        ),
        (
            &["c:u 1Gi Pending attributes=gold", "v 1Gi Available", "w 2Gi Available attributes=gold"],
            "claim c",
            &[
                "c:u 1Gi Bound volume=w has=2Gi has-attributes=gold by-controller bound",
                "v 1Gi Available",
                "w 2Gi Bound claim=c:u by-controller",
            ],
            &[],
        ),
    ])
    .await;
}

#[tokio::test]
async fn claims_that_wait_or_have_a_volume_made() {
    const WAITING: &str = "WaitForFirstConsumer: waiting for first consumer to be created before binding";
    const ASKED: &str = "ExternalProvisioning: Waiting for a volume to be created either by the external provisioner \
                         'example.com/x' or manually by the system administrator. If volume creation is delayed, please \
                         verify that the provisioner is running and correctly registered.";
    hold(&[
        (
            &["c:u 1Gi Pending class=wait", "v 1Gi Available class=wait"],
            "claim c",
            &["c:u 1Gi Pending class=wait", "v 1Gi Available"],
            &[WAITING],
        ),
        (
            &["c:u 1Gi Pending class=wait", "v 1Gi Available class=wait claim=c"],
            "claim c",
            &["c:u 1Gi Bound volume=v class=wait has=1Gi by-controller bound", "v 1Gi Bound claim=c:u"],
            &[],
        ),
        (
            &["c:u 1Gi Pending class=wait selected=node", "v 1Gi Available class=wait claim=c:u"],
            "claim c",
            &["c:u 1Gi Bound volume=v class=wait has=1Gi by-controller bound", "v 1Gi Bound claim=c:u"],
            &[],
        ),
        (
            &["c:u 1Gi Pending class=wait selected=node", "v 1Gi Available class=wait"],
            "claim c",
            &["c:u 1Gi Pending class=wait provisioner=example.com/x", "v 1Gi Available"],
            &[ASKED],
        ),
        (
            &["c:u 1Gi Pending class=made"],
            "claim c",
            &["c:u 1Gi Pending class=made provisioner=example.com/x"],
            &[ASKED],
        ),
        (
            &["c:u 1Gi Pending class=other beta-class=made"],
            "claim c",
            &["c:u 1Gi Pending class=other provisioner=example.com/x"],
            &[ASKED],
        ),
        (
            &["c:u 1Gi Pending class=migrated"],
            "claim c",
            &["c:u 1Gi Pending class=migrated provisioner=pd.csi.storage.gke.io"],
            &["ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'pd.csi"],
        ),
        (
            &["c:u 1Gi Pending class=static"],
            "claim c",
            &["c:u 1Gi Pending class=static"],
            &["ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner"],
        ),
        (
            &["c:u 1Gi Pending class=host"],
            "claim c",
            &["c:u 1Gi Pending class=host provisioner=kubernetes.io/host-path"],
            &["ProvisioningFailed: Failed to create provisioner: provisioning in volume plugin"],
        ),
        (
            &["c:u 1Gi Pending class=none"],
            "claim c",
            &["c:u 1Gi Pending class=none"],
            &["ProvisioningFailed: storageclass.storage.k8s.io \"none\" not found"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn claims_that_name_their_volume() {
    const SMALL: &str = "VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small";
    const TAKEN: &str = "FailedBinding: volume \"v\" already bound to a different claim.";
    hold(&[
        (&["c:u 1Gi Pending volume=v"], "claim c", &["c:u 1Gi Pending volume=v"], &[]),
        (&["c:u 1Gi Bound volume=v has=1Gi"], "claim c", &["c:u 1Gi Pending volume=v"], &[]),
        (
            &["c:u 1Gi Pending volume=v", "v 10Gi Available", "w 1Gi Available"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=10Gi bound", "v 10Gi Bound claim=c:u by-controller", "w 1Gi Available"],
            &[],
        ),
        (
            &["c:u 1Gi Pending volume=v", "v 1Gi Available claim=c"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=1Gi bound", "v 1Gi Bound claim=c:u"],
            &[],
        ),
        (
            &["c:u 1Gi Pending volume=v", "v 1Gi Available claim=c:u"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=1Gi bound", "v 1Gi Bound claim=c:u"],
            &[],
        ),
        (
            &["c:u 1Gi Bound volume=v has=1Gi", "v 1Gi Bound claim=other:o"],
            "claim c",
            &["c:u 1Gi Pending volume=v", "v 1Gi Bound claim=other:o"],
            &[TAKEN],
        ),
        (
            &["c:u 1Gi Bound volume=v by-controller", "v 1Gi Bound claim=other:o"],
            "claim c",
            &["c:u 1Gi Bound volume=v by-controller", "v 1Gi Bound claim=other:o"],
            &[TAKEN],
        ),
        // Labels are not asked for here; everything else is.
        (
            &["c:u 1Gi Pending volume=v label=a", "v 1Gi Available"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=1Gi bound", "v 1Gi Bound claim=c:u by-controller"],
            &[],
        ),
        (
            &["c:u 2Gi Bound volume=v", "v 1Gi Available"],
            "claim c",
            &["c:u 2Gi Pending volume=v", "v 1Gi Available"],
            &[SMALL],
        ),
        (
            &["c:u 1Gi Pending volume=v", "v 1Gi Available class=made"],
            "claim c",
            &["c:u 1Gi Pending volume=v", "v 1Gi Available"],
            &["VolumeMismatch: Cannot bind to requested volume \"v\": storageClassName does not match"],
        ),
        (
            &["c:u 1Gi Pending volume=v modes=ReadWriteMany", "v 1Gi Available"],
            "claim c",
            &["c:u 1Gi Pending volume=v", "v 1Gi Available"],
            &["VolumeMismatch: Cannot bind to requested volume \"v\": incompatible accessMode"],
        ),
        (
            &["c:u 1Gi Pending volume=v", "v 1Gi Available mode=Block"],
            "claim c",
            &["c:u 1Gi Pending volume=v", "v 1Gi Available"],
            &["VolumeMismatch: Cannot bind to requested volume \"v\": incompatible volumeMode"],
        ),
        (
            &["c:u 1Gi Pending volume=v", "v 1Gi Available attributes=gold"],
            "claim c",
            &["c:u 1Gi Pending volume=v", "v 1Gi Available"],
            &["VolumeMismatch: Cannot bind to requested volume \"v\": volumeAttributesClassName does not match"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn claims_that_were_bound() {
    const BOTH: &str = "ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly";
    hold(&[
        (
            &["c:u 1Gi Bound has=1Gi by-controller bound"],
            "claim c",
            &["c:u 1Gi Lost by-controller bound"],
            &["ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"],
        ),
        (
            &["c:u 1Gi Bound volume=v has=1Gi bound"],
            "claim c",
            &["c:u 1Gi Lost volume=v bound"],
            &["ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!"],
        ),
        (
            &["c:u 1Gi Pending volume=v bound", "v 1Gi Available"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=1Gi bound", "v 1Gi Bound claim=c:u by-controller"],
            &[],
        ),
        (
            &["c:u 1Gi Pending volume=v bound", "v 1Gi Available claim=c:u"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=1Gi bound", "v 1Gi Bound claim=c:u"],
            &[],
        ),
        (
            &["c:u 1Gi Pending volume=v bound", "v 1Gi Available claim=c:x"],
            "claim c",
            &["c:u 1Gi Lost volume=v bound", "v 1Gi Available claim=c:x"],
            &[BOTH],
        ),
        (
            &["c:u 1Gi Pending volume=v bound", "v 1Gi Available claim=other:x"],
            "claim c",
            &["c:u 1Gi Lost volume=v bound", "v 1Gi Available claim=other:x"],
            &[BOTH],
        ),
        // What a file system has may be less than what its volume has.
        (
            &["c:u 1Gi Bound volume=v has=1Gi bound", "v 2Gi Bound claim=c:u"],
            "claim c",
            &["c:u 1Gi Bound volume=v has=1Gi bound", "v 2Gi Bound claim=c:u"],
            &[],
        ),
    ])
    .await;
}

#[tokio::test]
async fn volumes() {
    const NO_DELETER: &str =
        "VolumeFailedDelete: error getting deleter volume plugin for volume \"v\": no volume plugin matched";
    const ELSEWHERE: &str = "VolumeFailedDelete: host_path deleter only supports /tmp/.+ but received provided /srv/x";
    hold(&[
        (&["v 1Gi Pending"], "volume v", &["v 1Gi Available"], &[]),
        (&["v 1Gi Pending claim=c"], "volume v", &["v 1Gi Available claim=c"], &[]),
        (&["v 1Gi Bound claim=c:u"], "volume v", &["v 1Gi Released claim=c:u"], &[]),
        (
            &["c:x 1Gi Bound volume=v bound", "v 1Gi Bound claim=c:u"],
            "volume v",
            &["c:x 1Gi Bound volume=v bound", "v 1Gi Released claim=c:u"],
            &[],
        ),
        (
            &["c:u 1Gi Pending", "v 1Gi Bound claim=c:u by-controller"],
            "volume v",
            &["c:u 1Gi Pending", "v 1Gi Bound claim=c:u by-controller"],
            &[],
        ),
        (
            &["c:u 1Gi Bound volume=v", "v 1Gi Available claim=c:u policy=Delete"],
            "volume v",
            &["c:u 1Gi Bound volume=v", "v 1Gi Bound claim=c:u"],
            &[],
        ),
        // The claim has another volume: this one goes back, stays reserved, or goes.
        (
            &["c:u 1Gi Bound volume=w", "v 1Gi Bound claim=c:u by-controller"],
            "volume v",
            &["c:u 1Gi Bound volume=w", "v 1Gi Available"],
            &[],
        ),
        (
            &["c:u 1Gi Bound volume=w", "v 1Gi Bound claim=c:u"],
            "volume v",
            &["c:u 1Gi Bound volume=w", "v 1Gi Available claim=c"],
            &[],
        ),
        (
            &["c:u 1Gi Bound volume=w", "v 1Gi Bound claim=c:u by-controller made-by=example.com/x policy=Delete"],
            "volume v",
            &["c:u 1Gi Bound volume=w", "v 1Gi Released claim=c:u by-controller"],
            &[],
        ),
        (
            &["c:u 1Gi Pending mode=Block", "v 1Gi Available claim=c:u"],
            "volume v",
            &["c:u 1Gi Pending", "v 1Gi Available claim=c:u"],
            &[
                "VolumeMismatch: Cannot bind PersistentVolume to requested PersistentVolumeClaim \"c\" due to incompatible volumeMode.",
                "VolumeMismatch: Cannot bind PersistentVolume \"v\" to requested PersistentVolumeClaim due to incompatible volumeMode.",
            ],
        ),
        // What becomes of those that nobody claims.
        (&["v 1Gi Bound claim=c:u policy=Delete"], "volume v", &["v 1Gi Failed claim=c:u"], &[NO_DELETER]),
        (&["v 1Gi Bound claim=c:u policy=Delete path=/srv/x"], "volume v", &["v 1Gi Failed claim=c:u"], &[ELSEWHERE]),
        (&["v 1Gi Bound claim=c:u policy=Delete path=/tmp/kedge-no-such-volume"], "volume v", &[], &[]),
        (
            &["v 1Gi Bound claim=c:u policy=Recycle path=/tmp/x"],
            "volume v",
            &["v 1Gi Failed claim=c:u"],
            &["VolumeFailedRecycle: No recycler plugin found for the volume!"],
        ),
        (
            &["v 1Gi Bound claim=c:u policy=Other"],
            "volume v",
            &["v 1Gi Failed claim=c:u"],
            &["VolumeUnknownReclaimPolicy: Volume has unrecognized PersistentVolumeReclaimPolicy"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_volume_whose_claim_is_not_known_yet_is_not_released() {
    let claim = claim_of("c:u 1Gi Bound volume=v bound");
    let older = claim_of("c:old 1Gi Bound volume=v bound");
    for seen in [vec![], vec![older]] {
        let mut objects = seen;
        objects.push(volume_of("v 1Gi Available claim=c:u policy=Delete"));
        let world = World::new(&objects, std::slice::from_ref(&claim), Vec::new(), None);
        world.sync("volume v").await.unwrap();
        assert_eq!(world.lines()[1], "v 1Gi Bound claim=c:u");
        assert!(world.said.lock().is_empty());
    }
}

#[tokio::test]
async fn a_binding_that_is_interrupted_anywhere_is_finished() {
    let before = ["c:u 1Gi Pending", "v 1Gi Available", "w 1Gi Available"].map(object_of);
    let bound = [
        "c:u 1Gi Bound volume=v has=1Gi by-controller bound",
        "v 1Gi Bound claim=c:u by-controller",
        "w 1Gi Available",
    ];
    for writes in 0..4 {
        let world = World::new(&before, &[], Vec::new(), Some(writes));
        assert!(world.sync("claim c").await.unwrap_err().is_conflict(), "{writes}");
        // Another process goes on from what is stored.
        let left: Vec<Value> = world.api.objects.lock().values().cloned().collect();
        for first in ["claim c", "volume v"] {
            let world = World::new(&left, &[], Vec::new(), None);
            world.sync(first).await.unwrap();
            world.sync("claim c").await.unwrap();
            world.sync("volume v").await.unwrap();
            assert_eq!(world.lines(), bound, "after {writes} writes, {first} first");
        }
    }
}

#[tokio::test]
async fn two_claims_never_get_one_volume_although_the_informers_lag() {
    let objects = ["a:a 1Gi Pending", "b:b 1Gi Pending", "v 1Gi Available", "w 2Gi Available"].map(object_of);
    let world = World::new(&objects, &[], Vec::new(), None);
    world.sync("claim a").await.unwrap();
    world.sync("claim b").await.unwrap();
    let bound = [
        "a:a 1Gi Bound volume=v has=1Gi by-controller bound",
        "b:b 1Gi Bound volume=w has=2Gi by-controller bound",
        "v 1Gi Bound claim=a:a by-controller",
        "w 2Gi Bound claim=b:b by-controller",
    ];
    assert_eq!(world.lines(), bound);
    // A second binder that has seen nothing of that changes nothing.
    let late = World::new(&objects, &[], Vec::new(), None);
    *late.api.objects.lock() = world.api.objects.lock().clone();
    for what in ["claim b", "claim a"] {
        assert!(late.sync(what).await.unwrap_err().is_conflict(), "{what}");
    }
    late.sync("volume v").await.unwrap();
    assert_eq!(late.lines(), bound);
}

#[tokio::test]
async fn whoever_waits_is_told_for_whom() {
    let pod = |name: &str, node: &str, phase: &str| -> Pod {
        let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        let metadata = json!({"name": name, "namespace": NAMESPACE});
        let object = json!({"metadata": metadata, "spec": {"nodeName": node, "volumes": volumes},
            "status": {"phase": phase}});
        serde_json::from_value(object).unwrap()
    };
    let objects = ["c:u 1Gi Pending class=wait"].map(object_of);
    for (pods, said) in [
        (vec![pod("a", "", "Pending")], "WaitForPodScheduled: waiting for pod a to be scheduled"),
        (vec![pod("b", "", ""), pod("a", "", "")], "WaitForPodScheduled: waiting for pods a,b to be scheduled"),
        (
            vec![pod("a", "node", "Running"), pod("b", "", "Failed")],
            "WaitForFirstConsumer: waiting for first consumer to be created before binding",
        ),
    ] {
        let world = World::new(&objects, &[], pods, None);
        world.sync("claim c").await.unwrap();
        assert_eq!(*world.said.lock(), [said]);
    }
}

#[tokio::test]
async fn a_volume_in_use_is_not_recycled() {
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    let metadata = json!({"name": "p", "namespace": NAMESPACE});
    let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "spec": {"volumes": volumes}})).unwrap();
    let objects = ["v 1Gi Released claim=c:u policy=Recycle"].map(object_of);
    let world = World::new(&objects, &[], vec![pod], None);
    world.sync("volume v").await.unwrap();
    assert_eq!(world.lines(), ["v 1Gi Released claim=c:u"]);
    assert_eq!(*world.said.lock(), ["VolumeFailedRecycle: Volume is used by pods: n/p"]);
}

#[tokio::test]
async fn a_claim_from_before_there_was_a_default_gets_it() {
    let claim = claim_of("c:u 1Gi Pending");
    let metadata = json!({"name": "d", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}});
    let class = json!({"metadata": metadata, "provisioner": "example.com/y"});
    let world = World::with_classes(&[claim], &[], Vec::new(), None, vec![class]);
    world.sync("claim c").await.unwrap();
    assert_eq!(world.lines(), ["c:u 1Gi Pending class=d"]);
    world.sync("claim c").await.unwrap();
    assert_eq!(world.lines(), ["c:u 1Gi Pending class=d provisioner=example.com/y"]);
}
