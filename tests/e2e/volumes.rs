//! Persistent volumes and claims, as far as it takes no node: who is bound to whom, what is said while a claim waits, and what becomes of a
//! volume when its claim is gone.

use std::collections::BTreeSet;

use crate::support::{TestCluster, eventually};

fn volume(name: &str, storage: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}, labels: {{disk: {name}}}}}\nspec:\n  capacity: \
         {{storage: {storage}}}\n  accessModes: [ReadWriteOnce]\n{more}"
    )
}

fn claim(name: &str, storage: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  accessModes: [ReadWriteOnce]\n  \
         resources: {{requests: {{storage: {storage}}}}}\n{more}"
    )
}

fn class(name: &str, provisioner: &str, mode: &str, annotations: &str) -> String {
    format!(
        "---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\n\
         provisioner: {provisioner}\nvolumeBindingMode: {mode}\n"
    )
}

const HOST: &str = "  hostPath: {path: /tmp/none}\n";
const NO_CLASS: &str = "  storageClassName: \"\"\n";

/// The default class of the cluster is set aside, if it comes with one.
fn without_default(cluster: &TestCluster) {
    let classes = cluster.json(&["storageclasses"]);
    for class in classes["items"].as_array().unwrap() {
        let name = class["metadata"]["name"].as_str().unwrap();
        cluster.ok(&["annotate", "--overwrite", "sc", name, "storageclass.kubernetes.io/is-default-class=false"]);
    }
}

/// Waits until it has been said of an object.
fn wait_until_said(cluster: &TestCluster, object: &str, wanted: &str) {
    let selector = format!("involvedObject.name={object}");
    let all = r#"jsonpath={range .items[*]}{.type} {.reason}: {.message}{"\n"}{end}"#;
    eventually(&format!("{wanted:?} of {object}"), || {
        let said = cluster.ok(&["get", "events", "--field-selector", &selector, "-o", all]);
        if said.lines().any(|line| line == wanted) { Ok(()) } else { Err(said) }
    });
}

fn wait_for_phase(cluster: &TestCluster, object: &str, phase: &str) {
    cluster.wait_for(phase, &["get", object, "-o", "jsonpath={.status.phase}"]);
}

