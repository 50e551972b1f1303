//! Keeping another program running, and taking it along when this process ends, however it ends.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kedge_base::{Backoff, Ledger, SharedClock, Shutdown, Weight, blocking};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::host;

/// How long the program may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(5);
/// Bytes of the end of a log that are looked at.
const LAST_WORDS: u64 = 4 << 10;
/// Characters of the last line that are shown.
const LONGEST: usize = 400;

/// Pauses before a program that ended is started again.
pub(crate) fn waits() -> Backoff {
    Backoff::new(Duration::from_millis(500), Duration::from_secs(15), 20)
}

/// Runs `program` until it ends, or shutdown. Its output goes to `log`. Returns why it does not run any more; nothing
/// when it was stopped.
pub(crate) async fn run(
    program: &Path,
    arguments: &[OsString],
    log: &Path,
    clock: &SharedClock,
    shutdown: &Shutdown,
) -> Option<String> {
    let name = program.display();
    let starting = (program.to_path_buf(), arguments.to_vec(), log.to_path_buf());
    let started = blocking::unbounded("start a program", move || start(&starting.0, &starting.1, &starting.2)).await;
    let (pid, mut ended) = match started.map_err(std::io::Error::other).and_then(|started| started) {
        Ok(running) => running,
        Err(err) => return Some(format!("{name} cannot be started: {err}")),
    };
    info!(program = %name, pid = pid.as_raw_nonzero().get(), "started");
    let mut left = Left(Some(pid));
    tokio::select! {
        how = &mut ended => {
            left.0 = None;
            let how = how.unwrap_or_else(|_| "unknown".into());
            let log = log.to_path_buf();
            let words = move || format!("its log is {}{}", log.display(), last_line(&log));
            let words = blocking::unbounded("read a log", words).await.unwrap_or_default();
            Some(format!("{name} ended unexpectedly ({how}); {words}"))
        }
        () = shutdown.requested() => {
            stop(pid, ended, clock).await;
            left.0 = None;
            None
        }
    }
}

/// A program whose supervision ends by a panic is ended as well: the next supervision starts its own.
struct Left(Option<Pid>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(pid) = self.0
            && let Err(err) = kill_process(pid, Signal::TERM)
        {
            warn!(error = %err, "cannot stop a program that nobody looks after any more");
        }
    }
}

/// The last thing a program wrote, for a message.
fn last_line(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    // The message is true without it.
    let text = read().unwrap_or_default();
    text.trim_end()
        .lines()
        .next_back()
        .map(|line| format!(": {}", line.chars().take(LONGEST).collect::<String>()))
        .unwrap_or_default()
}

/// Starts the program on a thread of its own, which waits for its end. The kernel ties the death signal to the thread
/// that started the program, so that thread must live as long as the program.
fn start(program: &Path, arguments: &[OsString], log: &Path) -> std::io::Result<(Pid, oneshot::Receiver<String>)> {
    let output = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PATH", host::search_path())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
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
        let wait = || child.wait().map_or_else(|err| err.to_string(), |status| status.to_string());
        let how = Ledger::process().catch_now("agent", "supervisor", Weight::Vital, wait);
        let how = how.unwrap_or_else(|panicked| panicked.to_string());
        let _ = send_end.send(how);
    })?;
    let pid = pid.recv().map_err(std::io::Error::other)??;
    Ok((pid, end))
}

async fn stop(pid: Pid, mut ended: oneshot::Receiver<String>, clock: &SharedClock) {
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
