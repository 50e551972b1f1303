//! The images of the tests: busybox with a version in it. Nothing is pulled.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use kedge_oci::File;

const BUSYBOX: &str = "/bin/busybox";

/// Two images that differ in `/etc/version`: `1` and `2`.
pub const WEB_1: &str = "kedge.test/web:1";
pub const WEB_2: &str = "kedge.test/web:2";

/// Brings the images into a runtime.
pub fn import(socket: &Path) {
    for (name, version) in [(WEB_1, "1"), (WEB_2, "2")] {
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), image(name, version)).unwrap();
        let out = Command::new("ctr")
            .arg("--address")
            .arg(socket)
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(archive.path())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

fn applets() -> &'static [String] {
    static APPLETS: OnceLock<Vec<String>> = OnceLock::new();
    APPLETS.get_or_init(|| {
        let out = Command::new(BUSYBOX).arg("--list").output().unwrap();
        let names = String::from_utf8(out.stdout).unwrap();
        names.lines().filter(|n| *n != "busybox").map(|n| format!("bin/{n}")).collect()
    })
}

fn image(name: &str, version: &str) -> Vec<u8> {
    let busybox = std::fs::read(BUSYBOX).unwrap();
    let mut files = vec![
        File::directory("bin/", 0o755),
        File::directory("etc/", 0o755),
        File::directory("tmp/", 0o1777),
        File::directory("www/", 0o777),
        File::regular("bin/busybox", &busybox, 0o755),
        File::regular("etc/version", version.as_bytes(), 0o644),
        File::regular("www/index.html", version.as_bytes(), 0o644),
    ];
    files.extend(applets().iter().map(|path| File::link(path, "busybox")));
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    kedge_oci::image(name, architecture, &files, &["/bin/sh", "-c"]).unwrap()
}
