//! Volumes on the real kernel. They need root, so that they are run on demand: `cargo test -- --ignored kernel`.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use kedge_base::{Shutdown, TaskGroup, system_clock};
use kedge_client::{Body, BoxError, Client, Transport};
use serde_json::{Value, json};

use super::{
    Directories, KernelMounter, MountPlan, Mounter, Tokens, Tools, Volumes, container_mounts, referenced_objects,
};
use crate::csi::Csi;
use crate::files::Files;
use crate::generate::Machine;
use crate::objects::Objects;
use crate::pod::PodExt;
use crate::pod::testing::pod;

/// Answers with one ConfigMap, one Secret and a token, whatever is asked for; watches end at once.
struct Api;

fn answer(path: &str) -> Value {
    let meta = |name: &str| json!({"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"});
    let list = |item: Value| json!({"metadata": {"resourceVersion": "1"}, "items": [item]});
    if path.ends_with("/token") {
        return json!({"status": {"token": "t0ken", "expirationTimestamp": "2126-01-01T00:00:00Z"}});
    }
    if path.contains("/secrets") {
        return list(json!({"metadata": meta("s"), "data": {"k": "c2VjcmV0"}}));
    }
    list(json!({"metadata": meta("m"), "data": {"k": "plain"}}))
}

#[async_trait::async_trait]
impl Transport for Api {
    async fn send(&self, request: http::Request<bytes::Bytes>) -> Result<http::Response<Body>, BoxError> {
        if request.uri().query().is_some_and(|q| q.contains("watch=true")) {
            std::future::pending::<()>().await;
        }
        let bytes = answer(request.uri().path()).to_string();
        let full = http_body_util::Full::new(bytes::Bytes::from(bytes));
        let body = http_body_util::BodyExt::map_err(full, |never| match never {});
        Ok(http::Response::new(http_body_util::BodyExt::boxed_unsync(body)))
    }
}

fn volumes(root: &Path, tasks: &TaskGroup) -> Volumes {
    let client = Client::new(Arc::new(Api));
    let nothing: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(|_| {});
    let (directories, files) = (Directories::new(root), Files::new(system_clock(), tasks.ledger()));
    let tokens = Arc::new(Tokens::new(client.clone(), system_clock()));
    let csi = Csi::new(
        client.clone(),
        system_clock(),
        files.clone(),
        directories.clone(),
        "node".into(),
        false,
        tokens.clone(),
        tasks.clone(),
    );
    Volumes::new(Tools {
        client: client.clone(),
        clock: system_clock(),
        directories,
        mounter: Arc::new(KernelMounter),
        files,
        config_maps: Arc::new(Objects::config_maps(client.clone(), tasks, nothing.clone())),
        secrets: Arc::new(Objects::secrets(client, tasks, nothing)),
        machine: Arc::new(Machine { memory: 1 << 30, ..Machine::default() }),
        tokens,
        csi: Arc::new(csi),
        boot: "boot".into(),
    })
}

#[tokio::test]
async fn kernel_a_pods_volumes_come_and_go() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: left out");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let tasks = TaskGroup::new("test", Shutdown::new());
    let volumes = volumes(root.path(), &tasks);
    let projected = json!([{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "m"}},
        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]);
    let mounts = json!([{"name": "d", "mountPath": "/d", "subPath": "a/b"}, {"name": "m", "mountPath": "/m/k", "subPath": "k"},
        {"name": "t", "mountPath": "/t"}, {"name": "p", "mountPath": "/p", "readOnly": true}]);
    let pod = pod(json!({
        "securityContext": {"fsGroup": 4321},
        "containers": [{"name": "c", "volumeMounts": mounts}],
        "volumes": [{"name": "d", "emptyDir": {}}, {"name": "t", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "m", "configMap": {"name": "m"}}, {"name": "s", "secret": {"secretName": "s"}},
            {"name": "p", "projected": {"sources": projected}}]}));
    let (maps, secrets) = referenced_objects(&pod);
    volumes.register_for_test("u", "ns", &maps, &secrets);
    let mounted = volumes.set_up(&pod).await.unwrap();
    assert_eq!(fs::read_to_string(mounted["m"].path.join("k")).unwrap(), "plain");
    assert_eq!(fs::read_to_string(mounted["s"].path.join("k")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(mounted["p"].path.join("token")).unwrap(), "t0ken");
    assert_eq!(fs::read_to_string(mounted["p"].path.join("ns")).unwrap(), "ns");
    let token = fs::metadata(mounted["p"].path.join("token")).unwrap();
    assert_eq!((token.mode() & 0o777, token.gid()), (0o640, 4321));
    assert_eq!(fs::metadata(&mounted["d"].path).unwrap().mode() & 0o7777, 0o2777);
    for volume in ["t", "s", "p"] {
        assert!(KernelMounter.is_mounted(&mounted[volume].path).unwrap(), "{volume}");
    }
    assert!(volumes.set_up(&pod).await.is_ok(), "setting up again changes nothing");

    let directories = Directories::new(root.path());
    let plan = || MountPlan {
        pod: &pod,
        container: &PodExt::spec(&pod).containers[0],
        volumes: &mounted,
        env: &[],
        directories: &directories,
    };
    let prepared = || {
        let (mounts, sub_paths) = container_mounts(&plan()).unwrap();
        sub_paths.iter().for_each(|sub| sub.prepare(volumes.mounter().as_ref()).unwrap());
        mounts
    };
    let before = prepared();
    assert_eq!(prepared(), before, "preparing again changes nothing");
    fs::write(Path::new(&before[0].host_path).join("f"), "x").unwrap();
    assert_eq!(fs::read_to_string(mounted["d"].path.join("a/b/f")).unwrap(), "x");
    assert_eq!(fs::read_to_string(&before[1].host_path).unwrap(), "plain");
    let read_only: Vec<bool> = before.iter().map(|m| m.readonly).collect();
    assert_eq!(read_only, [false, true, false, true], "what is projected is read-only, asked for or not");

    volumes.tear_down("u").await.unwrap();
    assert!(!root.path().join("pods/u").exists());
    assert!(KernelMounter.mounts_below(root.path()).unwrap().is_empty());
    let _: HashMap<String, super::MountedVolume> = mounted;
    tasks.shutdown().trigger();
}
