//! Images made here, as OCI image layouts in a tar file: the sandbox image, and images for tests.
//!
//! Invariant: the same content always gives the same image.

use serde_json::{Value, json};
use sha2::Digest as _;

/// What stands at a path of an image.
enum Content<'a> {
    Regular(&'a [u8]),
    Link(&'a str),
    Directory,
}

/// A file, link or directory of an image.
pub struct File<'a> {
    path: &'a str,
    content: Content<'a>,
    mode: u32,
}

impl<'a> File<'a> {
    /// A regular file.
    pub fn regular(path: &'a str, content: &'a [u8], mode: u32) -> Self {
        Self { path, content: Content::Regular(content), mode }
    }

    /// A symbolic link.
    pub fn link(path: &'a str, target: &'a str) -> Self {
        Self { path, content: Content::Link(target), mode: 0o777 }
    }

    /// A directory.
    pub fn directory(path: &'a str, mode: u32) -> Self {
        Self { path, content: Content::Directory, mode }
    }
}

fn digest(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, file: &File<'_>) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(file.mode);
    header.set_mtime(0);
    header.set_size(0);
    match &file.content {
        Content::Regular(content) => {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, file.path, *content)
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, file.path, target)
        }
        Content::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, file.path, std::io::empty())
        }
    }
}

/// An image of one layer, named `name`, that runs `entrypoint`.
///
/// # Errors
/// When a path is too long for a tar file.
pub fn image(name: &str, architecture: &str, files: &[File<'_>], entrypoint: &[&str]) -> std::io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for file in files {
        append(&mut layer, file)?;
    }
    let layer = layer.into_inner()?;
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Entrypoint": entrypoint },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
    })
    .to_string()
    .into_bytes();
    let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string()
    .into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name });
    entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
    let index: Value = json!({ "schemaVersion": 2, "manifests": [entry] });
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, &File::regular("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644))?;
    append(&mut tar, &File::regular("index.json", index.to_string().as_bytes(), 0o644))?;
    for blob in [&config, &layer, &manifest] {
        append(&mut tar, &File::regular(&format!("blobs/sha256/{}", digest(blob)), blob, 0o644))?;
    }
    tar.into_inner()
}
