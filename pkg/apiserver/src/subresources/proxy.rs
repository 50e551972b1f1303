//! `log`, `exec`, `attach`, `portforward` and `proxy` of pods and nodes: the request goes on to the kubelet.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{Response, Uri};
use kedge_meta::{Reason, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, convert};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{log_options, unsupported};
use crate::body::{self, Body};
use crate::chain::Admitted;
use crate::respond;
use crate::server::ApiServer;
use crate::verbs::stored;

/// Bytes of a kubelet's message that are passed on.
const MAX_MESSAGE: usize = 50_000;

pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    admitted: Admitted,
    served: &Served,
) -> Result<Response<Body>, Status> {
    crate::admit::connect(server, &admitted, &served.info).await?;
    let info = &admitted.info;
    if served.info.plural == "nodes" {
        let node = info.name.split(':').next().unwrap_or_default();
        let address = node_address(server, node)?;
        let target = with_query(&format!("/{}", info.rest), &admitted)?;
        return forward(server, admitted, &address, target).await;
    }
    if info.subresource == "proxy" {
        return Err(unsupported(served, "proxying to pods is not supported yet"));
    }
    let logs = info.subresource == "log";
    let options = if logs { log_options::kubelet_query(info)? } else { String::new() };
    let object = stored(served, &served.key(&info.namespace, &info.name), &info.name)?;
    let pod = convert::read(served, &object)?;
    let node = pod.text(&["spec", "nodeName"]);
    let pod_path = format!("{}/{}", encode(&info.namespace), encode(&info.name));
    let path = match info.subresource.as_str() {
        "log" => format!("/containerLogs/{pod_path}/{}", encode(&container(&pod, info.param("container"), true)?)),
        "portforward" => format!("/portForward/{pod_path}"),
        sub => format!("/{sub}/{pod_path}/{}", encode(&container(&pod, info.param("container"), false)?)),
    };
    if node.is_empty() && logs {
        // As upstream: what runs nowhere has not said anything yet.
        return Ok(respond::no_content());
    }
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", info.name)));
    }
    let address = node_address(server, node)?;
    let target = match logs {
        true => format!("{path}?{options}").parse().map_err(|_| Status::bad_request("the path cannot be forwarded"))?,
        false => kubelet_query(&path, &admitted)?,
    };
    let response = forward(server, admitted, &address, target).await?;
    if logs && !response.status().is_success() { Err(kubelet_failure(response).await) } else { Ok(response) }
}

/// What the kubelet refuses in plain text, as a Status.
async fn kubelet_failure(response: Response<Body>) -> Status {
    let code = response.status().as_u16();
    let text = match body::read(response.into_body()).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_MESSAGE)]).trim().to_owned(),
        Err(status) => status.message,
    };
    match code {
        400 => Status::bad_request(text),
        404 => Status::failure(404, Reason::NotFound, text),
        _ => Status::internal(text),
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The container of a request: the one that is named, the only one, or the annotated default.
fn container(pod: &Value, wanted: &str, log: bool) -> Result<String, Status> {
    let names = |field: &str| -> Vec<&str> { pod.list(&["spec", field]).iter().map(|c| c.text(&["name"])).collect() };
    let (containers, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if !wanted.is_empty() {
        let known = containers.iter().chain(&init).chain(&ephemeral).any(|name| *name == wanted);
        let message = if log {
            format!("container {wanted} is not valid for pod {}", pod.name())
        } else {
            format!("container not found (\"{wanted}\")")
        };
        return if known { Ok(wanted.to_owned()) } else { Err(Status::bad_request(message)) };
    }
    let default = pod.text(&["metadata", "annotations", "kubectl.kubernetes.io/default-container"]);
    if containers.contains(&default) {
        return Ok(default.to_owned());
    }
    match containers.as_slice() {
        [only] => Ok((*only).to_owned()),
        many => {
            let mut message = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name(),
                many.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}

/// `host:port` of a node's kubelet.
fn node_address(server: &ApiServer, node: &str) -> Result<String, Status> {
    let served = server.registry.builtin("", "v1", "nodes").ok_or_else(Status::unknown_path)?;
    let object = stored(served, node, node)?;
    let node = convert::read(served, &object)?;
    let addresses = node.list(&["status", "addresses"]);
    let of = |kind: &str| addresses.iter().find(|a| a.text(&["type"]) == kind).map(|a| a.text(&["address"]).to_owned());
    let host = of("InternalIP").or_else(|| of("ExternalIP")).or_else(|| of("Hostname"));
    let host =
        host.ok_or_else(|| Status::internal(format!("no preferred addresses found; known addresses: {addresses:?}")))?;
    let port = node.int(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).unwrap_or(10250);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(format!("{host}:{port}"))
}

fn with_query(path: &str, admitted: &Admitted) -> Result<PathAndQuery, Status> {
    let query = admitted.request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    format!("{path}{query}").parse().map_err(|_| Status::bad_request("the path cannot be forwarded"))
}

/// The kubelet's own names of the options of exec and attach.
fn kubelet_query(path: &str, admitted: &Admitted) -> Result<PathAndQuery, Status> {
    let info = &admitted.info;
    if !matches!(info.subresource.as_str(), "exec" | "attach") {
        return with_query(path, admitted);
    }
    let mut query = String::new();
    let mut push = |name: &str, value: &str| {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        query.push_str(&encode(value));
    };
    for (name, value) in &info.query {
        match name.as_str() {
            "command" => push("command", value),
            "stdin" if info.flag("stdin") => push("input", "1"),
            "stdout" if info.flag("stdout") => push("output", "1"),
            "stderr" if info.flag("stderr") => push("error", "1"),
            "tty" if info.flag("tty") => push("tty", "1"),
            _ => {}
        }
    }
    format!("{path}{query}").parse().map_err(|_| Status::bad_request("the command cannot be forwarded"))
}

async fn forward(
    server: &Arc<ApiServer>,
    admitted: Admitted,
    address: &str,
    target: PathAndQuery,
) -> Result<Response<Body>, Status> {
    let Some(kubelets) = &server.kubelets else { return Err(Status::unavailable("this server reaches no kubelets")) };
    let mut request = admitted.request.map(|body| body.take());
    *request.uri_mut() = Uri::from(target);
    kubelets.forward(address, request).await
}
