//! The guard over free space: writes that let the store grow are refused before the disk is full.

use std::path::Path;
use std::time::Duration;

use tracing::{info, warn};

use crate::error::Error;
use crate::files::Files;

/// The file system is asked again after this time or this many bytes.
const TIME: Duration = Duration::from_secs(1);
const BYTES: u64 = 1 << 20;

/// How much may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Enough,
    /// Only what makes the store smaller in the end.
    Low(u64),
    /// Nothing at all.
    Out(u64),
}

/// Watches the file system.
pub(super) struct Guard {
    low: u64,
    checked: Option<(Duration, u64)>,
    space: Space,
}

impl Guard {
    /// Refuses growth below `low` free bytes, and everything below a quarter of it.
    pub(super) fn new(low: u64) -> Self {
        Self { low, checked: None, space: Space::Enough }
    }

    /// The state at `now`, when `written` bytes have been written in all.
    pub(super) fn check(&mut self, files: &dyn Files, dir: &Path, now: Duration, written: u64) -> Space {
        let fresh =
            |(at, bytes): (Duration, u64)| now.saturating_sub(at) < TIME && written.saturating_sub(bytes) < BYTES;
        if self.low == 0 || self.checked.is_some_and(fresh) {
            return self.space;
        }
        self.checked = Some((now, written));
        let space = match files.free_space(dir) {
            Ok(free) if free < self.low / 4 => Space::Out(free),
            Ok(free) if free < self.low => Space::Low(free),
            Ok(_) => Space::Enough,
            Err(err) => {
                warn!(error = %err, dir = %dir.display(), "cannot tell how much space is free");
                Space::Enough
            }
        };
        match (self.space, space) {
            (Space::Enough, Space::Low(free) | Space::Out(free)) => {
                warn!(free, limit = self.low, dir = %dir.display(), "the file system is nearly full: writes are refused");
            }
            (Space::Low(_) | Space::Out(_), Space::Enough) => {
                info!(dir = %dir.display(), "there is space again: writes are taken");
            }
            _ => {}
        }
        self.space = space;
        space
    }

    /// What was found last.
    pub(super) fn space(&self) -> Space {
        self.space
    }

    /// Why a write is refused.
    pub(super) fn refusal(&self, dir: &Path, free: u64) -> Error {
        Error::NoSpace(format!(
            "the file system of {} is nearly full: {} MiB are free, and writes that need more space are refused below {} MiB",
            dir.display(),
            free >> 20,
            self.low >> 20
        ))
    }
}
