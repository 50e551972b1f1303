//! Interfaces, addresses and routes: the only module that speaks netlink.
//!
//! Invariant: every function can be repeated; what is there already counts as done. Work inside a
//! pod's namespace happens on a thread of its own that ends with it, because a thread that has
//! entered a namespace must never serve anything else.

use crate::error::CniError;
use futures::TryStreamExt as _;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use netlink_packet_route::route::RouteScope;
use rtnetlink::{Error as RtError, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::pin::pin;

/// A hardware address.
pub type Mac = [u8; 6];

/// The interface of a pod, as both its ends are to be.
#[derive(Debug, Clone)]
pub struct Pair<'a> {
    /// The end in the node's namespace.
    pub host: &'a str,
    /// The end in the pod.
    pub pod: &'a str,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The address through which the pod reaches everything.
    pub gateway: Ipv4Addr,
    /// Of both ends, in bytes.
    pub mtu: u32,
}

/// The hardware address that belongs to an address; being derived it survives repetition.
pub fn mac_of(ip: Ipv4Addr) -> Mac {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// The usual text form.
pub fn mac_text(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// Runs `work` with a netlink connection of the thread's network namespace.
pub async fn with_netlink<T, F, W>(work: W) -> Result<T, CniError>
where
    F: Future<Output = Result<T, CniError>>,
    W: FnOnce(Handle) -> F,
{
    let (connection, handle, _messages) = rtnetlink::new_connection().map_err(CniError::io("open a netlink socket"))?;
    tokio::select! {
        result = work(handle) => result,
        () = connection => Err(CniError::Netlink {
            what: "talk to the kernel".to_owned(),
            message: "the netlink connection closed".to_owned(),
        }),
    }
}

/// Runs `work` in the network namespace at `path`.
pub fn in_namespace<T, F, W>(path: &Path, work: W) -> Result<T, CniError>
where
    T: Send,
    F: Future<Output = Result<T, CniError>>,
    W: FnOnce(Handle) -> F + Send,
{
    let what = || format!("enter the network namespace {}", path.display());
    let namespace = File::open(path).map_err(CniError::io(what()))?;
    let thread = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| CniError::io(what())(error.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(CniError::io("start a runtime"))?.block_on(with_netlink(work))
    };
    let joined = std::thread::scope(|scope| scope.spawn(thread).join());
    let panicked = std::io::Error::other("the thread in the namespace panicked");
    joined.unwrap_or_else(|_| Err(CniError::io(what())(panicked)))
}

fn failed<'a>(what: impl std::fmt::Display + 'a) -> impl FnOnce(RtError) -> CniError + 'a {
    move |error| {
        let message = match &error {
            RtError::NetlinkError(refusal) => refusal.to_io().to_string(),
            other => other.to_string(),
        };
        CniError::Netlink { what: what.to_string(), message }
    }
}

fn is(error: &RtError, errno: rustix::io::Errno) -> bool {
    matches!(error, RtError::NetlinkError(refusal) if refusal.raw_code().abs() == errno.raw_os_error())
}

