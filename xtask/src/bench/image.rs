//! The image that pods of benchmarks run: busybox with all its names. Nothing is pulled.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use kedge_oci::File;

use super::ctr;

const BUSYBOX: &str = "/bin/busybox";

/// Brings an image into a runtime; `version` makes it differ from others.
pub fn import(socket: &Path, scratch: &Path, name: &str, version: &str, command: &[&str]) -> anyhow::Result<()> {
    let archive = scratch.join("image.tar");
    std::fs::write(&archive, image(name, version, command)?)?;
    ctr(socket, &["images", "import", &archive.to_string_lossy()])?;
    Ok(std::fs::remove_file(archive)?)
}

fn image(name: &str, version: &str, command: &[&str]) -> anyhow::Result<Vec<u8>> {
    let busybox = std::fs::read(BUSYBOX)?;
    let list = Command::new(BUSYBOX).arg("--list").output()?;
    ensure!(list.status.success(), "{BUSYBOX} does not say what it can");
    let names = String::from_utf8(list.stdout)?;
    let links: Vec<String> = names.lines().filter(|n| *n != "busybox").map(|n| format!("bin/{n}")).collect();
    let mut files = vec![
        File::directory("bin/", 0o755),
        File::directory("etc/", 0o755),
        File::directory("tmp/", 0o1777),
        File::regular("bin/busybox", &busybox, 0o755),
        File::regular("etc/version", version.as_bytes(), 0o644),
    ];
    files.extend(links.iter().map(|path| File::link(path, "busybox")));
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    Ok(kedge_oci::image(name, architecture, &files, command)?)
}
