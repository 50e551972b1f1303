//! A store in memory that is served, programs that use it, and a real etcd beside it.

use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use kedge_base::{Shutdown, TaskGroup, system_clock};
use kedge_etcdapi::{Api, Listen, ServingTls, SnapshotStream, Snapshots, serve};
use kedge_kv::{Embedded, Error, History, Kv as _};
use tonic::transport::{Channel, Endpoint, Uri};

pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn tools() -> Option<PathBuf> {
    std::env::var_os("KEDGE_TEST_ETCD_DIR").map(PathBuf::from)
}

/// Runs a test that needs the programs, or says that it does not.
pub fn with_tools(test: impl Future<Output = ()>) {
    if tools().is_none() {
        eprintln!("not run: KEDGE_TEST_ETCD_DIR is not set");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 2, test).await.expect("the test hangs") });
}

/// A snapshot of known bytes.
pub struct Fixed(Arc<AtomicBool>);

pub fn snapshot_bytes() -> Vec<u8> {
    (0..3 * 512_u32).map(|i| (i % 251) as u8).collect()
}

#[async_trait]
impl Snapshots for Fixed {
    async fn snapshot(&self) -> Result<SnapshotStream, Error> {
        let bytes = snapshot_bytes();
        let size = bytes.len() as u64;
        let chunks: Vec<_> = bytes.chunks(500).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let chunks = futures::stream::iter(chunks);
        let endless = self.0.load(Ordering::SeqCst);
        Ok(SnapshotStream {
            size,
            chunks: if endless { chunks.chain(futures::stream::pending()).boxed() } else { chunks.boxed() },
        })
    }

    fn sizes(&self) -> (u64, u64) {
        (20_480, 16_384)
    }
}

pub struct Served {
    pub dir: tempfile::TempDir,
    pub kv: Arc<Embedded>,
    pub endpoint: String,
    pub tasks: TaskGroup,
    /// Whether snapshots never end.
    pub endless: Arc<AtomicBool>,
}

impl Served {
    pub async fn on_socket() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = format!("unix://{}", dir.path().join("etcd.sock").display());
        Self::start(dir, &endpoint, None).await
    }

    pub async fn start(dir: tempfile::TempDir, endpoint: &str, tls: Option<&ServingTls>) -> Self {
        let listen = Listen::open(endpoint, tls).await.unwrap();
        let address = listen.address();
        let endpoint = address.map_or(endpoint.to_owned(), |address| format!("https://{address}"));
        let tasks = TaskGroup::new("test", Shutdown::new());
        // Tests are about how the past is told, and not about how much of it there is.
        let history = History { bytes: 64 << 20, settled_bytes: 64 << 20, ..History::default() };
        let kv = Arc::new(Embedded::memory_with(system_clock(), history).unwrap());
        let urls = vec![endpoint.clone()];
        let endless = Arc::new(AtomicBool::new(false));
        let api =
            Api::new(kv.clone(), Arc::new(Fixed(endless.clone())), urls, system_clock(), tasks.shutdown().clone())
                .await
                .unwrap();
        tasks.spawn("serve", serve(api, Arc::new(listen), tasks.clone()));
        Self { dir, kv, endpoint, tasks, endless }
    }

    /// Ends the server: all its tasks, also those of open streams.
    pub async fn stop(self) {
        assert!(self.tasks.join(PATIENCE).await, "the server does not stop");
        self.kv.close().await;
    }

    fn command(&self, args: &[&str]) -> Command {
        // A command that hangs fails.
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(tools().unwrap().join("etcdctl"));
        command.args(["--endpoints", &self.endpoint, "--command-timeout=60s", "--dial-timeout=60s"]).args(args);
        command
    }

    /// What etcdctl prints.
    pub fn etcdctl(&self, args: &[&str]) -> String {
        let out = self.command(args).output().unwrap();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "etcdctl {args:?}: {errors}");
        // Health is told there.
        String::from_utf8(out.stdout).unwrap() + if args.contains(&"health") { &errors } else { "" }
    }

    /// What etcdctl says when it fails.
    pub fn refused(&self, args: &[&str]) -> String {
        let out = self.command(args).output().unwrap();
        assert!(!out.status.success(), "etcdctl {args:?} succeeded: {}", String::from_utf8_lossy(&out.stdout));
        String::from_utf8(out.stderr).unwrap()
    }

    pub fn etcdctl_with(&self, args: &[&str], input: &str) -> String {
        let mut child = self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "etcdctl {args:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// etcdctl, left running; its lines are read from its output.
    pub fn etcdctl_running(&self, args: &[&str]) -> tokio::process::Child {
        let mut command = tokio::process::Command::from(self.command(args));
        command.stdout(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    }

    pub async fn channel(&self) -> Channel {
        let path = PathBuf::from(self.endpoint.strip_prefix("unix://").unwrap());
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(path).await?)) }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
    }
}

/// A real etcd that ends with the test.
pub struct Etcd {
    shell: std::process::Child,
    _dir: tempfile::TempDir,
    url: String,
}

impl Etcd {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (url, peer) = (format!("http://127.0.0.1:{}", port()), format!("http://127.0.0.1:{}", port()));
        let file = |name: &str| dir.path().join(name).display().to_string();
        let shell = Command::new("sh")
            .args(["-c", "\"$@\" </dev/null >/dev/null 2>&1 & read -r _; kill -9 $! 2>/dev/null", "guard"])
            .arg(Path::new(&tools().unwrap()).join("etcd"))
            .args(["--data-dir", &file("data"), "--log-outputs", &file("log"), "--unsafe-no-fsync"])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { shell, _dir: dir, url }
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.url.clone()).unwrap();
        let connecting = async {
            loop {
                match endpoint.connect().await {
                    Ok(channel) => return channel,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, connecting).await.expect("etcd does not start")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }
}
