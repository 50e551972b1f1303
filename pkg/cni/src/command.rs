//! The commands of CNI.
//!
//! Invariant: the address store is locked from the first look to the last change, so commands act
//! one after the other, and a record without an interface is known to be a leftover.

use crate::error::CniError;
use crate::ipam::{Record, Store};
use crate::link::{self, Pair};
use crate::{BRIDGE, Invocation, NetConf, Settings, host, result};
use crate::{conntrack, hostport};
use kedge_nft::Nft;
use rtnetlink::Handle;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::Path;

const LOOPBACK: &str = "loopback";

/// ADD: gives the pod an interface. Repeating it gives the same address again.
///
/// # Errors
/// When anything fails; nothing of the attempt is left then.
pub async fn add(conf: &NetConf, invocation: &Invocation, nft: &dyn Nft) -> Result<Value, CniError> {
    let netns = invocation.require_netns()?;
    if conf.r#type == LOOPBACK {
        link::in_namespace(netns, |handle| async move { link::loopback_up(&handle).await })?;
        return Ok(result::loopback(conf, invocation));
    }
    let settings = conf.settings()?;
    let store = Store::open(&settings.ips_dir())?;
    let attempt = link::with_netlink(|handle| {
        let add = Add { conf, invocation, settings: &settings, store: &store, nft, netns };
        async move { add.run(&handle).await }
    });
    match attempt.await {
        Ok(result) => Ok(result),
        Err(error) => {
            if let Err(undo) = remove(&store, invocation, nft).await {
                tracing::warn!(%undo, container = invocation.container_id, "cannot undo a failed ADD");
            }
            Err(error)
        }
    }
}

struct Add<'a> {
    conf: &'a NetConf,
    invocation: &'a Invocation,
    settings: &'a Settings,
    store: &'a Store,
    nft: &'a dyn Nft,
    netns: &'a Path,
}

impl Add<'_> {
    async fn run(&self, handle: &Handle) -> Result<Value, CniError> {
        let gateway = self.settings.pod_cidr.gateway();
        if link::find(handle, BRIDGE).await?.is_none() {
            host::ensure_host(self.settings, self.nft).await?;
        }
        let address = self.address(handle).await?;
        let host = host_interface(&self.invocation.container_id, &self.invocation.ifname);
        let pod = self.invocation.ifname.as_str();
        let pair = &Pair { host: &host, pod, address, gateway, mtu: self.settings.mtu };
        link::create_pair(handle, pair, self.netns).await?;
        link::in_namespace(self.netns, |inside| async move {
            link::loopback_up(&inside).await?;
            link::configure_pod(&inside, pair).await
        })?;
        if !self.conf.runtime_config.port_mappings.is_empty() {
            write_host_ports(self.store, self.nft).await?;
            conntrack::forget(&self.conf.runtime_config.port_mappings).await;
        }
        Ok(result::pod(self.conf, self.invocation, pair))
    }

    /// Allocates; when that fails, looks for leftovers of pods that went without a DEL.
    async fn address(&self, handle: &Handle) -> Result<Ipv4Addr, CniError> {
        match self.try_address() {
            Err(CniError::Exhausted(_) | CniError::HostPort { .. }) => {
                let valid = living(handle, self.store).await?;
                let gone = self.store.release_others(&valid)?;
                tracing::info!(addresses = gone.len(), "released addresses of pods without interface");
                self.try_address()
            }
            other => other,
        }
    }

    fn try_address(&self) -> Result<Ipv4Addr, CniError> {
        let ports = &self.conf.runtime_config.port_mappings;
        if !ports.is_empty() {
            hostport::conflicts(&self.store.records()?, self.invocation, ports)?;
        }
        self.store.allocate(self.settings.pod_cidr, self.invocation, ports)
    }
}

/// The attachments whose interface exists.
async fn living(handle: &Handle, store: &Store) -> Result<Vec<crate::conf::Attachment>, CniError> {
    let names = link::names(handle).await?;
    let records = store.records()?.into_values();
    let living = records.filter(|r| names.contains(&host_interface(&r.container_id, &r.ifname)));
    let attachment = |r: Record| crate::conf::Attachment { container_id: r.container_id, ifname: r.ifname };
    Ok(living.map(attachment).collect())
}

