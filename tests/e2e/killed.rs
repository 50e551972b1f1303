//! Whatever is killed, in whatever order: pods with volumes go on, and nothing is lost, doubled or left behind.
//!
//! A few pods and rounds by default; `KEDGE_TEST_KILL=60x30` takes sixty pods and thirty rounds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

const DEFAULT: (usize, usize) = (4, 3);

/// Pods and rounds.
fn extent() -> (usize, usize) {
    let Ok(text) = std::env::var("KEDGE_TEST_KILL") else { return DEFAULT };
    let (pods, rounds) = text.split_once('x').expect("KEDGE_TEST_KILL is PODSxROUNDS");
    (pods.parse().unwrap(), rounds.parse().unwrap())
}

/// Numbers that look like chance and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

fn set(pods: usize) -> String {
    format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{colour: green}}
---
apiVersion: v1
kind: Secret
metadata: {{name: password}}
stringData: {{p: w}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  replicas: {pods}
  podManagementPolicy: Parallel
  serviceName: db
  selector: {{matchLabels: {{app: db}}}}
  persistentVolumeClaimRetentionPolicy: {{whenDeleted: Delete}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: db
        image: {WEB_1}
        args: [\"echo $(hostname) $(cat /s/colour) $(cat /w/p) >> /data/starts; exec sleep 100000\"]
        volumeMounts:
        - {{name: data, mountPath: /data}}
        - {{name: memory, mountPath: /memory}}
        - {{name: settings, mountPath: /s}}
        - {{name: password, mountPath: /w}}
      volumes:
      - {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
      - {{name: settings, configMap: {{name: settings}}}}
      - {{name: password, secret: {{secretName: password}}}}
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
"
    )
}

/// Processes whose command line holds all of the words.
fn processes(words: &[&str]) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    let matches = |pid: &u32| {
        let line = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        words.iter().all(|word| line.contains(word))
    };
    all.filter(matches).collect()
}

fn kill(pid: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}

struct Host {
    state: PathBuf,
    config: PathBuf,
}

impl Host {
    fn of(cluster: &TestCluster) -> Self {
        let config = cluster.data_dir().join("agent/etc/containerd/config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let state = text.lines().find_map(|l| l.strip_prefix("state = ")).unwrap();
        Self { state: state.trim_matches('"').into(), config }
    }

    fn shims(&self) -> Vec<u32> {
        processes(&["containerd-shim", self.state.to_str().unwrap()])
    }

    fn containerd(&self) -> Vec<u32> {
        processes(&["containerd --config", self.config.to_str().unwrap()])
    }
}

/// What a node has of its pods.
#[derive(Debug, PartialEq, Eq)]
struct Things {
    shims: usize,
    veths: usize,
    mounts: usize,
    directories: usize,
    groups: usize,
}

fn things(cluster: &TestCluster, host: &Host) -> Things {
    let kubelet = cluster.data_dir().join("agent/kubelet");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let links = Command::new("ip").args(["-o", "link", "show", "type", "veth"]).output().unwrap();
    let directories = |path: &Path| std::fs::read_dir(path).map_or(0, Iterator::count);
    let groups = ["/sys/fs/cgroup/memory/kubepods", "/sys/fs/cgroup/kubepods"].map(|top| groups(Path::new(top)));
    Things {
        shims: host.shims().len(),
        veths: String::from_utf8_lossy(&links.stdout).lines().count(),
        mounts: mounts.lines().filter(|line| line.contains(kubelet.to_str().unwrap())).count(),
        directories: directories(&kubelet.join("pods")),
        groups: groups.into_iter().sum(),
    }
}

/// Groups of pods.
fn groups(top: &Path) -> usize {
    let of = |path: PathBuf| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().starts_with("pod")).count()
    };
    of(top.join("burstable")) + of(top.join("besteffort")) + of(top.to_path_buf())
}

/// Waits until all pods run, each once; `others` are groups of other nodes' pods on this host.
fn settled(cluster: &TestCluster, host: &Host, pods: usize, others: usize) {
    eventually("all pods run, and nothing else", || {
        let list = cluster.kubectl(&["get", "pods", "-o", "json"]);
        let list: Value = serde_json::from_slice(&list.stdout).map_err(|error| error.to_string())?;
        let items = list["items"].as_array().unwrap();
        let ready = items.iter().filter(|pod| pod["status"]["containerStatuses"][0]["ready"] == true).count();
        let things = things(cluster, host);
        // Of each pod: one shim, one cable, memory, secret and token in memory, one directory, one group.
        let wanted = Things { shims: pods, veths: pods, mounts: 3 * pods, directories: pods, groups: pods + others };
        if items.len() == pods && ready == pods && things == wanted {
            return Ok(());
        }
        let stuck = items.iter().find(|pod| pod["status"]["containerStatuses"][0]["ready"] != true);
        Err(format!(
            "{ready} of {} are ready, {things:?}: {}",
            items.len(),
            stuck.map(|p| p["status"].to_string()).unwrap_or_default()
        ))
    });
}

/// What each pod has written down of its starts.
fn starts(cluster: &TestCluster) -> Vec<(String, usize)> {
    let storage = std::fs::read_dir(cluster.data_dir().join("storage")).unwrap();
    let mut all: Vec<(String, usize)> = storage
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(path.join("starts")).unwrap();
            let lines: BTreeSet<&str> = text.lines().collect();
            assert_eq!(lines.len(), 1, "a directory is one pod's, with all it mounts: {lines:?}");
            assert!(text.ends_with("green w\n"), "{text}");
            (text.lines().next().unwrap().to_owned(), text.lines().count())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn nothing_is_lost_doubled_or_left_when_anything_is_killed() {
    let (pods, rounds) = extent();
    let mut cluster = TestCluster::node();
    let host = Host::of(&cluster);
    let before = things(&cluster, &host);
    assert_eq!((before.veths, before.directories), (0, 0), "the host is not clean: {before:?}");
    cluster.apply(&set(pods));
    settled(&cluster, &host, pods, before.groups);
    let mut known = starts(&cluster);
    assert_eq!(known.len(), pods);
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut dice = Dice(seed);
    for round in 0..rounds {
        let mut killed = Vec::new();
        for _ in 0..=dice.roll(3) {
            let what = dice.roll(3);
            killed.push(["kedge", "containerd", "shims"][what]);
            match what {
                0 => {
                    cluster.kill();
                    cluster.start();
                }
                1 => host.containerd().into_iter().for_each(kill),
                _ => {
                    let shims = host.shims();
                    let count = 1 + dice.roll(1 + pods / 4);
                    (0..count.min(shims.len())).for_each(|_| kill(shims[dice.roll(shims.len())]));
                }
            }
        }
        eprintln!("seed {seed}, round {round}: killed {killed:?}");
        settled(&cluster, &host, pods, before.groups);
        let now = starts(&cluster);
        assert!(
            now.iter().zip(&known).all(|(now, before)| now.0 == before.0 && now.1 >= before.1),
            "{known:?} {now:?}"
        );
        known = now;
    }
    cluster.ok(&["delete", "statefulset", "db", "--timeout=180s"]);
    eventually("nothing is left", || {
        let things = things(&cluster, &host);
        let volumes = cluster.ok(&["get", "pv", "-o", "name"]);
        let storage = std::fs::read_dir(cluster.data_dir().join("storage")).unwrap().count();
        let clean = Things { shims: 0, veths: 0, mounts: 0, directories: 0, groups: before.groups };
        if things == clean && volumes.is_empty() && storage == 0 {
            return Ok(());
        }
        Err(format!("{things:?}, {storage} directories, {volumes}"))
    });
}
