//! Reads all manifests of a directory, or the one that a path names. All of this blocks.
//!
//! Invariant: what has not changed since it was read is the same pod as before; a file that cannot be used is told once for each content.

use std::collections::{BTreeMap, HashSet};
use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{self, MAX_BYTES, Place};
use crate::pod::RawPod;

/// Files that are looked at: more pods than a node has.
const MAX_FILES: usize = 1_024;

/// A file as it was read last.
struct Known {
    content: u64,
    seen: String,
    pod: Option<Arc<RawPod>>,
}

/// What the files say now.
#[derive(Default)]
pub(super) struct Found {
    pub(super) pods: Vec<Arc<RawPod>>,
    /// What is wrong with files that are new or have changed.
    pub(super) problems: Vec<String>,
}

/// Remembers what it read.
pub(super) struct Manifests {
    node: String,
    known: BTreeMap<PathBuf, Known>,
}

impl Manifests {
    pub(super) fn new(node: &str) -> Manifests {
        Manifests { node: node.to_owned(), known: BTreeMap::new() }
    }

    /// Reads `path`, a directory or a file; `now` is the time by which new manifests are first seen.
    ///
    /// # Errors
    /// When nothing can be said about the path. One that is not there holds no manifests.
    pub(super) fn read(&mut self, path: &Path, now: &str) -> io::Result<Found> {
        let mut found = Found::default();
        let mut names = HashSet::new();
        let files = files(path, &mut found)?;
        self.known.retain(|file, _| files.contains(file));
        for file in files {
            let Some(pod) = self.file(&file, now, &mut found) else { continue };
            let name = pod.metadata.key().to_string();
            if names.insert(name.clone()) {
                found.pods.push(pod);
            } else {
                let uid = &pod.metadata.uid;
                let why = format!(
                    "Error validating pod {name}({uid}) from file due to duplicate pod name {name:?}, ignoring"
                );
                found.problems.push(why);
            }
        }
        Ok(found)
    }

    fn file(&mut self, file: &Path, now: &str, found: &mut Found) -> Option<Arc<RawPod>> {
        let bytes = match content(file) {
            Ok(bytes) => bytes,
            // It went while it was looked at.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                found.problems.push(format!("Could not process manifest file {}: {error}", file.display()));
                return None;
            }
        };
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let content = hasher.finish();
        let before = self.known.get(file);
        if let Some(known) = before.filter(|known| known.content == content) {
            return known.pod.clone();
        }
        let text = file.display().to_string();
        let make = |seen: &str| manifest::read(&bytes, &Place { node: &self.node, file: &text, seen });
        // A pod that stays the same one, since its file names its uid, was seen when it was first.
        let seen = before.map_or(now, |known| &known.seen).to_owned();
        let same =
            |pod: &RawPod| before.and_then(|b| b.pod.as_ref()).is_some_and(|b| b.metadata.uid == pod.metadata.uid);
        let (seen, made) = match make(&seen) {
            Ok(pod) if same(&pod) => (seen, Ok(pod)),
            Ok(_) => (now.to_owned(), make(now)),
            Err(error) => (now.to_owned(), Err(error)),
        };
        let pod = match made {
            Ok(pod) => Some(Arc::new(pod)),
            Err(error) => {
                found.problems.push(format!("Could not process manifest file {text}: {error}"));
                None
            }
        };
        self.known.insert(file.to_owned(), Known { content, seen, pod: pod.clone() });
        pod
    }
}

/// The files, by name; those that begin with a point are somebody's drafts.
fn files(path: &Path, found: &mut Found) -> io::Result<Vec<PathBuf>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        // Links are followed: that is how files are put in place whole.
        if hidden || !std::fs::metadata(&path).is_ok_and(|m| m.is_file()) {
            continue;
        }
        files.push(path);
    }
    files.sort();
    if files.len() > MAX_FILES {
        let more = files.len() - MAX_FILES;
        found
            .problems
            .push(format!("{} holds {more} manifests more than the {MAX_FILES} that are read", path.display()));
        files.truncate(MAX_FILES);
    }
    Ok(files)
}

/// All of a file, if that is not too much. A pipe that came in its place is not waited for.
fn content(file: &Path) -> io::Result<Vec<u8>> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::CONFIG_SEEN;

    fn manifest(name: &str, image: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}"
        )
    }

    fn names(found: &Found) -> Vec<&str> {
        found.pods.iter().map(|pod| pod.metadata.name.as_str()).collect()
    }

    #[test]
    fn files_come_change_and_go_and_bad_ones_are_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("b.yaml", &manifest("b", "i"));
        write("a.json", &manifest("a", "i"));
        write(".hidden.yaml", &manifest("h", "i"));
        write("broken.yaml", "{");
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        let mut all = Manifests::new("n");
        let first = all.read(directory.path(), "1").unwrap();
        assert_eq!(names(&first), ["a-n", "b-n"]);
        assert!(first.problems.len() == 1 && first.problems[0].contains("broken.yaml"), "{:?}", first.problems);
        let again = all.read(directory.path(), "2").unwrap();
        assert!(again.problems.is_empty(), "told already");
        assert_eq!(again.pods[0].json(), first.pods[0].json(), "what is the same was seen when it was");
        write("a.json", &manifest("a", "j"));
        write("z.yaml", &manifest("b", "k"));
        std::fs::remove_file(directory.path().join("broken.yaml")).unwrap();
        let changed = all.read(directory.path(), "3").unwrap();
        assert_eq!(names(&changed), ["a-n", "b-n"]);
        assert_ne!(changed.pods[0].metadata.uid, first.pods[0].metadata.uid);
        assert_eq!(changed.pods[0].metadata.annotations.get(CONFIG_SEEN), Some("3"));
        assert!(
            changed.problems[0].contains("due to duplicate pod name \"default/b-n\", ignoring"),
            "{:?}",
            changed.problems
        );
        assert!(all.read(&directory.path().join("none"), "4").unwrap().pods.is_empty());
        assert_eq!(names(&all.read(&directory.path().join("b.yaml"), "5").unwrap()), ["b-n"], "one file alone");
    }

    #[test]
    fn what_is_too_large_and_what_is_no_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let large = directory.path().join("large.yaml");
        std::fs::File::create(&large).unwrap().set_len(11 << 20).unwrap();
        let problems = Manifests::new("n").read(directory.path(), "1").unwrap().problems;
        assert!(problems[0].contains("more than 10485760 bytes"), "{problems:?}");
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(content(&pipe).unwrap_err().to_string().contains("no regular file"));
    }
}
