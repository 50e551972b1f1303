//! Static pods from their file to their end, and their images, on an API and a runtime in memory.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use kedge_base::{system_clock, time};
use kedge_cri::{Runtime, v1};
use serde_json::Value;

use super::tests::Cluster;

const MIRROR: &str = "/api/v1/namespaces/default/pods/s-n";
const LIMIT: Duration = Duration::from_secs(20);

fn write(cluster: &Cluster, name: &str, args: &str) {
    let directory = cluster.directory.path().join("manifests");
    std::fs::create_dir_all(&directory).unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: s}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: \
         [{{name: c, image: 'i:1', args: [{args}]}}]\n"
    );
    // Put in place whole, as whoever makes manifests should.
    let draft = directory.join(".draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, directory.join(name)).unwrap();
}

async fn running(cluster: &Cluster) -> Vec<String> {
    let all = cluster.runtime.list_containers(Default::default()).await.unwrap();
    let runs = |c: &v1::Container| c.state == v1::ContainerState::ContainerRunning as i32;
    all.into_iter().filter(runs).map(|c| c.id).collect()
}

async fn until<F: Future<Output = bool>>(cluster: &Cluster, what: &str, holds: impl Fn() -> F) {
    let clock = system_clock();
    let wait = async {
        while !holds().await {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    if time::timeout(LIMIT, wait).await.is_err() {
        panic!("not {what}: {:#?}, calls {:?}", cluster.api.get(MIRROR), cluster.runtime.calls());
    }
}

async fn mirror(cluster: &Cluster, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(cluster, what, || std::future::ready(holds(&cluster.api.get(MIRROR).unwrap_or_default()))).await;
    cluster.api.get(MIRROR).unwrap_or_default()
}

fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_makes_a_pod_with_an_image_and_ends_both() {
    let cluster = Cluster::new().await;
    write(&cluster, "s.yaml", "a");
    let first = mirror(&cluster, "running", is_running).await;
    let hash = first["metadata"]["annotations"]["kubernetes.io/config.mirror"].as_str().unwrap().to_owned();
    assert_eq!(first["metadata"]["annotations"]["kubernetes.io/config.hash"], hash.as_str());
    assert_eq!(first["metadata"]["ownerReferences"][0]["kind"], "Node");
    let before = running(&cluster).await;
    assert_eq!(before.len(), 1);

    // Somebody deletes the image: it comes back, with its status, and the pod runs on.
    cluster.api.remove(MIRROR);
    let uid = first["metadata"]["uid"].clone();
    let second = mirror(&cluster, "back", |pod| is_running(pod) && pod["metadata"]["uid"] != uid).await;
    assert_eq!(second["metadata"]["annotations"]["kubernetes.io/config.mirror"], hash.as_str());
    assert_eq!(running(&cluster).await, before);

    // The file says something else: that runs, after what it said before has ended.
    write(&cluster, "s.yaml", "b");
    let other =
        |pod: &Value| is_running(pod) && pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] != hash.as_str();
    mirror(&cluster, "another", other).await;
    until(&cluster, "replaced", || async {
        let now = running(&cluster).await;
        now.len() == 1 && now != before
    })
    .await;

    // And back again at once, while the one before may still be on its way out.
    write(&cluster, "s.yaml", "a");
    mirror(&cluster, "as at first", |pod| {
        is_running(pod) && pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] == hash.as_str()
    })
    .await;

    std::fs::remove_file(cluster.directory.path().join("manifests/s.yaml")).unwrap();
    mirror(&cluster, "gone", Value::is_null).await;
    until(&cluster, "ended", || async {
        cluster.runtime.list_pod_sandboxes(Default::default()).await.unwrap().is_empty()
    })
    .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn static_pods_run_while_nobody_answers_and_are_found_again() {
    let mut cluster = Cluster::new().await;
    cluster.restart(|cluster| cluster.api.set_away(true)).await;
    write(&cluster, "s.yaml", "a");
    until(&cluster, "running without the API", || async { running(&cluster).await.len() == 1 }).await;
    let before = running(&cluster).await;
    // It ends, and is started again all the same.
    cluster.runtime.exit(&before[0], 1);
    until(&cluster, "restarted", || async { running(&cluster).await.len() == 1 && running(&cluster).await != before })
        .await;
    let before = running(&cluster).await;
    cluster.restart(|_| ()).await;
    cluster.api.set_away(false);
    mirror(&cluster, "told when the API is back", is_running).await;
    assert_eq!(running(&cluster).await, before, "the same container");
    // What went while no kubelet ran is ended, and so is its image.
    cluster.restart(|cluster| std::fs::remove_file(cluster.directory.path().join("manifests/s.yaml")).unwrap()).await;
    mirror(&cluster, "gone", Value::is_null).await;
    until(&cluster, "ended", || async { running(&cluster).await.is_empty() }).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_an_event_of_the_node_and_keeps_no_other_from_running() {
    let cluster = Cluster::new().await;
    write(&cluster, "s.yaml", "a");
    std::fs::write(cluster.directory.path().join("manifests/bad.yaml"), "{").unwrap();
    mirror(&cluster, "running", is_running).await;
    until(&cluster, "told", || async {
        let events = cluster.api.list("/api/v1/namespaces/default/events/");
        events.iter().any(|e| e["reason"] == "FailedValidation" && e["message"].as_str().unwrap().contains("bad.yaml"))
    })
    .await;
    cluster.end().await;
}