#[test]
fn claims_and_volumes_find_each_other() {
    let cluster = TestCluster::control_plane();
    without_default(&cluster);
    cluster
        .apply(&[volume("large", "8Gi", HOST), volume("small", "2Gi", HOST), claim("any", "1Gi", NO_CLASS)].concat());
    wait_for_phase(&cluster, "pvc/any", "Bound");
    let bound = cluster.json(&["pvc", "any"]);
    let annotations = &bound["metadata"]["annotations"];
    assert_eq!(bound["spec"]["volumeName"], "small");
    assert_eq!(annotations["pv.kubernetes.io/bind-completed"], "yes");
    assert_eq!(annotations["pv.kubernetes.io/bound-by-controller"], "yes");
    assert_eq!(bound["status"]["capacity"]["storage"], "2Gi");
    assert_eq!(bound["status"]["accessModes"][0], "ReadWriteOnce");
    wait_for_phase(&cluster, "pv/large", "Available");
    let small = cluster.json(&["pv", "small"]);
    let reference = &small["spec"]["claimRef"];
    assert_eq!((&reference["kind"], &reference["uid"]), (&"PersistentVolumeClaim".into(), &bound["metadata"]["uid"]));
    assert!(small["status"]["lastPhaseTransitionTime"].is_string());

    // Whoever made the volume has a claim in mind, or whoever made the claim a volume. Nobody else gets it.
    let reserved = format!("{HOST}  claimRef: {{namespace: default, name: meant}}\n");
    cluster.apply(&[volume("reserved", "1Gi", &reserved), claim("other", "1Gi", "")].concat());
    wait_for_phase(&cluster, "pvc/other", "Bound");
    assert_eq!(cluster.json(&["pvc", "other"])["spec"]["volumeName"], "large");
    cluster.apply(&claim("meant", "1Gi", NO_CLASS));
    wait_for_phase(&cluster, "pvc/meant", "Bound");
    let reserved = cluster.json(&["pv", "reserved"]);
    assert_eq!(reserved["spec"]["claimRef"]["name"], "meant");
    assert!(reserved["metadata"]["annotations"].get("pv.kubernetes.io/bound-by-controller").is_none());
    cluster.apply(&claim("named", "1Gi", &format!("{NO_CLASS}  volumeName: comes-later\n")));
    wait_for_phase(&cluster, "pvc/named", "Pending");
    cluster.apply(&volume("comes-later", "1Gi", HOST));
    wait_for_phase(&cluster, "pvc/named", "Bound");
    cluster.apply(&claim("greedy", "9Gi", &format!("{NO_CLASS}  volumeName: too-small\n")));
    cluster.apply(&volume("too-small", "1Gi", HOST));
    let mismatch = "Warning VolumeMismatch: Cannot bind to requested volume \"too-small\": requested PV is too small";
    wait_until_said(&cluster, "greedy", mismatch);

    // A volume that was deleted while its claim has it stays until that goes; a claim whose volume is torn away has lost it.
    cluster.ok(&["delete", "pv", "small", "--wait=false"]);
    cluster.ok(&["patch", "pv", "small", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    wait_for_phase(&cluster, "pvc/any", "Lost");
    let lost = "Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!";
    wait_until_said(&cluster, "any", lost);
    let shown = cluster.ok(&["get", "--raw", "/metrics"]);
    for line in [
        r#"pv_collector_total_pv_count{plugin_name="kubernetes.io/host-path",volume_mode="Filesystem"} 4"#,
        r#"pv_collector_bound_pvc_count{namespace="default",storage_class="",volume_attributes_class=""} 3"#,
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}\n{shown}");
    }
}

#[test]
fn a_claim_that_waits_is_told_why() {
    let cluster = TestCluster::control_plane();
    without_default(&cluster);
    cluster.apply(&claim("none", "1Gi", ""));
    let none = "Normal FailedBinding: no persistent volumes available for this claim and no storage class is set";
    wait_until_said(&cluster, "none", none);
    cluster.apply(&claim("unknown", "1Gi", "  storageClassName: unknown\n"));
    let unknown = "Warning ProvisioningFailed: storageclass.storage.k8s.io \"unknown\" not found";
    wait_until_said(&cluster, "unknown", unknown);
    cluster.apply(&class("late", "example.com/x", "WaitForFirstConsumer", ""));
    cluster.apply(&claim("late", "1Gi", "  storageClassName: late\n"));
    let waiting = "Normal WaitForFirstConsumer: waiting for first consumer to be created before binding";
    wait_until_said(&cluster, "late", waiting);

    // A default class that comes later is for those who said nothing, and its provisioner is asked.
    let default = "storageclass.kubernetes.io/is-default-class: \"true\"";
    cluster.apply(&claim("no-class", "1Gi", NO_CLASS));
    cluster.apply(&class("default", "example.com/y", "Immediate", default));
    let asked = r"jsonpath={.spec.storageClassName} {.metadata.annotations.volume\.kubernetes\.io/storage-provisioner} {.metadata.annotations.volume\.beta\.kubernetes\.io/storage-provisioner}";
    cluster.wait_for("default example.com/y example.com/y", &["get", "pvc", "none", "-o", asked]);
    let external = "Normal ExternalProvisioning: Waiting for a volume to be created either by the external provisioner \
                    'example.com/y' or manually by the system administrator. If volume creation is delayed, please verify that \
                    the provisioner is running and correctly registered.";
    wait_until_said(&cluster, "none", external);
    assert_eq!(cluster.json(&["pvc", "no-class"])["spec"]["storageClassName"], "");
    let shown = cluster.ok(&["get", "--raw", "/metrics"]);
    assert!(shown.lines().any(|line| line == "retroactive_storageclass_total 1"), "{shown}");

    // What the provisioner makes is bound.
    let uid = cluster.json(&["pvc", "none"])["metadata"]["uid"].as_str().unwrap().to_owned();
    let made =
        format!("{HOST}  storageClassName: default\n  claimRef: {{namespace: default, name: none, uid: {uid}}}\n");
    cluster.apply(&volume("made", "1Gi", &made));
    wait_for_phase(&cluster, "pvc/none", "Bound");
}

#[test]
fn what_becomes_of_a_volume_is_what_its_policy_says() {
    let cluster = TestCluster::control_plane();
    let directory = tempfile::Builder::new().prefix("kedge-volume-").tempdir_in("/tmp").unwrap();
    let inside = directory.path().join("data");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(inside.join("file"), "content").unwrap();
    let host = |path: &str, policy: &str| {
        format!("  hostPath: {{path: {path}}}\n  storageClassName: s\n  persistentVolumeReclaimPolicy: {policy}\n")
    };
    let local = "  local: {path: /srv/x}\n  storageClassName: s\n  persistentVolumeReclaimPolicy: Delete\n  nodeAffinity: {required: \
                 {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}\n";
    let mut all = String::new();
    for (name, more) in [
        ("retained", host("/srv/x", "Retain")),
        ("elsewhere", host("/srv/x", "Delete")),
        ("recycled", host("/tmp/none", "Recycle")),
        ("deleted", host(&inside.to_string_lossy(), "Delete")),
        ("local", local.to_owned()),
    ] {
        all += &volume(name, "1Gi", &more);
        all += &claim(name, "1Gi", &format!("  storageClassName: s\n  volumeName: {name}\n"));
    }
    cluster.apply(&all);
    for name in ["retained", "elsewhere", "recycled", "deleted", "local"] {
        wait_for_phase(&cluster, &format!("pvc/{name}"), "Bound");
    }
    cluster.ok(&["delete", "pvc", "--all"]);
    wait_for_phase(&cluster, "pv/retained", "Released");
    cluster.wait_for("", &["get", "pv", "deleted", "--ignore-not-found", "-o", "name"]);
    assert!(!inside.exists() && directory.path().exists());
    let failed = |name: &str, reason: &str, why: &str| {
        wait_for_phase(&cluster, &format!("pv/{name}"), "Failed");
        wait_until_said(&cluster, name, &format!("Warning {reason}: {why}"));
        assert_eq!(cluster.json(&["pv", name])["status"]["message"], why);
    };
    let elsewhere = "host_path deleter only supports /tmp/.+ but received provided /srv/x";
    failed("elsewhere", "VolumeFailedDelete", elsewhere);
    failed("recycled", "VolumeFailedRecycle", "No recycler plugin found for the volume!");
    let local = "error getting deleter volume plugin for volume \"local\": no volume plugin matched";
    failed("local", "VolumeFailedDelete", local);
}

/// Each of the four writes of a binding may be the last one before a power cut.
#[test]
fn bindings_that_are_interrupted_are_finished() {
    const MANY: usize = 60;
    let mut cluster = TestCluster::control_plane();
    without_default(&cluster);
    let mut all = String::new();
    for i in 0..MANY {
        all += &claim(&format!("c{i}"), "1Gi", NO_CLASS);
    }
    for i in 0..MANY {
        all += &volume(&format!("v{i}"), &format!("{}Gi", 1 + i % 7), HOST);
    }
    cluster.apply(&all);
    let bound = |cluster: &TestCluster| {
        let claims = cluster.json(&["pvc"]);
        let items = claims["items"].as_array().unwrap().clone();
        items.into_iter().filter(|claim| claim["status"]["phase"] == "Bound").collect::<Vec<_>>()
    };
    for _ in 0..3 {
        cluster.kill();
        cluster.start();
    }
    eventually("all claims bound", || {
        let so_far = bound(&cluster).len();
        if so_far == MANY { Ok(()) } else { Err(so_far.to_string()) }
    });
    let claims = bound(&cluster);
    let volumes: BTreeSet<&str> = claims.iter().map(|claim| claim["spec"]["volumeName"].as_str().unwrap()).collect();
    assert_eq!(volumes.len(), MANY, "each has a volume of its own");
    for claim in &claims {
        let volume = cluster.json(&["pv", claim["spec"]["volumeName"].as_str().unwrap()]);
        assert_eq!(volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
        assert_eq!(volume["status"]["phase"], "Bound");
    }
}

#[test]
fn a_pods_own_volumes_have_claims_and_no_others_are_taken_for_them() {
    let cluster = TestCluster::control_plane();
    without_default(&cluster);
    cluster.wait_for_account();
    let pod = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: nowhere\n  containers: [{{name: c, image: \
             kedge.test/x:1}}]\n  volumes:\n  - name: own\n    ephemeral: {{volumeClaimTemplate: {{metadata: {{labels: {{of: {name}}}}}, \
             spec: {{accessModes: [ReadWriteOnce], storageClassName: s, resources: {{requests: {{storage: 1Gi}}}}}}}}}}\n"
        )
    };
    cluster.apply(&(claim("taken-own", "1Gi", NO_CLASS) + &pod("first") + &pod("taken")));
    let owner =
        r"jsonpath={.metadata.ownerReferences[0].kind} {.metadata.ownerReferences[0].name} {.metadata.labels.of}";
    cluster.wait_for("Pod first first", &["get", "pvc", "first-own", "--ignore-not-found", "-o", owner]);
    let not_ours = "Warning FailedBinding: ephemeral volume own: PVC default/taken-own was not created for pod default/taken (pod is not \
                    owner)";
    wait_until_said(&cluster, "taken", not_ours);
    // The claim is held by the pod that runs, and made again when it was not; it goes with the pod.
    cluster.ok(&["delete", "pvc", "first-own", "--wait=false"]);
    cluster.ok(&["patch", "pvc", "first-own", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    let going = r"jsonpath={.metadata.deletionTimestamp}{.metadata.labels.of}";
    cluster.wait_for("first", &["get", "pvc", "first-own", "--ignore-not-found", "-o", going]);
    cluster.ok(&["delete", "pod", "first", "--grace-period=0", "--force"]);
    cluster.wait_for("", &["get", "pvc", "first-own", "--ignore-not-found", "-o", "name"]);
    let shown = cluster.ok(&["get", "--raw", "/metrics"]);
    assert!(shown.lines().any(|line| line == "ephemeral_volume_controller_create_total 2"), "{shown}");
}

/// A class of attributes stays while a claim or a volume has it.
#[test]
fn classes_of_attributes_stay_while_they_are_used() {
    let cluster = TestCluster::control_plane();
    cluster.apply(
        "apiVersion: storage.k8s.io/v1\nkind: VolumeAttributesClass\nmetadata: {name: gold}\ndriverName: example.com\nparameters: {a: b}\n",
    );
    let finalizers = ["get", "vac", "gold", "--ignore-not-found", "-o", "jsonpath={.metadata.finalizers[0]}"];
    cluster.wait_for("kubernetes.io/vac-protection", &finalizers);
    cluster.apply(&claim("c", "1Gi", "  storageClassName: s\n  volumeAttributesClassName: gold\n"));
    cluster.ok(&["delete", "vac", "gold", "--wait=false"]);
    cluster.ok(&["annotate", "vac", "gold", "looked=at"]);
    assert_eq!(cluster.ok(&finalizers), "kubernetes.io/vac-protection");
    cluster.ok(&["delete", "pvc", "c"]);
    cluster.wait_for("", &["get", "vac", "gold", "--ignore-not-found", "-o", "name"]);
}

/// A claim grows when its class lets it, and then somebody else makes its volume grow.
#[test]
fn a_claim_that_is_to_grow_waits_for_a_resizer() {
    let cluster = TestCluster::control_plane();
    cluster.apply(
        &(class("grows", "example.com/x", "Immediate", "")
            + "allowVolumeExpansion: true\n"
            + &class("stays", "example.com/x", "Immediate", "")),
    );
    for name in ["grows", "stays"] {
        cluster.apply(&volume(name, "1Gi", &format!("{HOST}  storageClassName: {name}\n")));
        cluster.apply(&claim(name, "1Gi", &format!("  storageClassName: {name}\n  volumeName: {name}\n")));
        wait_for_phase(&cluster, &format!("pvc/{name}"), "Bound");
    }
    let larger = r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#;
    let said = cluster.fails(&["patch", "pvc", "stays", "-p", larger]);
    let why = "persistentvolumeclaims \"stays\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that \
               provisions the pvc must support resize";
    assert!(said.contains(why), "{said}");
    cluster.ok(&["patch", "pvc", "grows", "-p", larger]);
    let waiting = "Normal ExternalExpanding: waiting for an external controller to expand this PVC";
    wait_until_said(&cluster, "grows", waiting);
}

/// A node that somebody else would run; its kubelet leaves attaching to controllers.
fn node(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, annotations: \
         {{volumes.kubernetes.io/controller-managed-attach-detach: \"true\"}}}}\n"
    )
}

fn user(name: &str, node: &str, claim: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: {node}\n  tolerations: [{{operator: Exists}}]\n  \
         containers: [{{name: c, image: kedge.test/x:1}}]\n  volumes:\n  - name: v\n    persistentVolumeClaim: {{claimName: {claim}}}\n"
    )
}

/// A driver's volume and its claim.
fn of_driver(name: &str, driver: &str) -> String {
    let csi = format!("  csi: {{driver: {driver}, volumeHandle: handle-{name}}}\n  storageClassName: s\n");
    volume(name, "1Gi", &csi) + &claim(name, "1Gi", &format!("  storageClassName: s\n  volumeName: {name}\n"))
}

fn patch_status(cluster: &TestCluster, object: &str, status: &str) {
    let patch = format!("{{\"status\":{status}}}");
    cluster.ok(&["patch", object, "--subresource=status", "--type=merge", "-p", &patch]);
}

/// The attachments of a volume, by node and whether they are there.
fn attachments(cluster: &TestCluster, volume: &str) -> Vec<(String, String)> {
    let all = cluster.json(&["volumeattachments"]);
    let of = all["items"].as_array().unwrap().iter().filter(|a| a["spec"]["source"]["persistentVolumeName"] == volume);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    of.map(|a| (text(&a["spec"]["nodeName"]), text(&a["metadata"]["name"]))).collect()
}

fn attachment_to(cluster: &TestCluster, volume: &str, node: &str) -> String {
    eventually(&format!("an attachment of {volume} to {node}"), || {
        let all = attachments(cluster, volume);
        all.iter().find(|(of, _)| of == node).map(|(_, name)| name.clone()).ok_or_else(|| format!("{all:?}"))
    })
}

fn wait_until_detached(cluster: &TestCluster, volume: &str) {
    eventually(&format!("no attachment of {volume}"), || {
        let all = attachments(cluster, volume);
        if all.is_empty() { Ok(()) } else { Err(format!("{all:?}")) }
    });
}

#[test]
fn volumes_of_drivers_are_attached_where_they_are_used() {
    let mut cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    cluster.apply("apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {name: files.example.com}\nspec: {attachRequired: false}\n");
    cluster.apply(
        &[node("n1"), node("n2"), of_driver("disk", "disks.example.com"), of_driver("files", "files.example.com")]
            .concat(),
    );
    for name in ["disk", "files"] {
        wait_for_phase(&cluster, &format!("pvc/{name}"), "Bound");
    }
    cluster.apply(&[user("first", "n1", "disk"), user("reader", "n1", "files")].concat());
    let name = attachment_to(&cluster, "disk", "n1");
    // What `printf handle-diskdisks.example.comn1 | sha256sum` says.
    assert_eq!(name, "csi-e0096bb0f9663887445d516084fafaa41008cbf6c0bcf3b2a634b0d13f377542");
    assert_eq!(cluster.json(&["volumeattachment", &name])["spec"]["attacher"], "disks.example.com");
    let error = r#"{"attachError":{"message":"no such disk","time":"2026-01-01T00:00:00Z"}}"#;
    patch_status(&cluster, &format!("volumeattachment/{name}"), error);
    let failed = "Warning FailedAttachVolume: AttachVolume.Attach failed for volume \"disk\" : no such disk";
    wait_until_said(&cluster, "first", failed);
    patch_status(&cluster, &format!("volumeattachment/{name}"), r#"{"attached":true,"attachError":null}"#);
    let attached = ["get", "node", "n1", "-o", "jsonpath={.status.volumesAttached[*].name}"];
    let unique = "kubernetes.io/csi/disks.example.com^handle-disk";
    cluster.wait_for(unique, &attached);
    wait_until_said(
        &cluster,
        "first",
        "Normal SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume \"disk\" ",
    );
    assert!(attachments(&cluster, "files").is_empty(), "its driver has nothing attached");

    // It is on one node at a time, and is not taken from one that has it mounted.
    patch_status(&cluster, "node/n1", &format!("{{\"volumesInUse\":[\"{unique}\"]}}"));
    cluster.apply(&user("second", "n2", "disk"));
    let elsewhere =
        "Warning FailedAttachVolume: Multi-Attach error for volume \"disk\" Volume is already used by pod(s) first";
    wait_until_said(&cluster, "second", elsewhere);
    let shown = cluster.ok(&["get", "--raw", "/metrics"]);
    for line in [
        r#"attachdetach_controller_total_volumes{plugin_name="kubernetes.io/csi:disks.example.com",state="actual_state_of_world"} 1"#,
        r#"attachdetach_controller_total_volumes{plugin_name="kubernetes.io/csi:disks.example.com",state="desired_state_of_world"} 2"#,
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}\n{shown}");
    }
    cluster.kill();
    cluster.start();
    cluster.ok(&["delete", "pod", "first", "--grace-period=0", "--force"]);
    cluster.ok(&["annotate", "node", "n1", "looked=at"]);
    assert_eq!(attachments(&cluster, "disk").len(), 1);
    assert_eq!(cluster.ok(&attached), unique);
    patch_status(&cluster, "node/n1", r#"{"volumesInUse":null}"#);
    let second = attachment_to(&cluster, "disk", "n2");
    cluster.wait_for("", &attached);
    assert_eq!(attachments(&cluster, "disk").len(), 1);

    // A node that is declared lost need not have unmounted anything.
    patch_status(&cluster, &format!("volumeattachment/{second}"), r#"{"attached":true}"#);
    patch_status(&cluster, "node/n2", &format!("{{\"volumesInUse\":[\"{unique}\"]}}"));
    cluster.wait_for(unique, &["get", "node", "n2", "-o", "jsonpath={.status.volumesAttached[*].name}"]);
    cluster.ok(&["delete", "pod", "second", "--grace-period=0", "--force"]);
    cluster.ok(&["taint", "node", "n2", "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"]);
    wait_until_detached(&cluster, "disk");
    let shown = cluster.ok(&["get", "--raw", "/metrics"]);
    let forced = r#"attach_detach_controller_attachdetach_controller_forced_detaches{reason="out-of-service"} 1"#;
    assert!(shown.lines().any(|line| line == forced), "{shown}");
}

/// What was attached while nobody looked, and is needed no more, is detached after a restart.
#[test]
fn what_is_left_attached_is_detached() {
    let mut cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    cluster.apply(&[node("n1"), of_driver("disk", "disks.example.com")].concat());
    wait_for_phase(&cluster, "pvc/disk", "Bound");
    cluster.apply(&user("p", "n1", "disk"));
    let name = attachment_to(&cluster, "disk", "n1");
    patch_status(&cluster, &format!("volumeattachment/{name}"), r#"{"attached":true}"#);
    let attached = ["get", "node", "n1", "-o", "jsonpath={.status.volumesAttached[*].name}"];
    cluster.wait_for("kubernetes.io/csi/disks.example.com^handle-disk", &attached);
    cluster.kill();
    cluster.start_again_with(&["--disable-controller-manager"]);
    cluster.ok(&["delete", "pod", "p", "--grace-period=0", "--force"]);
    // One of somebody else's, whose name is not what it would be called here.
    let foreign = "apiVersion: storage.k8s.io/v1\nkind: VolumeAttachment\nmetadata: {name: somebodys}\nspec: {attacher: disks.example.com, \
                   nodeName: n1, source: {persistentVolumeName: disk}}\n";
    cluster.apply(foreign);
    cluster.kill();
    cluster.set_flags(&["--disable-agent"]);
    cluster.start();
    cluster.wait_for("", &["get", "volumeattachment", &name, "--ignore-not-found", "-o", "name"]);
    cluster.wait_for("", &attached);
    assert_eq!(attachments(&cluster, "disk"), [("n1".to_owned(), "somebodys".to_owned())]);
}

/// A node that pods can be put on.
fn ready(cluster: &TestCluster, name: &str) {
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}}}}}\n"
    ));
    let status = r#"{"allocatable":{"cpu":"4","memory":"8Gi","pods":"110"},"capacity":{"cpu":"4","memory":"8Gi","pods":"110"},
        "conditions":[{"type":"Ready","status":"True","reason":"Test","message":"","lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:00Z"}]}"#;
    patch_status(cluster, &format!("node/{name}"), status);
}

