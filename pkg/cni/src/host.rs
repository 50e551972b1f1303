//! The node's side: bridge, forwarding, masquerading.
//!
//! Invariant: what this sets up belongs to the node, not to any pod. It is made once at start and
//! is removed only by uninstalling.

use crate::error::CniError;
use crate::ipam::Store;
use crate::{BRIDGE, Settings, command, hostport, ips_dir, link};
use kedge_nft::Nft;
use std::path::Path;

/// The table that masquerades what pods send out of the cluster.
const MASQUERADE_TABLE: &str = "kedge-masq";

/// Whether packets to and from 127.0.0.0/8 may come from the network and leave for it.
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";

/// Makes the bridge with its address, switches forwarding on and installs masquerading.
///
/// The agent calls it before the first pod, so that servers can listen on the bridge's address; a
/// plug-in calls it when it finds no bridge.
///
/// # Errors
/// When the kernel refuses a part.
pub async fn ensure_host(settings: &Settings, nft: &dyn Nft) -> Result<(), CniError> {
    link::with_netlink(|handle| async move {
        let net = settings.pod_cidr;
        let index = link::ensure_bridge(&handle, BRIDGE, net.gateway(), net.prefix(), settings.mtu).await?;
        if let Some(services) = settings.service_cidr {
            link::ensure_route(&handle, services.network(), services.prefix(), index, Some(net.gateway())).await?;
        }
        Ok(())
    })
    .await?;
    nft.apply(&masquerade_script(settings))
        .await
        .map_err(|source| CniError::Nft { what: "install masquerading", source })?;
    sysctls()
}

/// Settings of the kernel: those that are needed, and those that only help.
fn sysctls() -> Result<(), CniError> {
    set_sysctl("net/ipv4/ip_forward", "1")?;
    // Host ports answer on 127.0.0.1; the guard in masquerade_script(), which is there by now, keeps others from using that.
    set_sysctl(ROUTE_LOCALNET, "1")
}

fn set_sysctl(name: &str, value: &str) -> Result<(), CniError> {
    let path = Path::new("/proc/sys").join(name);
    // Where /proc/sys is read-only, it is enough that somebody set the right value.
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(CniError::io(format!("write {value} to {}", path.display())))
}

fn masquerade_script(settings: &Settings) -> String {
    let (table, pods, cluster) = (MASQUERADE_TABLE, settings.pod_cidr, settings.cluster_cidr);
    format!(
        "add table ip {table}\ndelete table ip {table}\nadd table ip {table}\n\
         add chain ip {table} postrouting {{ type nat hook postrouting priority 100; }}\n\
         add rule ip {table} postrouting ip saddr {pods} ip daddr != {cluster} ip daddr != 224.0.0.0/4 \
         masquerade fully-random\n\
         add chain ip {table} guard {{ type filter hook prerouting priority -110; }}\n\
         add rule ip {table} guard iifname != \"lo\" ip daddr 127.0.0.0/8 ct status and dnat == 0 drop\n"
    )
}

/// Removes everything this crate ever made on the node, for uninstalling.
///
/// # Errors
/// When a part cannot be removed.
pub async fn cleanup(data_dir: &Path, nft: &dyn Nft) -> Result<(), CniError> {
    let dir = ips_dir(data_dir);
    let hosts = if dir.exists() { command::host_interfaces(&Store::open(&dir)?)? } else { Vec::new() };
    link::with_netlink(|handle| async move {
        for host in &hosts {
            link::remove(&handle, host).await?;
        }
        link::remove(&handle, BRIDGE).await
    })
    .await?;
    // What listens on 127.0.0.1 of the node is reached from the network, once the guard is gone.
    if let Err(error) = set_sysctl(ROUTE_LOCALNET, "0") {
        tracing::warn!(%error, "addresses of 127.0.0.0/8 stay reachable through the node's other addresses");
    }
    for table in [hostport::TABLE, MASQUERADE_TABLE] {
        let removed = nft.delete_table("ip", table).await;
        removed.map_err(|source| CniError::Nft { what: "remove a table", source })?;
    }
    if dir.exists() {
        let _lock = Store::open(&dir)?;
        std::fs::remove_dir_all(&dir).map_err(CniError::io(format!("remove {}", dir.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cluster_traffic_is_not_masqueraded() {
        let settings = Settings {
            pod_cidr: "10.42.1.0/24".parse().unwrap(),
            cluster_cidr: "10.42.0.0/16".parse().unwrap(),
            service_cidr: None,
            mtu: 1500,
            data_dir: "/d".into(),
        };
        let text = masquerade_script(&settings);
        assert!(text.contains("ip saddr 10.42.1.0/24 ip daddr != 10.42.0.0/16"), "{text}");
    }
}
