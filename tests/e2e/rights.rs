//! Users other than root: the control plane runs for them, and what they may not do is said.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use crate::support::{TestCluster, as_nobody};

/// Runs a server that must give up; what it says.
fn refused(mut command: Command, flags: &[&str]) -> String {
    let out = command.args(["server", "--config", "/dev/null"]).args(flags).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    said
}

/// A directory that everybody sees and only root writes to.
fn roots_own() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn a_data_directory_that_may_not_be_written_is_named() {
    let dir = roots_own();
    let (missing, existing) = (text(&dir.path().join("data")), text(dir.path()));
    let said = refused(as_nobody(), &["--disable-agent", "--data-dir", &missing]);
    assert!(said.contains(&missing) && said.contains("Permission denied") && said.contains("--data-dir"), "{said}");
    let said = refused(as_nobody(), &["--disable-agent", "--data-dir", &existing]);
    assert!(said.contains(&existing) && said.contains("user 65534") && said.contains("--data-dir"), "{said}");
    // A directory of the user's own with root's files in it, as `sudo` leaves them.
    let own = roots_own();
    std::os::unix::fs::chown(own.path(), Some(65_534), Some(65_534)).unwrap();
    std::fs::create_dir_all(own.path().join("server/db")).unwrap();
    let said = refused(as_nobody(), &["--disable-agent", "--data-dir", &text(own.path())]);
    assert!(said.contains(&text(&own.path().join("server"))) && said.contains("chown"), "{said}");
    let kubeconfig = text(&dir.path().join("kubeconfig.yaml"));
    std::fs::remove_dir_all(own.path().join("server")).unwrap();
    let said = refused(as_nobody(), &["--disable-agent", "--data-dir", &text(own.path()), "-o", &kubeconfig]);
    assert!(said.contains(&kubeconfig) && said.contains("--write-kubeconfig"), "{said}");
    assert!(!own.path().join("server/db").exists(), "nothing was begun");
}

#[test]
fn a_node_needs_root_and_says_so() {
    let dir = roots_own();
    let said = refused(as_nobody(), &["--data-dir", &text(&dir.path().join("data"))]);
    assert!(said.contains("needs root") && said.contains("--disable-agent"), "{said}");
}

#[test]
fn the_control_plane_runs_without_root() {
    let mut cluster = TestCluster::of_nobody();
    cluster.ok(&["create", "deployment", "web", "--image=kedge.test/web:1"]);
    cluster.wait_for("1", &["get", "deployment", "web", "-o", "jsonpath={.status.replicas}"]);
    assert_eq!(cluster.data_dir().join("server/tls/server-ca.key").metadata().unwrap().uid(), 65_534);
    assert!(cluster.stop(), "a clean stop is a success");
    cluster.start();
    cluster.ok(&["get", "deployment", "web"]);
}