fn unless_there(result: Result<(), RtError>) -> Result<(), RtError> {
    match result {
        Err(error) if is(&error, rustix::io::Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// The interface of that name.
pub async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, CniError> {
    let mut links = pin!(handle.link().get().match_name(name).execute());
    match links.try_next().await {
        Ok(link) => Ok(link),
        Err(error) if is(&error, rustix::io::Errno::NODEV) => Ok(None),
        Err(error) => Err(failed(format!("look up interface {name}"))(error)),
    }
}

/// The names of all interfaces.
pub async fn names(handle: &Handle) -> Result<Vec<String>, CniError> {
    let links = handle.link().get().execute().try_collect::<Vec<_>>().await;
    Ok(links.map_err(failed("list interfaces"))?.iter().filter_map(name).collect())
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// Removes the interface of that name, if there is one.
pub async fn remove(handle: &Handle, name: &str) -> Result<(), CniError> {
    let Some(link) = find(handle, name).await? else { return Ok(()) };
    match handle.link().del(link.header.index).execute().await {
        // It went in the meantime, for instance with the pod's namespace.
        Err(error) if !is(&error, rustix::io::Errno::NODEV) => Err(failed(format!("remove interface {name}"))(error)),
        _ => Ok(()),
    }
}

/// Makes the bridge, up, with its address; returns its index.
pub async fn ensure_bridge(
    handle: &Handle,
    bridge: &str,
    address: Ipv4Addr,
    prefix: u8,
    mtu: u32,
) -> Result<u32, CniError> {
    let what = format!("set up bridge {bridge}");
    if find(handle, bridge).await?.is_none() {
        let message = LinkBridge::new(bridge).address(mac_of(address).to_vec()).build();
        unless_there(handle.link().add(message).execute().await).map_err(failed(&what))?;
    }
    let vanished = || CniError::Netlink { what: what.clone(), message: "it vanished".to_owned() };
    let index = find(handle, bridge).await?.ok_or_else(vanished)?.header.index;
    let up = LinkUnspec::new_with_index(index).mtu(mtu).up().build();
    handle.link().change(up).execute().await.map_err(failed(&what))?;
    let added = handle.address().add(index, IpAddr::V4(address), prefix).execute().await;
    unless_there(added).map_err(failed(&what))?;
    Ok(index)
}

/// Whether the interface has that address.
pub async fn has_address(handle: &Handle, index: u32, address: Ipv4Addr) -> Result<bool, CniError> {
    let found = handle.address().get().set_link_index_filter(index).execute();
    let found: Vec<_> = found.try_collect().await.map_err(failed("list addresses"))?;
    let ours = |attribute: &AddressAttribute| *attribute == AddressAttribute::Local(IpAddr::V4(address));
    Ok(found.iter().any(|message| message.attributes.iter().any(ours)))
}

/// A route to a network straight out of an interface, with the source address for own packets.
pub async fn ensure_route(
    handle: &Handle,
    to: Ipv4Addr,
    prefix: u8,
    index: u32,
    source: Option<Ipv4Addr>,
) -> Result<(), CniError> {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to, prefix)
        .output_interface(index)
        .scope(RouteScope::Link);
    if let Some(source) = source {
        route = route.pref_source(source);
    }
    let added = handle.route().add(route.build()).replace().execute().await;
    added.map_err(failed(format!("add route {to}/{prefix}")))
}

/// Makes a pair of interfaces: one end in the pod's namespace; the other here, up, with the
/// gateway's address and the route to the pod.
///
/// Ends of the same name that an earlier attempt left are removed first.
pub async fn create_pair(handle: &Handle, pair: &Pair<'_>, netns: &Path) -> Result<(), CniError> {
    let what = format!("create interface {}", pair.host);
    let namespace =
        File::open(netns).map_err(CniError::io(format!("open the network namespace {}", netns.display())))?;
    remove(handle, pair.host).await?;
    let peer = LinkMessageBuilder::<LinkUnspec>::default()
        .name(pair.pod)
        .address(mac_of(pair.address).to_vec())
        .mtu(pair.mtu)
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let host = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(pair.host)
        .address(mac_of(pair.gateway).to_vec())
        .mtu(pair.mtu)
        .up()
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    handle.link().add(host).execute().await.map_err(failed(&what))?;
    let vanished = || CniError::Netlink { what: what.clone(), message: "it vanished".to_owned() };
    let index = find(handle, pair.host).await?.ok_or_else(vanished)?.header.index;
    let added = handle.address().add(index, IpAddr::V4(pair.gateway), 32).execute().await;
    unless_there(added).map_err(failed(&what))?;
    ensure_route(handle, pair.address, 32, index, Some(pair.gateway)).await
}

/// Inside a pod: loopback up.
pub async fn loopback_up(handle: &Handle) -> Result<(), CniError> {
    let up = LinkUnspec::new_with_name("lo").up().build();
    handle.link().change(up).execute().await.map_err(failed("set up loopback"))
}

/// Inside a pod: the interface up, with its address and everything routed through the gateway.
pub async fn configure_pod(handle: &Handle, pair: &Pair<'_>) -> Result<(), CniError> {
    let Pair { pod: name, address, gateway, .. } = *pair;
    let what = format!("configure interface {name} in the pod");
    let missing = || CniError::Netlink { what: what.clone(), message: "it is not there".to_owned() };
    let index = find(handle, name).await?.ok_or_else(missing)?.header.index;
    let added = handle.address().add(index, IpAddr::V4(address), 32).execute().await;
    unless_there(added).map_err(failed(&what))?;
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().change(up).execute().await.map_err(failed(&what))?;
    ensure_route(handle, gateway, 32, index, None).await?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
        .gateway(gateway)
        .output_interface(index)
        .build();
    handle.route().add(default).replace().execute().await.map_err(failed(&what))
}
