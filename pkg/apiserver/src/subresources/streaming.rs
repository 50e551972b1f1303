//! `log`, `exec`, `attach` and `portforward` of pods: the request goes on to the kubelet.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderValue, Response, Uri, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use kedge_meta::{Reason, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, convert};
use kedge_streams::{negotiate, serve_reader};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tracing::debug;

use super::log_options;
use crate::admitted::Admitted;
use crate::backends::{Backend, is_upgrade};
use crate::body::{self, Body};
use crate::input::request_info::RequestInfo;
use crate::kubelets::kubelet;
use crate::objects::stored;
use crate::output::respond;
use crate::server::ApiServer;

/// Bytes of a kubelet's message that are passed on.
const MAX_MESSAGE: usize = 50_000;

pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    admitted: Admitted,
    served: &Served,
) -> Result<Response<Body>, Status> {
    crate::admit::connect(server, &admitted, &served.info).await?;
    let info = &admitted.info;
    let logs = info.subresource == "log";
    if !logs {
        may_create(server, &admitted).await?;
    }
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
    let kubelet = kubelet(server, node)?;
    if !logs {
        if !is_upgrade(admitted.request.headers()) {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let target = kubelet_query(&path, &admitted)?;
        return forward(server, admitted, &kubelet, target).await;
    }
    let target = format!("{path}?{options}").parse();
    logs_of(server, admitted, &kubelet, target.map_err(|_| Status::bad_request("the path cannot be forwarded"))?).await
}

/// Browsers can open a WebSocket by GET alone, which is authorized as `get`; what runs in a container takes `create`
/// however it is asked for.
async fn may_create(server: &ApiServer, admitted: &Admitted) -> Result<(), Status> {
    if admitted.info.verb == "create" {
        return Ok(());
    }
    let info = RequestInfo { verb: "create".into(), ..admitted.info.clone() };
    server.authorize(&info, &admitted.user).await
}

/// Logs, also in the messages of a WebSocket.
async fn logs_of(
    server: &Arc<ApiServer>,
    mut admitted: Admitted,
    kubelet: &Backend,
    target: PathAndQuery,
) -> Result<Response<Body>, Status> {
    let socket = negotiate::is_websocket(admitted.request.headers());
    let socket = socket.then(|| negotiate::reader(admitted.request.headers())).transpose();
    let socket = match socket {
        Ok(socket) => socket,
        Err(refusal) => return Ok(respond::text(refusal.status, refusal.message)),
    };
    let client = hyper::upgrade::on(&mut admitted.request);
    // The kubelet is asked for plain bytes.
    for name in [header::CONNECTION, header::UPGRADE] {
        admitted.request.headers_mut().remove(name);
    }
    let response = forward(server, admitted, kubelet, target).await?;
    if !response.status().is_success() {
        return Err(kubelet_failure(response).await);
    }
    let (Some(socket), Some(kubelets)) = (socket, &server.kubelets) else { return Ok(response) };
    kubelets.spawn("logs over a WebSocket", async move {
        let client = match client.await {
            Ok(client) => TokioIo::new(client),
            Err(err) => return debug!(error = %err, "a client left before its logs came"),
        };
        let pieces = response.into_body().into_data_stream();
        if let Err(err) = serve_reader(client, pieces, socket.protocol).await {
            debug!(error = %err, "logs over a WebSocket broke off");
        }
    });
    Ok(socket.response.map(|()| body::full("")))
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
    kubelet: &Backend,
    target: PathAndQuery,
) -> Result<Response<Body>, Status> {
    let Some(kubelets) = &server.kubelets else { return Err(Status::unavailable("this server reaches no kubelets")) };
    let mut request = admitted.request.map(|body| body.take());
    *request.uri_mut() = Uri::from(target);
    // Over HTTP/2 the client has sent none, and over HTTP/1.1 it names this server.
    let host = HeaderValue::from_str(&kubelet.address).map_err(Status::internal)?;
    request.headers_mut().insert(header::HOST, host);
    kubelets.forward(kubelet, request).await
}
