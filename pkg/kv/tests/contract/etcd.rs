//! Processes of a real etcd.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The directory of the programs, or none when they are not there.
pub fn tools() -> Option<PathBuf> {
    std::env::var_os("KEDGE_TEST_ETCD_DIR").map(PathBuf::from)
}

/// A port of the loopback interface that nobody uses now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process with a guard: a shell that ends it when the test goes away, however that happens.
pub struct Guarded {
    shell: Child,
    pub pid: i32,
}

impl Guarded {
    pub fn spawn(program: &Path, args: &[String]) -> Self {
        const GUARD: &str = "\"$@\" </dev/null >/dev/null 2>&1 & echo $!; read -r _; kill -9 $! 2>/dev/null";
        let mut shell = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { shell, pid: line.trim().parse().unwrap() }
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status().unwrap().success());
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }
}

/// One etcd of one member. It does not sync its files, which nobody needs after the test.
pub struct Process {
    guarded: Option<Guarded>,
    dir: tempfile::TempDir,
    client: String,
    peer: String,
    more: Vec<String>,
}

impl Process {
    pub fn start() -> Self {
        Self::start_with("http", vec![])
    }

    pub fn start_with(scheme: &str, more: Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (client, peer) = (free_port(), free_port());
        let (client, peer) = (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut process = Self { guarded: None, dir, client, peer, more };
        process.restart();
        process
    }

    /// Kills it, if it runs, and starts it on the same files.
    pub fn restart(&mut self) {
        self.guarded = None;
        let (client, peer, dir) = (&self.client, &self.peer, self.dir.path());
        let mut args = vec![
            format!("--data-dir={}", dir.join("data").display()),
            format!("--log-outputs={}", dir.join("log").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
        ];
        args.extend(self.more.iter().cloned());
        self.guarded = Some(Guarded::spawn(&tools().unwrap().join("etcd"), &args));
    }

    pub fn url(&self) -> String {
        self.client.clone()
    }

    pub fn etcdctl(&self, args: &[&str]) -> String {
        let out =
            Command::new(tools().unwrap().join("etcdctl")).args(["--endpoints", &self.client]).args(args).output();
        let out = out.unwrap();
        assert!(out.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }
}