fn waiting_user(name: &str, claim: &str) -> String {
    user(name, "", claim).replace("  nodeName: \n", "")
}

/// Claims that wait for their pod get a volume that its node reaches, or have one made for that node.
#[test]
fn volumes_are_bound_where_their_pod_goes() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    ready(&cluster, "n1");
    let late = "  storageClassName: late\n";
    let at = |node: &str| {
        format!(
            "{HOST}{late}  nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: \
             In, values: [{node}]}}]}}]}}}}\n"
        )
    };
    let all = [
        class("late", "kubernetes.io/no-provisioner", "WaitForFirstConsumer", ""),
        class("made", "example.com/x", "WaitForFirstConsumer", ""),
        volume("elsewhere", "1Gi", &at("n2")),
        volume("here", "2Gi", &at("n1")),
        claim("found", "1Gi", late),
        claim("made", "1Gi", "  storageClassName: made\n"),
    ];
    cluster.apply(&all.concat());
    let unused = "Normal WaitForFirstConsumer: waiting for first consumer to be created before binding";
    wait_until_said(&cluster, "found", unused);
    cluster.apply(&(waiting_user("finder", "found") + &waiting_user("maker", "made")));
    cluster.wait_for("n1", &["get", "pod", "finder", "-o", "jsonpath={.spec.nodeName}"]);
    let found = cluster.json(&["pvc", "found"]);
    assert_eq!((&found["spec"]["volumeName"], &found["status"]["phase"]), (&"here".into(), &"Bound".into()));
    let asked = r"jsonpath={.metadata.annotations.volume\.kubernetes\.io/selected-node} {.metadata.annotations.volume\.kubernetes\.io/storage-provisioner}";
    cluster.wait_for("n1 example.com/x", &["get", "pvc", "made", "-o", asked]);
    assert!(cluster.json(&["pod", "maker"])["spec"]["nodeName"].is_null());
    let uid = cluster.json(&["pvc", "made"])["metadata"]["uid"].as_str().unwrap().to_owned();
    let of_claim =
        format!("{HOST}  storageClassName: made\n  claimRef: {{namespace: default, name: made, uid: {uid}}}\n");
    cluster.apply(&volume("for-made", "1Gi", &of_claim));
    cluster.wait_for("n1", &["get", "pod", "maker", "-o", "jsonpath={.spec.nodeName}"]);
}

