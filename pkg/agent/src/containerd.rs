//! The container runtime of this node: containerd with its own root, state, socket and configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kedge_base::{SharedClock, Shutdown, TaskGroup};
use kedge_kubelet::RuntimeProblem;
use kedge_oci::File;
use tokio::process::Command;
use tracing::{info, warn};

use crate::config::AgentConfig;
use crate::error::Error;
use crate::{host, pause, supervise};

/// The name of the built-in sandbox image.
const PAUSE_IMAGE: &str = "kedge.local/pause:1";
/// Between attempts to find a program that is missing.
const RETRY: Duration = Duration::from_secs(5);
/// A runtime that ran for so long is started again at once.
const STEADY: Duration = Duration::from_secs(60);
/// How long containerd's own client may take.
const CTR: Duration = Duration::from_secs(60);

/// Where this node's containerd is.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub config: PathBuf,
    pub root: PathBuf,
    pub state: PathBuf,
    pub socket: PathBuf,
    pub log: PathBuf,
    pub cni_bin: PathBuf,
    pub cni_conf: PathBuf,
}

impl Paths {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let (agent, run) = (config.agent_dir(), config.run_dir());
        Self {
            config: agent.join("etc/containerd/config.toml"),
            root: agent.join("containerd"),
            state: run.join("containerd"),
            socket: run.join("containerd/containerd.sock"),
            log: agent.join("containerd/containerd.log"),
            cni_bin: agent.join("cni/bin"),
            cni_conf: agent.join("etc/cni/net.d"),
        }
    }

    /// For the CRI client.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

