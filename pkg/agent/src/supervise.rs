//! Keeping another program running, and taking it along when this process ends, however it ends.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kedge_base::{Backoff, SharedClock, Shutdown};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// How long the program may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(5);

/// Runs `program` until shutdown, again and again if it ends before that. Its output goes to `log`.
pub(crate) async fn run(program: &Path, arguments: &[OsString], log: &Path, clock: &SharedClock, shutdown: &Shutdown) {
    let mut wait = Backoff::new(Duration::from_millis(500), Duration::from_secs(30), 20);
    while !shutdown.is_requested() {
        let started = clock.monotonic();
        let (pid, mut ended) = match start(program, arguments, log) {
            Ok(running) => running,
            Err(err) => {
                warn!(program = %program.display(), error = %err, "cannot be started");
                return clock.sleep(wait.next()).await;
            }
        };
        info!(program = %program.display(), pid = pid.as_raw_nonzero().get(), "started");
        tokio::select! {
            _ = &mut ended => {}
            () = shutdown.requested() => {
                stop(pid, ended, clock).await;
                return;
            }
        }
        if clock.monotonic().saturating_sub(started) > Duration::from_secs(60) {
            wait.reset();
        }
        warn!(program = %program.display(), log = %log.display(), "ended unexpectedly, starting it again");
        clock.sleep(wait.next()).await;
    }
}

/// Starts the program on a thread of its own, which waits for its end. The kernel ties the death signal to the thread
/// that started the program, so that thread must live as long as the program.
fn start(program: &Path, arguments: &[OsString], log: &Path) -> std::io::Result<(Pid, oneshot::Receiver<()>)> {
    let output = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    // SAFETY: between fork and exec only one system call is made, which allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
    }
    let (send_pid, pid) = std::sync::mpsc::sync_channel::<std::io::Result<Pid>>(1);
    let (send_end, end) = oneshot::channel();
    std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        let child = command.spawn();
        let mut child: Child = match child {
            Ok(child) => child,
            Err(err) => {
                // The caller waits for exactly this.
                let _ = send_pid.send(Err(err));
                return;
            }
        };
        let _ = send_pid.send(Ok(Pid::from_child(&child)));
        if let Err(err) = child.wait() {
            warn!(error = %err, "cannot wait for a program");
        }
        let _ = send_end.send(());
    })?;
    let pid = pid.recv().map_err(std::io::Error::other)??;
    Ok((pid, end))
}

async fn stop(pid: Pid, mut ended: oneshot::Receiver<()>, clock: &SharedClock) {
    for signal in [Signal::TERM, Signal::KILL] {
        if let Err(err) = kill_process(pid, signal) {
            warn!(error = %err, "cannot stop a program");
        }
        tokio::select! {
            _ = &mut ended => return,
            () = clock.sleep(STOP) => {}
        }
    }
}