#[test]
fn a_node_has_only_so_many_volumes_of_a_driver() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    ready(&cluster, "n1");
    let limit = |count: u32| {
        format!(
            "---\napiVersion: storage.k8s.io/v1\nkind: CSINode\nmetadata: {{name: n1}}\nspec: {{drivers: [{{name: disks.example.com, nodeID: \
             n1, topologyKeys: [], allocatable: {{count: {count}}}}}]}}\n"
        )
    };
    cluster.apply(&[limit(1), of_driver("one", "disks.example.com"), of_driver("two", "disks.example.com")].concat());
    for name in ["one", "two"] {
        wait_for_phase(&cluster, &format!("pvc/{name}"), "Bound");
    }
    cluster.apply(&waiting_user("first", "one"));
    cluster.wait_for("n1", &["get", "pod", "first", "-o", "jsonpath={.spec.nodeName}"]);
    cluster.apply(&waiting_user("second", "two"));
    let full = "Warning FailedScheduling: 0/1 nodes are available: 1 node(s) exceed max volume count. ";
    eventually("a pod that has no place", || {
        let said = cluster.ok(&[
            "get",
            "events",
            "-o",
            r#"jsonpath={range .items[*]}{.type} {.reason}: {.message}{"\n"}{end}"#,
        ]);
        if said.lines().any(|line| line.starts_with(full)) { Ok(()) } else { Err(said) }
    });
    cluster.ok(&["delete", "pod", "first", "--grace-period=0", "--force"]);
    cluster.wait_for("n1", &["get", "pod", "second", "-o", "jsonpath={.spec.nodeName}"]);
}

