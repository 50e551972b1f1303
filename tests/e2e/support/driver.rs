//! A storage driver for tests, after the sample driver of CSI: volumes are directories and loop devices of this machine.
//!
//! It has both sides: the node's, which registers with the kubelet and is called over its socket, and what sidecars do for the other one:
//! volumes are made for claims, attached, made larger and removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use kedge_client::{Client, DeleteOptions, List, ListParams, Patch};
use kedge_csi::registration::registration_server::{Registration, RegistrationServer};
use kedge_csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use kedge_csi::v1;
use kedge_csi::v1::node_server::{Node, NodeServer};
use kedge_csi::v1::node_service_capability::rpc::Type as Can;
use kedge_csi::v1::volume_capability::AccessType;
use kedge_meta::{Resource, resources};
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

pub const NAME: &str = "csi.kedge.test";
const SETTLE: Duration = Duration::from_millis(50);
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// What it was asked, in order: the call, and what is worth a look.
#[derive(Clone, Debug)]
pub struct Asked {
    pub call: &'static str,
    pub context: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    registered: Option<bool>,
    /// Calls that fail, and with what.
    failing: BTreeMap<&'static str, String>,
}

#[derive(Clone)]
struct Service {
    root: PathBuf,
    endpoint: PathBuf,
    state: Arc<Mutex<State>>,
}

/// A driver that runs in this process.
pub struct Driver {
    service: Service,
    registration: PathBuf,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    dir: tempfile::TempDir,
}

fn run(program: &str, args: &[&str]) -> Result<String, Status> {
    let out = Command::new(program).args(args).output().map_err(|error| Status::internal(error.to_string()))?;
    if !out.status.success() {
        return Err(Status::internal(format!("{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr))));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Driver {
    /// Starts it, for the kubelet of `kubelet` and the API of `kubeconfig`.
    pub fn start(kubelet: &Path, kubeconfig: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("kedge-csi-").tempdir().unwrap();
        let endpoint = dir.path().join("csi.sock");
        let service = Service { root: dir.path().join("volumes"), endpoint, state: Arc::default() };
        std::fs::create_dir_all(&service.root).unwrap();
        let registration = kubelet.join("plugins_registry").join(format!("{NAME}-reg.sock"));
        let mut driver = Self { service, registration, stop: Arc::default(), threads: Vec::new(), dir };
        driver.serve();
        let client = Client::from_kubeconfig(kubeconfig).unwrap();
        let (service, stop) = (driver.service.clone(), driver.stop.clone());
        driver.threads.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(sidecars(client, service, stop));
        }));
        driver
    }

    fn serve(&mut self) {
        for (path, registers) in [(self.service.endpoint.clone(), false), (self.registration.clone(), true)] {
            let _ = std::fs::remove_file(&path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let (service, stop) = (self.service.clone(), self.stop.clone());
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            self.threads.push(std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                    let incoming = futures::stream::unfold(listener, |listener| async move {
                        let accepted = listener.accept().await.map(|(stream, _)| stream);
                        Some((accepted, listener))
                    });
                    let stopped = async move {
                        while !stop.load(Ordering::Relaxed) {
                            tokio::time::sleep(SETTLE).await;
                        }
                    };
                    let mut server = tonic::transport::Server::builder();
                    let router = if registers {
                        server.add_service(RegistrationServer::new(service))
                    } else {
                        server.add_service(NodeServer::new(service))
                    };
                    tokio::select! {
                        served = router.serve_with_incoming(incoming) => served.unwrap(),
                        () = stopped => {}
                    }
                });
            }));
        }
    }

    /// Whether the kubelet has taken it in.
    pub fn registered(&self) -> Option<bool> {
        self.service.state.lock().unwrap().registered
    }

    /// What it was asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.service.state.lock().unwrap().asked.clone()
    }

    /// How often a call was made.
    pub fn count(&self, call: &str) -> usize {
        self.asked().iter().filter(|asked| asked.call == call).count()
    }

    /// From now on that call fails, until `None`.
    pub fn fail(&self, call: &'static str, why: Option<&str>) {
        let mut state = self.service.state.lock().unwrap();
        match why {
            Some(why) => state.failing.insert(call, why.to_owned()),
            None => state.failing.remove(call),
        };
    }

    /// The volumes that there are.
    pub fn volumes(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.service.root).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Whether anything of its volumes is still mounted, or a device of a loop.
    pub fn left(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounted = mounts.lines().filter(|line| line.contains(text(self.dir.path()))).map(str::to_owned);
        mounted.chain(loops(self.dir.path())).collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.registration);
        for device in loops(self.dir.path()) {
            let _ = Command::new("losetup").args(["-d", &device]).status();
        }
    }
}

