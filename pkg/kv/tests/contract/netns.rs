//! Three network namespaces on one bridge, whose links can be cut.

use std::process::{Child, Command, Stdio};

pub struct Network {
    guard: Child,
    id: u32,
}

/// Whether namespaces can be made here.
pub fn available() -> bool {
    Command::new("ip").args(["netns", "list"]).output().is_ok_and(|out| out.status.success()) && is_root()
}

fn is_root() -> bool {
    let out = Command::new("id").arg("-u").output().unwrap();
    out.stdout.starts_with(b"0\n")
}

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(status.success(), "ip {args}");
}

impl Network {
    /// Made with a guard, so that it is gone when the test is, however that ends.
    pub fn new(members: usize) -> Self {
        let id = std::process::id();
        let names: Vec<String> = (0..members).map(|i| Self::name_of(id, i)).collect();
        let deletions: String = names.iter().map(|name| format!("ip netns del {name}; ")).collect();
        let script = format!("read -r _; {deletions} ip link del {}", Self::bridge_of(id));
        let guard =
            Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let network = Self { guard, id };
        let bridge = Self::bridge_of(id);
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("address add {}/24 dev {bridge}", network.address(253)));
        ip(&format!("link set {bridge} up"));
        for (i, name) in names.iter().enumerate() {
            ip(&format!("netns add {name}"));
            ip(&format!("link add {} type veth peer name eth0 netns {name}", network.link(i)));
            ip(&format!("link set {} master {bridge} up", network.link(i)));
            ip(&format!("-n {name} address add {}/24 dev eth0", network.address(i)));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} link set lo up"));
        }
        network
    }

    fn name_of(id: u32, member: usize) -> String {
        format!("kv{id}-{member}")
    }

    fn bridge_of(id: u32) -> String {
        format!("kvb{id}")
    }

    fn link(&self, member: usize) -> String {
        format!("kvl{}-{member}", self.id)
    }

    pub fn name(&self, member: usize) -> String {
        Self::name_of(self.id, member)
    }

    /// Of a range for benchmarks, which nobody routes.
    pub fn address(&self, member: usize) -> String {
        format!("198.18.{}.{}", self.id % 256, member + 1)
    }

    pub fn cut(&self, member: usize) {
        ip(&format!("link set {} down", self.link(member)));
    }

    pub fn heal(&self, member: usize) {
        ip(&format!("link set {} up", self.link(member)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        self.guard.wait().unwrap();
    }
}
