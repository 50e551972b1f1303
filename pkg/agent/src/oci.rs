//! Images made here, as OCI image layouts in a tar file: the pause image, and images for tests.

use serde_json::{Value, json};
use sha2::Digest as _;

/// A file of an image.
pub(crate) struct ImageFile<'a> {
    pub path: &'a str,
    pub content: &'a [u8],
    pub mode: u32,
}

fn digest(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    // The same content always gives the same image.
    header.set_mtime(0);
    tar.append_data(&mut header, path, content)
}

/// An image of one layer, named `name`, that runs `entrypoint`.
///
/// # Errors
/// When a path is too long for a tar file.
pub(crate) fn image(
    name: &str,
    architecture: &str,
    files: &[ImageFile<'_>],
    entrypoint: &[&str],
) -> std::io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for file in files {
        append(&mut layer, file.path, file.content, file.mode)?;
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
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append(&mut tar, "index.json", index.to_string().as_bytes(), 0o644)?;
    for blob in [&config, &layer, &manifest] {
        append(&mut tar, &format!("blobs/sha256/{}", digest(blob)), blob, 0o644)?;
    }
    tar.into_inner()
}