/// Devices whose files lie below a directory.
fn loops(directory: &Path) -> Vec<String> {
    let list = Command::new("losetup").args(["-l", "-n", "-O", "NAME,BACK-FILE"]).output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let ours = list.lines().filter(|line| line.contains(text(directory)));
    ours.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[tonic::async_trait]
impl Registration for Service {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".into(),
            name: NAME.into(),
            endpoint: text(&self.endpoint).into(),
            supported_versions: vec!["1.0.0".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        self.state.lock().unwrap().registered = Some(request.into_inner().plugin_registered);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

impl Service {
    fn note(
        &self,
        call: &'static str,
        volume: &str,
        context: impl IntoIterator<Item = (String, String)>,
    ) -> Result<PathBuf, Status> {
        let mut state = self.state.lock().unwrap();
        let context = context.into_iter().collect();
        state.asked.push(Asked { call, context });
        match state.failing.get(call) {
            Some(why) => Err(Status::internal(why.clone())),
            None => Ok(self.root.join(volume)),
        }
    }

    /// The loop device of a volume.
    fn device(&self, volume: &Path) -> Result<String, Status> {
        let file = volume.join("block");
        let found = run("losetup", &["-n", "-O", "NAME", "-j", text(&file)])?;
        if found.is_empty() { run("losetup", &["-f", "--show", text(&file)]) } else { Ok(found) }
    }
}

fn bind(from: &Path, to: &Path) -> Result<(), Status> {
    if is_mounted(to) {
        return Ok(());
    }
    run("mount", &["--bind", text(from), text(to)]).map(drop)
}

fn unbind(path: &Path) -> Result<(), Status> {
    if is_mounted(path) { run("umount", &[text(path)]).map(drop) } else { Ok(()) }
}

fn is_block(capability: Option<v1::VolumeCapability>) -> bool {
    matches!(capability.and_then(|c| c.access_type), Some(AccessType::Block(_)))
}

#[tonic::async_trait]
impl Node for Service {
    async fn node_stage_volume(
        &self,
        request: Request<v1::NodeStageVolumeRequest>,
    ) -> Result<Response<v1::NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = self.note("stage", &request.volume_id, request.publish_context)?;
        if is_block(request.volume_capability) {
            self.device(&volume)?;
        } else {
            bind(&volume, Path::new(&request.staging_target_path))?;
        }
        Ok(Response::new(v1::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Result<Response<v1::NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = self.note("unstage", &request.volume_id, [])?;
        unbind(Path::new(&request.staging_target_path))?;
        for device in loops(&volume) {
            run("losetup", &["-d", &device])?;
        }
        Ok(Response::new(v1::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<v1::NodePublishVolumeRequest>,
    ) -> Result<Response<v1::NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let ephemeral = request.volume_context.get("csi.storage.k8s.io/ephemeral").is_some_and(|e| e == "true");
        let volume = self.note("publish", &request.volume_id, request.volume_context.clone())?;
        let target = Path::new(&request.target_path);
        if ephemeral {
            std::fs::create_dir_all(&volume)?;
            let tokens = request.volume_context.get("csi.storage.k8s.io/serviceAccount.tokens");
            std::fs::write(volume.join("tokens"), tokens.map(String::as_str).unwrap_or_default())?;
        }
        if is_block(request.volume_capability) {
            let device = self.device(&volume)?;
            std::fs::write(target, "").or_else(|error| if is_mounted(target) { Ok(()) } else { Err(error) })?;
            bind(Path::new(&device), target)?;
        } else {
            std::fs::create_dir_all(target)?;
            let from = if ephemeral { volume.as_path() } else { Path::new(&request.staging_target_path) };
            bind(from, target)?;
        }
        Ok(Response::new(v1::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<v1::NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = self.note("unpublish", &request.volume_id, [])?;
        let target = Path::new(&request.target_path);
        unbind(target)?;
        if target.is_dir() {
            std::fs::remove_dir(target)?
        } else if target.exists() {
            std::fs::remove_file(target)?
        }
        if volume.join("tokens").exists() {
            std::fs::remove_dir_all(volume)?;
        }
        Ok(Response::new(v1::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        _: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<v1::NodeGetVolumeStatsResponse>, Status> {
        Err(Status::unimplemented("no figures"))
    }

    async fn node_expand_volume(
        &self,
        request: Request<v1::NodeExpandVolumeRequest>,
    ) -> Result<Response<v1::NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.capacity_range.map(|range| range.required_bytes).unwrap_or_default();
        let volume = self.note("expand", &request.volume_id, [("bytes".to_owned(), bytes.to_string())])?;
        std::fs::write(volume.join("size"), bytes.to_string())?;
        Ok(Response::new(v1::NodeExpandVolumeResponse { capacity_bytes: bytes }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<v1::NodeGetCapabilitiesResponse>, Status> {
        let can = |can: Can| v1::NodeServiceCapability {
            r#type: Some(v1::node_service_capability::Type::Rpc(v1::node_service_capability::Rpc {
                r#type: can as i32,
            })),
        };
        let capabilities = vec![can(Can::StageUnstageVolume), can(Can::ExpandVolume)];
        Ok(Response::new(v1::NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<v1::NodeGetInfoRequest>,
    ) -> Result<Response<v1::NodeGetInfoResponse>, Status> {
        let segments = [("topology.csi.kedge.test/node".to_owned(), "here".to_owned())].into();
        Ok(Response::new(v1::NodeGetInfoResponse {
            node_id: "id-of-the-node".into(),
            max_volumes_per_node: 7,
            accessible_topology: Some(v1::Topology { segments }),
        }))
    }
}

/// What the sidecars of a driver do beside the API.
async fn sidecars(client: Client, service: Service, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        // What fails is tried again: the server may be away, and others write, too.
        for claim in list(&client, &resources::PERSISTENT_VOLUME_CLAIMS).await {
            let _ = provision(&client, &service, &claim).await;
        }
        for volume in list(&client, &resources::PERSISTENT_VOLUMES).await {
            let _ = remove(&client, &service, &volume).await;
        }
        for attachment in list(&client, &resources::VOLUME_ATTACHMENTS).await {
            let _ = attach(&client, &attachment).await;
        }
        tokio::time::sleep(SETTLE).await;
    }
}

async fn list(client: &Client, of: &Resource) -> Vec<Value> {
    let listed: Result<List<Value>, _> = client.list(of, "", &ListParams::default()).await;
    listed.map(|list| list.items).unwrap_or_default()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

async fn provision(client: &Client, service: &Service, claim: &Value) -> Result<(), kedge_client::Error> {
    let meta = &claim["metadata"];
    if meta["annotations"][PROVISIONER] != NAME {
        return Ok(());
    }
    let namespace = meta["namespace"].as_str().unwrap_or_default();
    let size = &claim["spec"]["resources"]["requests"]["storage"];
    if let Some(volume) = claim["spec"]["volumeName"].as_str().filter(|v| !v.is_empty()) {
        let found: Value = client.get(&resources::PERSISTENT_VOLUMES, "", volume).await?;
        if claim["status"]["phase"] == "Bound" && found["spec"]["capacity"]["storage"] != *size {
            let grown = Patch::Merge(json!({"spec": {"capacity": {"storage": size}}}));
            let _: Value = client.patch(&resources::PERSISTENT_VOLUMES, "", volume, grown, None).await?;
            let condition = json!([{"type": "FileSystemResizePending", "status": "True"}]);
            let waits = Patch::Merge(json!({"status": {"conditions": condition}}));
            let claims = &resources::PERSISTENT_VOLUME_CLAIMS;
            let _: Value = client.patch(claims, namespace, name(claim), waits, Some("status")).await?;
        }
        return Ok(());
    }
    let class = claim["spec"]["storageClassName"].as_str().unwrap_or_default();
    let class: Value = client.get(&resources::STORAGE_CLASSES, "", class).await?;
    let selected = &meta["annotations"]["volume.kubernetes.io/selected-node"];
    if class["volumeBindingMode"] == "WaitForFirstConsumer" && selected.is_null() {
        return Ok(());
    }
    let volume = format!("pvc-{}", meta["uid"].as_str().unwrap_or_default());
    let directory = service.root.join(&volume);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::File::create(directory.join("block")).unwrap().set_len(4 << 20).unwrap();
    let object = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": volume, "annotations": {"pv.kubernetes.io/provisioned-by": NAME}},
        "spec": {
            "accessModes": claim["spec"]["accessModes"], "capacity": {"storage": size},
            "volumeMode": claim["spec"]["volumeMode"], "storageClassName": class["metadata"]["name"],
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace,
                "name": name(claim), "uid": meta["uid"]},
            "csi": {"driver": NAME, "volumeHandle": volume, "fsType": "test"},
        },
    });
    let _: Value = client.create(&resources::PERSISTENT_VOLUMES, "", &object).await?;
    Ok(())
}

async fn remove(client: &Client, service: &Service, volume: &Value) -> Result<(), kedge_client::Error> {
    let ours = volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == NAME;
    if !ours || volume["status"]["phase"] != "Released" {
        return Ok(());
    }
    let directory = service.root.join(name(volume));
    if directory.exists() {
        std::fs::remove_dir_all(directory).unwrap();
    }
    client.delete(&resources::PERSISTENT_VOLUMES, "", name(volume), &DeleteOptions::default()).await
}

async fn attach(client: &Client, attachment: &Value) -> Result<(), kedge_client::Error> {
    const FINALIZER: &str = "external-attacher/csi-kedge-test";
    if attachment["spec"]["attacher"] != NAME {
        return Ok(());
    }
    let attachments = &resources::VOLUME_ATTACHMENTS;
    let patch = async |patch: Value, subresource: Option<&str>| -> Result<(), kedge_client::Error> {
        let patch = Patch::Merge(patch);
        client.patch::<Value>(attachments, "", name(attachment), patch, subresource).await.map(drop)
    };
    let held = attachment["metadata"]["finalizers"][0] == FINALIZER;
    let deleted = !attachment["metadata"]["deletionTimestamp"].is_null();
    match (deleted, held) {
        (true, true) => {
            patch(json!({"status": {"attached": false}}), Some("status")).await?;
            patch(json!({"metadata": {"finalizers": null}}), None).await
        }
        (false, false) => patch(json!({"metadata": {"finalizers": [FINALIZER]}}), None).await,
        (false, true) if attachment["status"]["attached"] != true => {
            let status = json!({"attached": true, "attachmentMetadata": {"slot": "3"}});
            patch(json!({"status": status}), Some("status")).await
        }
        _ => Ok(()),
    }
}
