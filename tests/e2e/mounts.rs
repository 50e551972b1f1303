//! Mounts: how they spread between host and containers, what is read-only, parts of volumes, and bad ones.

use std::path::Path;
use std::process::Command;

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {out:?}");
}

/// A directory of the host whose mounts spread; everything below it is unmounted when dropped.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_string_lossy().into_owned();
        run("mount", &["--bind", &path, &path]);
        let shared = Self(dir);
        run("mount", &["--make-private", &path]);
        run("mount", &["--make-shared", &path]);
        shared
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let all = mounts.lines().filter_map(|l| l.split(' ').nth(1));
        all.filter(|m| Path::new(m).starts_with(self.path())).map(str::to_owned).collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for mount in self.mounts().iter().rev() {
            // What is in use goes when its last user does.
            let _ = Command::new("umount").args(["-l", mount]).status();
        }
    }
}

fn sh(cluster: &TestCluster, container: &str, script: &str) -> String {
    cluster.ok(&["exec", "p", "-c", container, "--", "sh", "-c", script]).trim().to_owned()
}

fn ready(cluster: &TestCluster) {
    cluster.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=180s"]);
}

#[test]
fn mounts_spread_as_they_are_told() {
    let shared = Shared::new();
    // After the directory, so that it goes before it.
    let cluster = TestCluster::node();
    let host = shared.path().to_string_lossy().into_owned();
    let container = |name: &str, more: &str, mount: &str| {
        format!(
            "  - {{name: {name}, image: {WEB_1}, args: [\"exec sleep 3600\"]{more}, volumeMounts: [{{name: host, \
             mountPath: /shared{mount}}}]}}\n"
        )
    };
    let privileged = ", securityContext: {privileged: true}";
    let containers = [
        container("both", privileged, ", mountPropagation: Bidirectional"),
        container("receives", "", ", mountPropagation: HostToContainer"),
        container("alone", "", ""),
    ];
    let pod = |containers: &str| {
        format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
{containers}  volumes: [{{name: host, hostPath: {{path: {host}, type: Directory}}}}]
"
        )
    };
    cluster.apply(&pod(&containers.concat()));
    ready(&cluster);
    sh(
        &cluster,
        "both",
        "mkdir /shared/inside && mount -t tmpfs inside /shared/inside && echo yes > /shared/inside/it",
    );
    assert!(shared.mounts().iter().any(|m| m.ends_with("/inside")), "{:?}", shared.mounts());
    assert_eq!(std::fs::read_to_string(shared.path().join("inside/it")).unwrap(), "yes\n");
    let outside = shared.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    run("mount", &["-t", "tmpfs", "outside", &outside.to_string_lossy()]);
    std::fs::write(outside.join("it"), "yes\n").unwrap();
    let look = "cat /shared/inside/it /shared/outside/it 2>/dev/null | wc -l";
    for (name, seen) in [("both", "2"), ("receives", "2"), ("alone", "0")] {
        assert_eq!(sh(&cluster, name, look), seen, "{name}");
    }
    cluster.ok(&["delete", "pod", "p", "--timeout=180s"]);
    assert_eq!(std::fs::read_to_string(outside.join("it")).unwrap(), "yes\n", "the host's own stays");
    let path = cluster.file("spreads.yaml", &pod(&container("both", "", ", mountPropagation: Bidirectional")));
    let said = cluster.fails(&["apply", "-f", &path.to_string_lossy()]);
    assert!(said.contains("Bidirectional mount propagation is available only to privileged containers"), "{said}");
}

#[test]
fn parts_of_volumes_and_what_may_only_be_read() {
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(host.path().join("a/b")).unwrap();
    std::fs::write(host.path().join("a/b/deep"), "deep").unwrap();
    std::fs::write(host.path().join("secret"), "secret").unwrap();
    let cluster = TestCluster::node();
    cluster.ok(&["create", "configmap", "settings", "--from-literal=colour=green", "--from-literal=size=large"]);
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {WEB_1}
    args: [\"exec sleep 3600\"]
    env: [{{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
    volumeMounts:
    - {{name: host, mountPath: /readable, readOnly: true}}
    - {{name: host, mountPath: /part, subPath: a/b}}
    - {{name: host, mountPath: /part-readable, subPath: a, readOnly: true}}
    - {{name: host, mountPath: /made, subPathExpr: made-for-$(POD)}}
    - {{name: settings, mountPath: /etc/colour, subPath: colour}}
    - {{name: scratch, mountPath: /scratch}}
    - {{name: scratch, mountPath: /scratch-readable, readOnly: true}}
  volumes:
  - {{name: host, hostPath: {{path: {host}}}}}
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: scratch, emptyDir: {{}}}}
",
        host = host.path().display()
    ));
    ready(&cluster);
    let sh = |script: &str| sh(&cluster, "main", script);
    assert_eq!(sh("cat /readable/secret; cat /part/deep; cat /part-readable/b/deep"), "secretdeepdeep");
    assert_eq!(sh("cat /etc/colour; ls /etc/size 2>/dev/null; ls /part"), "greendeep");
    for place in ["/readable", "/part-readable", "/scratch-readable", "/etc/colour"] {
        let said = sh(&format!("(test -d {place} && touch {place}/x || echo x > {place}) 2>&1; true"));
        assert!(said.contains("Read-only file system"), "{place}: {said}");
    }
    sh("echo written > /part/w && echo written > /made/w && echo written > /scratch/w");
    assert_eq!(sh("cat /scratch-readable/w"), "written");
    assert_eq!(std::fs::read_to_string(host.path().join("a/b/w")).unwrap(), "written\n");
    assert_eq!(std::fs::read_to_string(host.path().join("made-for-p/w")).unwrap(), "written\n");
}

