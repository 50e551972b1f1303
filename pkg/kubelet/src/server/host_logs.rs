//! `/logs/`: the files below `/var/log` of the node, for those who may read them.

use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::StatusCode;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tracing::debug;

use super::Server;
use super::reply::{self, Reply};

const ROOT: &str = "/var/log";
/// Bytes that are read at a time; names that are listed.
const CHUNK: usize = 64 << 10;
const MOST: usize = 10_000;
/// Parts of a file that wait for a slow reader.
const WAITING: usize = 4;

enum Found {
    Listing(String),
    File(std::fs::File),
    Missing,
}

/// Serves one file or directory; `parts` is its path, decoded.
pub(super) async fn serve(server: &Server, parts: &[&str]) -> Reply {
    let relative: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
    let find = move || find(Path::new(ROOT), &relative);
    match server.kubelet.files.of_path("open", Path::new(ROOT), find).await {
        Ok(Ok(Found::Listing(html))) => reply::html(html),
        Ok(Ok(Found::File(file))) => stream(server, file),
        Ok(Ok(Found::Missing)) => reply::text(StatusCode::NOT_FOUND, "404 page not found\n"),
        Ok(Err(error)) => {
            debug!(%error, "a log of the node cannot be read");
            reply::text(StatusCode::FORBIDDEN, "403 Forbidden\n")
        }
        Err(error) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Blocks. What a link leads out of the directory for is not there.
fn find(root: &Path, parts: &[String]) -> std::io::Result<Found> {
    if parts.iter().any(|part| part == ".." || part.contains(['/', '\0'])) {
        return Ok(Found::Missing);
    }
    let wanted: PathBuf =
        parts.iter().filter(|part| !part.is_empty()).fold(root.to_owned(), |path, part| path.join(part));
    let path = match wanted.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error),
    };
    let root = root.canonicalize()?;
    let Ok(relative) = path.strip_prefix(&root) else { return Ok(Found::Missing) };
    let Some(file) = open_beneath(&std::fs::File::open(&root)?, relative)? else { return Ok(Found::Missing) };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(Found::Listing(listing(&file)?));
    }
    Ok(if metadata.is_file() { Found::File(file) } else { Found::Missing })
}

/// Opens a path without links. Of any part that has become one since it was looked at, the kernel refuses to follow it.
fn open_beneath(root: &std::fs::File, path: &Path) -> std::io::Result<Option<std::fs::File>> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// As Go's file server lists a directory.
fn listing(directory: &std::fs::File) -> std::io::Result<String> {
    let mut names: Vec<String> = Vec::new();
    // What was opened, whatever has its name now.
    let opened = format!("/proc/self/fd/{}", directory.as_raw_fd());
    for entry in std::fs::read_dir(opened)?.take(MOST) {
        let entry = entry?;
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let escaped =
        |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
    let link = |name: &String| {
        let reference = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
        // A slash at the end says that it is a directory, and is part of the link.
        let reference = reference.replace("%2F", "/").replace("%2E", ".").replace("%2D", "-").replace("%5F", "_");
        format!("<a href=\"{reference}\">{}</a>\n", escaped(name))
    };
    let links: String = names.iter().map(link).collect();
    let head = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n";
    Ok(format!("{head}<pre>\n{links}</pre>\n"))
}

/// The file as it is now: what is written to it meanwhile is not waited for.
fn stream(server: &Server, mut file: std::fs::File) -> Reply {
    let (sender, receiver) = mpsc::channel(WAITING);
    let files = server.kubelet.files.clone();
    server.tasks.spawn_until_shutdown("node-log", async move {
        loop {
            let read = move || -> std::io::Result<(std::fs::File, Vec<u8>)> {
                let mut part = Vec::new();
                file.by_ref().take(CHUNK as u64).read_to_end(&mut part)?;
                Ok((file, part))
            };
            let part = match files.of_path("read", Path::new(ROOT), read).await {
                Ok(Ok((back, part))) => {
                    file = back;
                    part
                }
                Ok(Err(error)) => return debug!(%error, "a log of the node ended early"),
                Err(error) => return debug!(%error, "a log of the node ended early"),
            };
            if part.is_empty() || sender.send(Bytes::from(part)).await.is_err() {
                return;
            }
        }
    });
    reply::streamed(receiver)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_below_are_found_and_none_outside() {
        let (logs, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(logs.path().join("a b.log"), "words").unwrap();
        std::fs::create_dir(logs.path().join("sub")).unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), logs.path().join("link")).unwrap();
        let of =
            |parts: &[&str]| find(logs.path(), &parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap();
        assert!(matches!(of(&["a b.log"]), Found::File(_)));
        for parts in [&["link"][..], &["..", "etc", "passwd"], &["none"], &["sub", "../a b.log"]] {
            assert!(matches!(of(parts), Found::Missing), "{parts:?}");
        }
        // A link that stays inside is followed.
        std::os::unix::fs::symlink(logs.path().join("a b.log"), logs.path().join("sub/inner")).unwrap();
        assert!(matches!(of(&["sub", "inner"]), Found::File(_)));
        let Found::Listing(html) = of(&[""]) else { panic!("no listing") };
        assert!(
            html.contains("<a href=\"a%20b.log\">a b.log</a>\n<a href=\"link\">link</a>\n<a href=\"sub/\">sub/</a>"),
            "{html}"
        );
    }

    #[test]
    fn what_became_a_link_is_not_followed() {
        let (logs, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        std::fs::create_dir(logs.path().join("real")).unwrap();
        std::fs::write(logs.path().join("real/secret"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), logs.path().join("sub")).unwrap();
        let root = std::fs::File::open(logs.path()).unwrap();
        let open = |path: &str| open_beneath(&root, Path::new(path)).unwrap();
        assert!(open("real/secret").is_some() && open("").is_some());
        assert!(open("sub/secret").is_none() && open("sub").is_none() && open("../x").is_none());
    }
}