/// A claim that went with its pod once is not taken for the next pod of that name.
#[test]
fn claims_of_stateful_sets_go_as_they_are_told() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    let set = |name: &str, deleted: &str, scaled: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: {name}}}\nspec:\n  serviceName: {name}\n  replicas: 2\n  \
             podManagementPolicy: Parallel\n  persistentVolumeClaimRetentionPolicy: {{whenDeleted: {deleted}, whenScaled: {scaled}}}\n  \
             selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      containers: \
             [{{name: c, image: kedge.test/x:1}}]\n  volumeClaimTemplates:\n  - metadata: {{name: data}}\n    spec: {{accessModes: \
             [ReadWriteOnce], storageClassName: s, resources: {{requests: {{storage: 1Gi}}}}}}\n"
        )
    };
    cluster.apply(&[set("keeps", "Retain", "Retain"), set("drops", "Delete", "Delete")].concat());
    let claims = |set: &str, wanted: &str| {
        let selector = format!("app={set}");
        cluster.wait_for(wanted, &["get", "pvc", "-l", &selector, "-o", "jsonpath={.items[*].metadata.name}"]);
    };
    let owner = |claim: &str, wanted: &str| {
        cluster.wait_for(wanted, &["get", "pvc", claim, "-o", "jsonpath={.metadata.ownerReferences[*].name}"]);
    };
    for set in ["keeps", "drops"] {
        claims(set, &format!("data-{set}-0 data-{set}-1"));
    }
    owner("data-drops-1", "drops");
    owner("data-keeps-1", "");
    let made = "Normal SuccessfulCreate: Create Claim data-drops-0 Pod drops-0 in StatefulSet drops success";
    wait_until_said(&cluster, "drops", made);
    // What holds the claim back shows that the next pod waits for it to be gone.
    cluster.ok(&[
        "patch",
        "pvc",
        "data-drops-1",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/metadata/finalizers/-","value":"a.test/held"}]"#,
    ]);
    cluster.ok(&["scale", "sts", "keeps", "drops", "--replicas=1"]);
    let leaving = ["get", "pvc", "data-drops-1", "-o", "jsonpath={.metadata.ownerReferences[0].kind}"];
    cluster.wait_for("Pod", &leaving);
    cluster.wait_for("", &["get", "pod", "drops-1", "--ignore-not-found", "-o", "name"]);
    claims("keeps", "data-keeps-0 data-keeps-1");
    let uid = cluster.json(&["pvc", "data-drops-1"])["metadata"]["uid"].clone();
    cluster.ok(&["scale", "sts", "keeps", "drops", "--replicas=2"]);
    cluster.wait_for("keeps-1", &["get", "pod", "keeps-1", "--ignore-not-found", "-o", "jsonpath={.metadata.name}"]);
    assert_eq!(cluster.ok(&["get", "pod", "drops-1", "--ignore-not-found", "-o", "name"]), "");
    cluster.ok(&[
        "patch",
        "pvc",
        "data-drops-1",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/metadata/finalizers"}]"#,
    ]);
    cluster.wait_for("drops-1", &["get", "pod", "drops-1", "--ignore-not-found", "-o", "jsonpath={.metadata.name}"]);
    assert_ne!(cluster.json(&["pvc", "data-drops-1"])["metadata"]["uid"], uid);
    cluster.ok(&["delete", "sts", "keeps", "drops"]);
    claims("drops", "");
    claims("keeps", "data-keeps-0 data-keeps-1");
}
