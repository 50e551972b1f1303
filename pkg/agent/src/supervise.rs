//! Keeping another program running, and taking it along when this process ends, however it ends.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::SyncSender;
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
    let (mut left, mut ended) = match started.map_err(std::io::Error::other).and_then(|started| started) {
        Ok(running) => running,
        Err(err) => return Some(format!("{name} cannot be started: {err}")),
    };
    info!(program = %name, pid = left.pid.as_raw_nonzero().get(), "started");
    tokio::select! {
        how = &mut ended => {
            left.ended = true;
            let how = how.unwrap_or_else(|_| "unknown".into());
            let log = log.to_path_buf();
            let words = move || format!("its log is {}{}", log.display(), last_line(&log));
            let words = blocking::unbounded("read a log", words).await.unwrap_or_default();
            Some(format!("{name} ended unexpectedly ({how}); {words}"))
        }
        () = shutdown.requested() => {
            stop(left.pid, ended, clock).await;
            left.ended = true;
            None
        }
    }
}

/// A program whose supervision ends by a panic is ended as well: the next supervision starts its own.
struct Left {
    pid: Pid,
    ended: bool,
}

impl Drop for Left {
    fn drop(&mut self) {
        if !self.ended
            && let Err(err) = kill_process(self.pid, Signal::TERM)
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
fn start(program: &Path, arguments: &[OsString], log: &Path) -> std::io::Result<(Left, oneshot::Receiver<String>)> {
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
    let name = program.to_path_buf();
    std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        let work = || spawn_and_wait(&name, &mut command, &send_pid);
        // A program whose thread is gone is asked to end by the kernel; one that has not been started has told so.
        let how = Ledger::process().catch_now("agent", "supervisor", Weight::Vital, work);
        let how = how.unwrap_or_else(|panicked| Some(panicked.to_string()));
        if let Some(how) = how {
            let _ = send_end.send(how);
        }
    })?;
    let pid = pid.recv().map_err(std::io::Error::other)??;
    // From here on, so that it does not matter whether anybody still waits for the start.
    Ok((Left { pid, ended: false }, end))
}

/// What the thread does; returns how the program ended, if it was started.
fn spawn_and_wait(program: &Path, command: &mut Command, started: &SyncSender<std::io::Result<Pid>>) -> Option<String> {
    #[cfg(not(test))]
    let fault = |_: &Path, _: &str| {};
    #[cfg(test)]
    use tests::fault;

    fault(program, "start");
    let mut child: Child = match command.spawn() {
        Ok(child) => child,
        Err(err) => {
            // The caller waits for exactly this.
            let _ = started.send(Err(err));
            return None;
        }
    };
    let _ = started.send(Ok(Pid::from_child(&child)));
    fault(program, "wait");
    Some(child.wait().map_or_else(|err| err.to_string(), |status| status.to_string()))
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

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::{TaskGroup, system_clock};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use tokio::sync::Notify;

    type Fault = (PathBuf, &'static str, Box<dyn FnOnce() + Send>);

    /// What the threads of which programs do once, and where.
    static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());

    pub(crate) fn once(program: &Path, at: &'static str, fault: impl FnOnce() + Send + 'static) {
        FAULTS.lock().unwrap().push((program.to_owned(), at, Box::new(fault)));
    }

    pub(super) fn fault(program: &Path, at: &str) {
        let mut faults = FAULTS.lock().unwrap();
        let Some(found) = faults.iter().position(|(path, place, _)| path == program && *place == at) else { return };
        let (_, _, fault) = faults.remove(found);
        drop(faults);
        fault();
    }

    /// The lines of a file, to which each process of a test writes its pid.
    pub(crate) async fn pids(file: &Path, count: usize) -> Vec<String> {
        let written = async {
            loop {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                if text.matches('\n').count() >= count {
                    return text.lines().map(ToOwned::to_owned).collect();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), written).await.unwrap()
    }

    /// Waits until a process runs no more. One that nobody has waited for has no command line.
    pub(crate) async fn ended(pid: &str) {
        let gone = async {
            while std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    }

    #[tokio::test]
    async fn a_program_does_not_outlive_a_supervision_that_panics() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("pids"), dir.path().join("log"));
        let tasks = TaskGroup::with_ledger("test", Shutdown::new(), Ledger::new(system_clock()));
        let (now, panicked, shutdown) =
            (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)), tasks.shutdown().clone());
        let script = OsString::from(format!("echo $$ >> {}; exec sleep 1000", file.display()));
        let told = now.clone();
        tasks.spawn_lasting("program", move || {
            let (now, panicked, shutdown, clock) = (told.clone(), panicked.clone(), shutdown.clone(), system_clock());
            let (arguments, log) = (["-c".into(), script.clone()], log.clone());
            async move {
                tokio::select! {
                    ended = run(Path::new("/bin/sh"), &arguments, &log, &clock, &shutdown) => assert_eq!(ended, None),
                    () = now.notified() => assert!(panicked.swap(true, Ordering::SeqCst), "on purpose"),
                }
            }
        });
        let first = pids(&file, 1).await.remove(0);
        now.notify_one();
        ended(&first).await;
        let second = pids(&file, 2).await.remove(1);
        assert_eq!(tasks.ledger().panics_of("program"), 1);
        assert!(tasks.join(Duration::from_secs(20)).await);
        ended(&second).await;
    }
}
