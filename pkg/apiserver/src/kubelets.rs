//! Where the kubelet of a node is reached.

use kedge_meta::Status;
use kedge_registry::convert;
use kedge_registry::value::ValueExt as _;
use serde_json::Value;

use crate::backends::Backend;
use crate::objects::stored;
use crate::server::ApiServer;

/// The kubelet of a node by its name.
pub(crate) fn kubelet(server: &ApiServer, node: &str) -> Result<Backend, Status> {
    let served = server.registry.builtin("", "v1", "nodes").ok_or_else(Status::unknown_path)?;
    let object = stored(served, node, node)?;
    of(&convert::read(served, &object)?)
}

/// The kubelet of a node.
///
/// # Errors
/// 500 when the node names no address.
pub(crate) fn of(node: &Value) -> Result<Backend, Status> {
    let addresses = node.list(&["status", "addresses"]);
    let of = |kind: &str| addresses.iter().find(|a| a.text(&["type"]) == kind).map(|a| a.text(&["address"]).to_owned());
    let host = of("InternalIP").or_else(|| of("ExternalIP")).or_else(|| of("Hostname"));
    let host =
        host.ok_or_else(|| Status::internal(format!("no preferred addresses found; known addresses: {addresses:?}")))?;
    let port = node.int(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).unwrap_or(10250);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(Backend::kubelet(node.text(&["metadata", "name"]), format!("{host}:{port}")))
}
