//! NFS, by the host's own `mount`, which knows the protocol's versions and helpers.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::NFSVolumeSource;

use super::Mounter;

/// What of a program's words is shown.
const MAX_OUTPUT: usize = 4096;

/// The options of a mount.
fn options(source: &NFSVolumeSource, read_only: bool, more: &[String]) -> String {
    let read_only = read_only || source.read_only == Some(true);
    let own = read_only.then(|| "ro".to_owned());
    let list: Vec<String> = own.into_iter().chain(more.iter().cloned()).collect();
    list.join(",")
}

/// What is mounted; addresses of IPv6 stand in brackets.
fn export(source: &NFSVolumeSource) -> String {
    let server = &source.server;
    match server.parse::<std::net::Ipv6Addr>() {
        Ok(_) => format!("[{server}]:{}", source.path),
        Err(_) => format!("{server}:{}", source.path),
    }
}

/// Mounts the volume, unless it is. Blocks, for as long as the server does not answer.
///
/// # Errors
/// With the words of `mount`, or what is missing on the host.
pub(super) fn mount(
    source: &NFSVolumeSource,
    read_only: bool,
    more: &[String],
    target: &Path,
    mounter: &dyn Mounter,
) -> io::Result<()> {
    // Before anything else: to look at a mounted one may hang.
    if mounter.is_mounted(target)? {
        return Ok(());
    }
    fs::create_dir_all(target)?;
    let options = options(source, read_only, more);
    let mut command = Command::new("mount");
    command.args(["-t", "nfs"]);
    if !options.is_empty() {
        command.args(["-o", &options]);
    }
    let export = export(source);
    command.arg("--").arg(&export).arg(target).stdin(Stdio::null());
    let done = command.output().map_err(|error| io::Error::other(format!("cannot run mount: {error}")))?;
    if done.status.success() {
        return Ok(());
    }
    // Nothing is mounted there: what is left is an empty directory.
    let _ = fs::remove_dir(target);
    let said = String::from_utf8_lossy(&done.stderr);
    let said: String = said.chars().take(MAX_OUTPUT).collect();
    Err(io::Error::other(format!(
        "mount failed: {}\nMounting arguments: -t nfs -o {options} {export} {}\nOutput: {}",
        done.status,
        target.display(),
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_only_read_says_so_once() {
        let source = NFSVolumeSource { path: "/p".into(), server: "s".into(), read_only: Some(true) };
        assert_eq!(options(&source, true, &["nfsvers=4.1".into()]), "ro,nfsvers=4.1");
        assert_eq!(export(&source), "s:/p");
        let source = NFSVolumeSource { read_only: None, server: "fd00::1".into(), ..source };
        assert_eq!(export(&source), "[fd00::1]:/p");
        assert_eq!(options(&source, false, &[]), "");
        assert_eq!(options(&source, false, &["hard".into()]), "hard");
    }
}
