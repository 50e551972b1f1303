//! What ADD answers.
//!
//! Invariant: the shape is that of the version the configuration asks for.

use crate::link::{Pair, mac_of, mac_text};
use crate::{Invocation, NetConf};
use serde_json::{Value, json};

/// The result of ADD for a pod.
pub fn pod(conf: &NetConf, invocation: &Invocation, pair: &Pair<'_>) -> Value {
    let Pair { address, gateway, host, .. } = *pair;
    let sandbox = invocation.netns.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let mac = |address| mac_text(&mac_of(address));
    let interfaces = json!([
        {"name": host, "mac": mac(gateway)},
        {"name": invocation.ifname, "mac": mac(address), "sandbox": sandbox},
    ]);
    let mut ip = json!({"address": format!("{address}/32"), "gateway": gateway, "interface": 1});
    if conf.cni_version.starts_with("0.") {
        // Versions before 1.0.0 tell the family of every address.
        ip["version"] = json!("4");
    }
    json!({
        "cniVersion": conf.cni_version,
        "interfaces": interfaces,
        "ips": [ip],
        "routes": [{"dst": "0.0.0.0/0", "gw": gateway}],
        "dns": {},
    })
}

/// The result of ADD for loopback.
pub fn loopback(conf: &NetConf, invocation: &Invocation) -> Value {
    let sandbox = invocation.netns.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let mut ip = json!({"address": "127.0.0.1/8", "interface": 0});
    if conf.cni_version.starts_with("0.") {
        ip["version"] = json!("4");
    }
    json!({
        "cniVersion": conf.cni_version,
        "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": sandbox}],
        "ips": [ip],
        "dns": {},
    })
}