/// The configuration, which containerd of the 1.x and 2.x series reads alike.
fn render(paths: &Paths, pause_image: &str, restrict_oom: bool) -> String {
    let text = |path: &Path| toml_string(&path.to_string_lossy());
    let registry = toml_string(&paths.config.with_file_name("certs.d").to_string_lossy());
    format!(
        r#"# Written by kedge at every start.
version = 2
root = {root}
state = {state}
oom_score = 0

[grpc]
  address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {pause}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = {restrict_oom}
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {bin}
    conf_dir = {conf}

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {registry}
"#,
        root = text(&paths.root),
        state = text(&paths.state),
        socket = text(&paths.socket),
        pause = toml_string(pause_image),
        bin = text(&paths.cni_bin),
        conf = text(&paths.cni_conf),
    )
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// Writes the configuration and keeps containerd running in `tasks`. What is missing is said, and waited for.
pub(crate) fn start(config: &AgentConfig, problem: &RuntimeProblem, tasks: &TaskGroup) -> Result<Paths, Error> {
    let paths = Paths::new(config);
    let dirs = [&paths.root, &paths.state, &paths.cni_bin, &paths.cni_conf];
    for dir in dirs.into_iter().map(PathBuf::as_path).chain(paths.config.parent()) {
        std::fs::create_dir_all(dir).map_err(Error::io("create directory", dir))?;
    }
    let restrict = !host::may_lower_oom_score();
    if restrict {
        info!("this process lacks CAP_SYS_RESOURCE; containers keep its own out-of-memory score");
    }
    let pause_image = config.pause_image.clone().unwrap_or_else(|| PAUSE_IMAGE.to_owned());
    std::fs::write(&paths.config, render(&paths, &pause_image, restrict)).map_err(Error::io("write", &paths.config))?;
    if config.pause_image.is_none() {
        let (paths, clock) = (paths.clone(), config.clock.clone());
        tasks.spawn_worker("pause image", move || import_when_up(paths.clone(), clock.clone()));
    }
    let (run, clock, problem, shutdown) =
        (paths.clone(), config.clock.clone(), problem.clone(), tasks.shutdown().clone());
    tasks.spawn_lasting("container runtime", move || {
        keep_running(needed_programs, run.clone(), clock.clone(), problem.clone(), shutdown.clone())
    });
    Ok(paths)
}

/// Keeps what `find` finds running until shutdown.
async fn keep_running(
    find: impl Fn() -> Result<PathBuf, Error>,
    paths: Paths,
    clock: SharedClock,
    problem: RuntimeProblem,
    shutdown: Shutdown,
) {
    let mut wait = supervise::waits();
    let mut said = String::new();
    while !shutdown.is_requested() {
        let (why, pause) = match find() {
            Err(err) => (err.to_string(), RETRY),
            Ok(program) => {
                let arguments = vec!["--config".into(), paths.config.clone().into_os_string()];
                let started = clock.monotonic();
                let ended = supervise::run(&program, &arguments, &paths.log, &clock, &shutdown).await;
                let Some(why) = ended else { return };
                if clock.monotonic().saturating_sub(started) > STEADY {
                    wait.reset();
                }
                (why, wait.next())
            }
        };
        problem.set(&why);
        if why != said {
            warn!(error = why, "the container runtime does not run");
            said = why;
        }
        tokio::select! {
            () = clock.sleep(pause) => {}
            () = shutdown.requested() => return,
        }
    }
}

fn needed_programs() -> Result<PathBuf, Error> {
    for (program, package) in host::NEEDED {
        if host::find_program(program).is_none() {
            return Err(Error::Missing { program, package });
        }
    }
    host::find_program("containerd").ok_or(Error::Missing { program: "containerd", package: "containerd" })
}

/// Brings the sandbox image into the runtime, as soon as that answers.
async fn import_when_up(paths: Paths, clock: SharedClock) {
    let mut wait = kedge_base::Backoff::new(Duration::from_millis(50), Duration::from_secs(5), 15);
    loop {
        if tokio::fs::try_exists(&paths.socket).await.unwrap_or_default() {
            match import_pause(&paths).await {
                Ok(()) => return,
                Err(err) => warn!(error = %err, "sandbox image not imported, trying again"),
            }
        }
        clock.sleep(wait.next()).await;
    }
}

async fn import_pause(paths: &Paths) -> Result<(), Error> {
    if ctr(paths, &["images", "ls", "-q", &format!("name=={PAUSE_IMAGE}")]).await?.contains(PAUSE_IMAGE) {
        return Ok(());
    }
    let archive = paths.root.join("pause.tar");
    let written = archive.clone();
    let failed = |what: String| Error::Failed { program: "ctr", what };
    let write = move || -> Result<(), Error> {
        let program = pause::program()?;
        let files = [File::regular("pause", &program, 0o755)];
        let image = kedge_oci::image(PAUSE_IMAGE, pause::architecture()?, &files, &["/pause"])
            .map_err(Error::io("make", &written))?;
        std::fs::write(&written, image).map_err(Error::io("write", &written))
    };
    kedge_base::blocking::unbounded("pause image", write).await.map_err(|e| failed(e.to_string()))??;
    ctr(paths, &["images", "import", "--no-unpack", &archive.to_string_lossy()]).await?;
    info!(image = PAUSE_IMAGE, "sandbox image imported");
    tokio::fs::remove_file(&archive).await.map_err(Error::io("remove", &archive))
}

async fn ctr(paths: &Paths, arguments: &[&str]) -> Result<String, Error> {
    let program = host::find_program("ctr").ok_or(Error::Missing { program: "ctr", package: "containerd" })?;
    let mut command = Command::new(program);
    command.arg("--address").arg(&paths.socket).args(["--namespace", "k8s.io"]).args(arguments).kill_on_drop(true);
    let failed = |what: String| Error::Failed { program: "ctr", what };
    let output = kedge_base::time::timeout(CTR, command.output()).await.map_err(|e| failed(e.to_string()))?;
    let output = output.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::supervise::tests::{ended, once, pids};
    use kedge_base::{Ledger, system_clock};
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn strings_are_quoted_for_toml() {
        assert_eq!(toml_string("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }

    #[tokio::test]
    async fn the_runtime_runs_after_panics_of_its_task_and_of_its_thread() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (program, file) = (at("runtime"), at("pids"));
        // It is told its configuration with the second argument.
        std::fs::write(&program, "#!/bin/sh\necho $$ >> \"$2\"\nexec sleep 1000\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let paths = Paths {
            config: file.clone(),
            root: at("root"),
            state: at("state"),
            socket: at("socket"),
            log: at("log"),
            cni_bin: at("bin"),
            cni_conf: at("conf"),
        };
        let (thread, before) = ("supervisor", Ledger::process().panics_of("supervisor"));
        once(&program, "start", || panic!("on purpose, at the start"));
        let first = file.clone();
        once(&program, "wait", move || {
            while !std::fs::read_to_string(&first).is_ok_and(|pids| pids.ends_with('\n')) {
                std::thread::yield_now();
            }
            panic!("on purpose, at the wait");
        });
        let tasks = TaskGroup::with_ledger("test", Shutdown::new(), Ledger::new(system_clock()));
        let (problem, shutdown, looks) =
            (RuntimeProblem::default(), tasks.shutdown().clone(), Arc::new(AtomicUsize::new(0)));
        let said = problem.clone();
        tasks.spawn_lasting("container runtime", move || {
            let (looks, program) = (looks.clone(), program.clone());
            let find = move || {
                assert!(looks.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
                Ok(program.clone())
            };
            keep_running(find, paths.clone(), system_clock(), problem.clone(), shutdown.clone())
        });
        // The first one is left alone by its thread, and must not run beside the second.
        let both = pids(&file, 2).await;
        ended(&both[0]).await;
        assert_eq!(
            (tasks.ledger().panics_of("container runtime"), Ledger::process().panics_of(thread) - before),
            (1, 2)
        );
        assert!(said.get().is_some_and(|why| why.contains("on purpose, at the wait")), "{:?}", said.get());
        assert!(std::fs::exists(format!("/proc/{}", both[1])).unwrap());
        assert!(tasks.join(Duration::from_secs(20)).await);
        ended(&both[1]).await;
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
    }
}
