//! Reading a container's log, from its start, its end or a time on, and following it while the container runs.

use std::collections::VecDeque;
use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kedge_base::{BoxFuture, Changes, DirWatch, SharedClock};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader};
use tokio::sync::mpsc;

use super::parse::{Line, parse_line};

/// Longer lines are cut: the runtime splits at 16 KiB, so that a longer one is damage.
const MAX_LINE: usize = 256 * 1024;
/// How often a followed log is looked at without a sign from the file system.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Block size when searching for the last lines.
const BLOCK: u64 = 64 * 1024;

/// Which streams to give out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogStreams {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// `v1.PodLogOptions`, as far as one log file is concerned.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) streams: LogStreams,
}

/// Sends a log to `out` until its end or, when following, until `running` says that the container has ended.
///
/// # Errors
/// Of reading the file. A reader that went away is no error.
pub(crate) async fn follow_log(
    path: &Path,
    options: &LogOptions,
    clock: &SharedClock,
    running: &(dyn Fn() -> BoxFuture<'static, bool> + Send + Sync),
    out: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let mut file = File::open(path).await?;
    let start = match options.tail_lines {
        Some(lines) => tail_offset(&mut file, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut inode = file.metadata().await?.ino();
    let mut reader = BufReader::new(file);
    let mut writer = Writer { options, out, left: options.limit_bytes };
    let watch = match (options.follow, path.parent()) {
        (true, Some(directory)) => Some(DirWatch::open(directory, Changes::Written).await?),
        _ => None,
    };
    let mut line = Vec::new();
    let mut last_round = false;
    loop {
        while read_line(&mut reader, &mut line).await? {
            if !writer.write(&line).await {
                return Ok(());
            }
            line.clear();
        }
        let Some(watch) = watch.as_ref().filter(|_| !last_round) else {
            return Ok(());
        };
        // The runtime writes on into a new file after a rotation; the old one has been read to its end.
        if let Ok(next) = File::open(path).await
            && next.metadata().await.is_ok_and(|m| m.ino() != inode)
        {
            inode = next.metadata().await?.ino();
            reader = BufReader::new(next);
            continue;
        }
        // What was written before the end was noticed is read in one more round.
        if !running().await {
            last_round = true;
            continue;
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            () = clock.sleep(LOOK_AGAIN) => {}
            () = out.closed() => return Ok(()),
        }
    }
}

/// Reads on until a line end; a part of a line stays in `line` for the next call.
async fn read_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<bool> {
    let room = MAX_LINE.saturating_sub(line.len());
    let mut limited = reader.take(room as u64);
    limited.read_until(b'\n', line).await?;
    Ok(line.last() == Some(&b'\n') || line.len() >= MAX_LINE)
}

/// The offset at which the last `lines` lines begin.
async fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut ends: VecDeque<u64> = VecDeque::new();
    let mut from = length;
    while from > 0 && (ends.len() as u64) <= lines {
        let start = from.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start)).await?;
        let mut block = vec![0; usize::try_from(from - start).unwrap_or_default()];
        file.read_exact(&mut block).await?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            ends.push_front(start + index as u64);
            if ends.len() as u64 > lines {
                break;
            }
        }
        from = start;
    }
    // The end of the line before the first wanted one; without it the whole file is wanted.
    if ends.len() as u64 > lines { Ok(ends.front().map_or(0, |end| end + 1)) } else { Ok(0) }
}

struct Writer<'a> {
    options: &'a LogOptions,
    out: &'a mpsc::Sender<Bytes>,
    left: Option<u64>,
}

impl Writer<'_> {
    /// Whether more is wanted.
    async fn write(&mut self, line: &[u8]) -> bool {
        let Some(line) = parse_line(line).filter(|line| self.wanted(line)) else {
            return true;
        };
        let mut text = Vec::with_capacity(line.message.len() + 32);
        if self.options.timestamps {
            text.extend_from_slice(line.time_text);
            text.push(b' ');
        }
        line.write_message(&mut text);
        if let Some(left) = &mut self.left {
            text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= text.len() as u64;
        }
        let more = self.left != Some(0);
        self.out.send(text.into()).await.is_ok() && more
    }

    fn wanted(&self, line: &Line<'_>) -> bool {
        let stream = match self.options.streams {
            LogStreams::All => true,
            LogStreams::Stdout => line.stdout,
            LogStreams::Stderr => !line.stdout,
        };
        stream && self.options.since.is_none_or(|since| line.time >= since)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LOG: &str = "2026-01-02T03:04:05.1Z stdout F one\n2026-01-02T03:04:06.1Z stderr F two\n\
        2026-01-02T03:04:07.1Z stdout P thr\n2026-01-02T03:04:07.2Z stdout F ee\n";

    async fn read(options: LogOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        let clock = kedge_base::system_clock();
        follow_log(&path, &options, &clock, &|| Box::pin(async { false }), &sender).await.unwrap();
        drop(sender);
        let mut text = Vec::new();
        while let Some(part) = receiver.recv().await {
            text.extend_from_slice(&part);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn options_select() {
        assert_eq!(read(LogOptions::default()).await, "one\ntwo\nthree\n");
        let tail = LogOptions { tail_lines: Some(2), ..Default::default() };
        assert_eq!(read(tail).await, "three\n");
        let since = Some("2026-01-02T03:04:06Z".parse().unwrap());
        assert_eq!(read(LogOptions { since, ..Default::default() }).await, "two\nthree\n");
        let limit = LogOptions { limit_bytes: Some(5), ..Default::default() };
        assert_eq!(read(limit).await, "one\nt");
        let err = LogOptions { streams: LogStreams::Stderr, timestamps: true, ..Default::default() };
        assert_eq!(read(err).await, "2026-01-02T03:04:06.1Z two\n");
        let nothing = LogOptions { tail_lines: Some(0), ..Default::default() };
        assert_eq!(read(nothing).await, "");
    }

    #[tokio::test]
    async fn following_a_container_that_has_ended_ends() {
        let follow = LogOptions { follow: true, ..Default::default() };
        assert_eq!(read(follow).await, "one\ntwo\nthree\n");
    }
}