/// A pod with one container, its mounts and its volumes.
fn pod(name: &str, mounts: &str, volumes: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: c, image: {WEB_1}, args: [\"sleep 3600\"], volumeMounts: [{mounts}]}}]\n  volumes: \
         [{volumes}]\n"
    )
}

#[test]
fn the_api_names_what_is_wrong_with_a_volume() {
    let cluster = TestCluster::control_plane();
    let empty = "{name: v, emptyDir: {}}";
    for (mounts, volumes, named) in [
        ("{name: nope, mountPath: /x}", empty, "spec.containers[0].volumeMounts[0].name: Not found: \"nope\""),
        ("{name: v}", empty, "spec.containers[0].volumeMounts[0].mountPath: Required value"),
        (
            "{name: v, mountPath: /x}, {name: v, mountPath: /x}",
            empty,
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
        ),
        (
            "{name: v, mountPath: /x, subPath: ../up}",
            empty,
            "spec.containers[0].volumeMounts.subPath: Invalid value: \"../up\": must not contain '..'",
        ),
        (
            "{name: v, mountPath: /x, subPath: /abs}",
            empty,
            "spec.containers[0].volumeMounts.subPath: Invalid value: \"/abs\": must be a relative path",
        ),
        (
            "{name: v, mountPath: /x, mountPropagation: Sideways}",
            empty,
            "spec.containers[0].volumeMounts.mountPropagation: Unsupported value: \"Sideways\"",
        ),
        ("", "{name: v, emptyDir: {}}, {name: v, emptyDir: {}}", "spec.volumes[1].name: Duplicate value: \"v\""),
        (
            "",
            "{name: v, emptyDir: {}, hostPath: {path: /}}",
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        ("", "{name: v, hostPath: {path: /a/../b}}", "must not contain '..'"),
        ("", "{name: v, hostPath: {path: /, type: Odd}}", "spec.volumes[0].hostPath.type: Unsupported value: \"Odd\""),
        ("", "{name: V_, emptyDir: {}}", "spec.volumes[0].name: Invalid value: \"V_\""),
        ("", "{name: v, emptyDir: {sizeLimit: -1}}", "spec.volumes[0].emptyDir.sizeLimit"),
    ] {
        let path = cluster.file("bad.yaml", &pod("bad", mounts, volumes));
        let said = cluster.fails(&["create", "-f", &path.to_string_lossy()]);
        assert!(said.contains(named), "{mounts} {volumes}: {said}");
    }
}

#[test]
fn the_node_names_what_is_wrong_with_a_volume() {
    let host = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc", host.path().join("away")).unwrap();
    let host = host.path().display();
    let cluster = TestCluster::node();
    cluster.apply(&pod("absent", "", &format!("{{name: v, hostPath: {{path: {host}/absent, type: Directory}}}}")));
    cluster.apply(&pod(
        "leads-away",
        "{name: v, mountPath: /x, subPath: away/ssl}",
        &format!("{{name: v, hostPath: {{path: {host}}}}}"),
    ));
    cluster.apply(&pod("no-secret", "{name: v, mountPath: /x}", "{name: v, secret: {secretName: none}}"));
    let told = |pod: &str, words: &[&str]| {
        eventually(&format!("{words:?} in the events of {pod}"), || {
            let events = cluster.ok(&["events", "--for", &format!("pod/{pod}")]);
            if words.iter().all(|w| events.contains(w)) { Ok(()) } else { Err(events) }
        });
    };
    told("absent", &["FailedMount", "hostPath type check failed", "is not a directory"]);
    told("no-secret", &["FailedMount", "MountVolume.SetUp failed for volume \"v\"", "secret \"none\" not found"]);
    told("leads-away", &["Failed", "subPath", "\"v\""]);
    let waiting = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    cluster.wait_for("CreateContainerConfigError", &["get", "pod", "leads-away", "-o", waiting]);
    cluster.wait_for("ContainerCreating", &["get", "pod", "absent", "-o", waiting]);
    // What was missing is found when it appears.
    cluster.ok(&["create", "secret", "generic", "none", "--from-literal=a=b"]);
    std::fs::create_dir(format!("{host}/absent")).unwrap();
    cluster.ok(&["wait", "--for=condition=Ready", "pod/no-secret", "pod/absent", "--timeout=180s"]);
}
