//! A terminal with a program in it, as a person at a keyboard has one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::eventually;

/// How long a program may take to end when its terminal has gone.
const HANGS_UP_WITHIN: Duration = Duration::from_secs(10);

/// A program that runs in a terminal of its own; killed when dropped.
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// How much of the screen has been looked at.
    read: usize,
    child: Child,
}

impl Terminal {
    /// Starts a command in a terminal of so many rows and columns.
    pub fn start(command: &Command, size: (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        resize(&master, size);
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let open = || Stdio::from(File::options().read(true).write(true).open(path).unwrap());
        // `setsid` makes the terminal that of the program, so that a new size and Ctrl-C are signals to it.
        let mut wrapped = Command::new("setsid");
        wrapped.arg("--ctty").arg(command.get_program()).args(command.get_args());
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        let child = wrapped.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
        let keyboard = File::from(master);
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let (mut source, shown) = (keyboard.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The read fails when the last program has closed the terminal.
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                shown.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { keyboard, screen, read: 0, child }
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line.
    pub fn line(&mut self, line: &str) {
        self.keys(&format!("{line}\r"));
    }

    /// Makes the window larger or smaller.
    pub fn resize(&self, size: (u16, u16)) {
        resize(&self.keyboard, size);
    }

    /// What was shown since the last look.
    pub fn unread(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()[self.read..]).into_owned()
    }

    /// Waits until a text is shown, and counts everything up to it as looked at.
    pub fn shows(&mut self, text: &str) {
        let screen = self.screen.clone();
        let read = self.read;
        self.read = eventually(&format!("{text:?} on the terminal"), || {
            let screen = screen.lock().unwrap();
            let found = screen[read..].windows(text.len()).position(|w| w == text.as_bytes());
            found.map(|at| read + at + text.len()).ok_or_else(|| String::from_utf8_lossy(&screen[read..]).into_owned())
        });
    }

    /// Types a line again and again until a text is shown: for what takes a moment to arrive.
    pub fn line_until(&mut self, line: &str, text: &str) {
        eventually(&format!("{text:?} after {line:?}"), || {
            self.line(line);
            let before = std::time::Instant::now();
            while before.elapsed().as_secs() < 1 {
                let unread = self.unread();
                if unread.contains(text) {
                    return Ok(());
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(self.unread())
        });
        self.shows(text);
    }

    /// Waits for the end of the program: its exit code.
    pub fn ends(&mut self) -> Option<i32> {
        eventually("the end of the program", || match self.child.try_wait().unwrap() {
            Some(status) => Ok(status.code()),
            None => Err(self.unread()),
        })
    }

    /// Takes the program away from the terminal, as closing the window does.
    pub fn hang_up(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        // kubectl does not always heed that while it is busy writing. Then it is killed: what is looked at is what
        // happens to those whom it leaves behind.
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() && start.elapsed() < HANGS_UP_WITHIN {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn resize(terminal: impl std::os::fd::AsFd, (rows, columns): (u16, u16)) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
