//! A real etcd of one member, to measure beside.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{SharedClock, Shutdown, TaskGroup};
use kedge_kv::{Etcd, EtcdOptions, Kv};

/// A running etcd; ended when dropped.
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts one on a directory. None when there is no etcd to start.
    pub fn start(dir: &Path) -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("KEDGE_TEST_ETCD_DIR")?).join("etcd");
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, peer) = (free(), free());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let process = Command::new(program)
            .arg("--data-dir")
            .arg(dir)
            .args(["--listen-client-urls", &url(port), "--advertise-client-urls", &url(port)])
            .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &format!("default={}", url(peer)), "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { process, port })
    }

    /// A client, once the server answers.
    pub async fn client(&self, clock: &SharedClock) -> Arc<dyn Kv> {
        let mut options = EtcdOptions::new([format!("http://127.0.0.1:{}", self.port)]);
        options.compact_interval = None;
        loop {
            let tasks = TaskGroup::new("bench", Shutdown::new());
            match Etcd::connect(options.clone(), clock.clone(), tasks).await {
                Ok(etcd) => return Arc::new(etcd),
                Err(_) => clock.sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Its memory in KiB.
    pub fn rss(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
