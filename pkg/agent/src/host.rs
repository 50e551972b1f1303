//! Facts about this host: its name, its address, what is installed.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;

/// The host name in the form of a node name.
pub fn name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let clean = clean.trim_matches(['-', '.']).to_owned();
    if clean.is_empty() { "node".into() } else { clean }
}

/// The address that this host has towards others: that of its default route, else that of its first interface.
pub fn address() -> IpAddr {
    // Connecting a UDP socket sends nothing; it only asks the kernel for the route.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    match routed {
        Ok(address) if !address.ip().is_unspecified() => address.ip(),
        _ => Ipv4Addr::LOCALHOST.into(),
    }
}

/// Where a shell looks when nobody tells it.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Where administrators' programs are; the search path of others, such as of timers, may leave them out.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Directories with programs: the search path, then those for administrators.
fn program_dirs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path).chain(SYSTEM_DIRS.iter().map(PathBuf::from)).collect()
}

/// The search path for programs that are started here, so that they find what was found here.
pub fn search_path() -> OsString {
    // A directory with a colon in it cannot come out of a search path.
    std::env::join_paths(program_dirs()).unwrap_or_else(|_| DEFAULT_PATH.into())
}

/// Where a program is.
pub fn find_program(name: &str) -> Option<PathBuf> {
    program_dirs().into_iter().map(|dir| dir.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Programs that a node needs and the packages that bring them.
pub const NEEDED: &[(&str, &str)] = &[("containerd", "containerd"), ("runc", "runc"), ("nft", "nftables")];

/// Whether this process may make the kernel kill others first: without the capability, lowering `oom_score_adj` fails.
pub fn may_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    bits & (1 << CAP_SYS_RESOURCE) != 0
}
