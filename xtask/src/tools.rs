//! What runs beside the product: packages of the host, kubectl in the version of the API, and an etcd to test against.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// Programs that the build needs beside Rust, for the pieces of C in the binary.
const BUILD: &[(&str, &str)] = &[("make", "make"), ("cc", "gcc")];
/// Programs that a node needs, and their Debian packages.
const NODE: &[(&str, &str)] =
    &[("containerd", "containerd"), ("runc", "runc"), ("nft", "nftables"), ("ip", "iproute2")];
/// Programs that the tests need on top: the content of their images, and clients.
const TESTS: &[(&str, &str)] = &[("/bin/busybox", "busybox-static"), ("conntrack", "conntrack"), ("curl", "curl")];
/// Where kubectl of this version and etcd are packaged.
const UNSTABLE_SOURCE: &str = "deb http://deb.debian.org/debian sid main\n";
const KUBECTL_VERSION: &str = "v1.36.";

pub fn run() -> anyhow::Result<()> {
    install(BUILD)?;
    install(NODE)?;
    install(TESTS)?;
    println!("kubectl: {}", kubectl()?.display());
    println!("etcd: {}", etcd()?.display());
    Ok(())
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where downloaded tools are kept.
fn tools_dir() -> PathBuf {
    root().join("target/tools")
}

/// Whether this process may do what a node does.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

/// Installs what building and running a node needs.
pub fn install_node() -> anyhow::Result<()> {
    install(BUILD)?;
    install(NODE)
}

/// Installs what the tests need.
pub fn install_tests() -> anyhow::Result<()> {
    install_node()?;
    install(TESTS)
}

fn is_there(program: &str) -> bool {
    let dirs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    if program.starts_with('/') {
        Path::new(program).exists()
    } else {
        dirs.iter().any(|d| Path::new(d).join(program).exists())
    }
}

fn install(programs: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> = programs.iter().filter(|(p, _)| !is_there(p)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    ensure!(is_root(), "missing packages: {list}; install them, or run this as root");
    ensure!(is_there("apt-get"), "missing: {list}; install them with the package manager of this host");
    println!("installing packages: {list}");
    sh(Command::new("apt-get").args(["update", "-qq"]))?;
    sh(Command::new("apt-get").args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing))
}

/// Runs a command; its failure is an error with its output.
pub fn sh(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let out = command.output().with_context(|| format!("cannot run {shown}"))?;
    if out.status.success() {
        return Ok(());
    }
    bail!("{shown} failed:\n{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The path of kubectl 1.36, downloaded when it is not there.
pub fn kubectl() -> anyhow::Result<PathBuf> {
    let path = tools_dir().join("kubectl");
    if is_right_kubectl(&path) {
        return Ok(path);
    }
    let system = PathBuf::from("/usr/bin/kubectl");
    if is_right_kubectl(&system) {
        return Ok(system);
    }
    download(&["kubectl"], &["kubectl"])?;
    ensure!(is_right_kubectl(&path), "the downloaded kubectl is not of version {KUBECTL_VERSION}x");
    Ok(path)
}

/// The directory with etcd, etcdctl and etcdutl, downloaded when they are not there.
pub fn etcd() -> anyhow::Result<PathBuf> {
    let programs = ["etcd", "etcdctl", "etcdutl"];
    let dir = tools_dir();
    let runs =
        |program: &&str| Command::new(dir.join(program)).arg("--help").output().is_ok_and(|o| o.status.success());
    if !programs.iter().all(runs) {
        download(&["etcd-server", "etcd-client"], &programs)?;
        ensure!(programs.iter().all(runs), "the downloaded etcd does not run on this host");
    }
    Ok(dir)
}

/// Takes programs out of packages that this host's own distribution has only in older versions.
///
/// They come from Debian's unstable distribution through a configuration of our own, so that the host's package sources
/// stay as they are.
fn download(packages: &[&str], programs: &[&str]) -> anyhow::Result<()> {
    let apt = tools_dir().join("apt");
    for dir in ["lists/partial", "cache/archives/partial", "etc"] {
        std::fs::create_dir_all(apt.join(dir))?;
    }
    std::fs::write(apt.join("etc/sources.list"), UNSTABLE_SOURCE)?;
    println!("downloading {}", packages.join(", "));
    let option = |key: &str, value: &str| ["-o".to_owned(), format!("{key}={value}")];
    let dir = apt.display();
    let options: Vec<String> = [
        option("Dir::Etc::sourcelist", &format!("{dir}/etc/sources.list")),
        option("Dir::Etc::sourceparts", "/dev/null"),
        option("Dir::Etc::preferences", "/dev/null"),
        option("Dir::Etc::preferencesparts", "/dev/null"),
        option("Dir::State::lists", &format!("{dir}/lists")),
        option("Dir::State::status", "/dev/null"),
        option("Dir::Cache", &format!("{dir}/cache")),
        option("APT::Sandbox::User", "root"),
    ]
    .concat();
    sh(Command::new("apt-get").args(&options).args(["update", "-qq"]).current_dir(&apt))?;
    sh(Command::new("apt-get").args(&options).args(["download", "-qq"]).args(packages).current_dir(&apt))?;
    let unpacked = apt.join("unpacked");
    for entry in std::fs::read_dir(&apt)? {
        let package = entry?.path();
        if package.extension().is_some_and(|e| e == "deb") {
            sh(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
        }
    }
    for program in programs {
        let from = unpacked.join("usr/bin").join(program);
        std::fs::copy(&from, tools_dir().join(program)).with_context(|| format!("no package holds {program}"))?;
    }
    Ok(std::fs::remove_dir_all(&apt)?)
}

fn is_right_kubectl(path: &Path) -> bool {
    let out = Command::new(path).args(["version", "--client"]).output();
    out.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(KUBECTL_VERSION))
}