/// DEL: takes away whatever ADD made. It succeeds as well when nothing or only a part is there.
///
/// # Errors
/// When something is there and cannot be removed.
pub async fn del(conf: &NetConf, invocation: &Invocation, nft: &dyn Nft) -> Result<(), CniError> {
    if conf.r#type == LOOPBACK {
        // It goes with the namespace.
        return Ok(());
    }
    let settings = conf.settings()?;
    let store = Store::open(&settings.ips_dir())?;
    remove(&store, invocation, nft).await
}

async fn remove(store: &Store, invocation: &Invocation, nft: &dyn Nft) -> Result<(), CniError> {
    let host = host_interface(&invocation.container_id, &invocation.ifname);
    link::with_netlink(|handle| async move { link::remove(&handle, &host).await }).await?;
    let gone = store.release(invocation)?;
    after_release(store, &gone, nft).await
}

async fn after_release(store: &Store, gone: &[(Ipv4Addr, Record)], nft: &dyn Nft) -> Result<(), CniError> {
    if gone.iter().any(|(_, record)| !record.ports.is_empty()) {
        write_host_ports(store, nft).await?;
        conntrack::forget(gone.iter().flat_map(|(_, record)| &record.ports)).await;
    }
    Ok(())
}

async fn write_host_ports(store: &Store, nft: &dyn Nft) -> Result<(), CniError> {
    let script = hostport::script(&store.records()?);
    let applied = nft.apply(&script).await;
    applied.map_err(|source| CniError::Nft { what: "set up host ports", source })
}

/// GC: takes away what belongs to attachments that the runtime no longer knows.
///
/// # Errors
/// When something is there and cannot be removed.
pub async fn gc(conf: &NetConf, nft: &dyn Nft) -> Result<(), CniError> {
    if conf.r#type == LOOPBACK {
        return Ok(());
    }
    let settings = conf.settings()?;
    let store = Store::open(&settings.ips_dir())?;
    let gone = store.release_others(&conf.valid_attachments)?;
    let hosts: Vec<String> = gone.iter().map(|(_, r)| host_interface(&r.container_id, &r.ifname)).collect();
    link::with_netlink(|handle| async move {
        for host in &hosts {
            link::remove(&handle, host).await?;
        }
        Ok(())
    })
    .await?;
    after_release(&store, &gone, nft).await
}

/// CHECK: whether what ADD made is still there.
///
/// # Errors
/// [`CniError::Check`] with what is missing.
pub async fn check(conf: &NetConf, invocation: &Invocation) -> Result<(), CniError> {
    let netns = invocation.require_netns()?;
    if conf.r#type == LOOPBACK {
        return Ok(());
    }
    let settings = conf.settings()?;
    let store = Store::open(&settings.ips_dir())?;
    let records = store.records()?;
    let mine = records.iter().find(|(_, record)| record.is_of(invocation));
    let Some((address, _)) = mine else {
        return Err(CniError::Check("the pod has no address".to_owned()));
    };
    let host = host_interface(&invocation.container_id, &invocation.ifname);
    link::with_netlink(|handle| async move { present(&handle, &host).await.map(drop) }).await?;
    let (ifname, address) = (invocation.ifname.as_str(), *address);
    link::in_namespace(netns, |handle| async move {
        let index = present(&handle, ifname).await?;
        if link::has_address(&handle, index, address).await? {
            return Ok(());
        }
        Err(CniError::Check(format!("interface {ifname} does not have {address}")))
    })
}

async fn present(handle: &Handle, name: &str) -> Result<u32, CniError> {
    let link = link::find(handle, name).await?;
    link.map(|link| link.header.index).ok_or_else(|| CniError::Check(format!("interface {name} is missing")))
}

/// STATUS: whether ADD would work.
///
/// # Errors
/// [`CniError::NotAvailable`] when it would not.
pub fn status(conf: &NetConf) -> Result<(), CniError> {
    if conf.r#type == LOOPBACK {
        return Ok(());
    }
    let settings = conf.settings()?;
    Store::open(&settings.ips_dir()).map(drop).map_err(|error| CniError::NotAvailable(error.to_string()))
}

/// The node's ends of all pods' interfaces.
pub(crate) fn host_interfaces(store: &Store) -> Result<Vec<String>, CniError> {
    Ok(store.records()?.values().map(|r| host_interface(&r.container_id, &r.ifname)).collect())
}

/// The name of the node's end of a pod's interface.
fn host_interface(container_id: &str, ifname: &str) -> String {
    let bytes = container_id.bytes().chain([b'/']).chain(ifname.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("veth{hash:08x}")
}
