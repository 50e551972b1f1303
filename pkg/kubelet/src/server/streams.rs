//! `/exec`, `/attach` and `/portForward`: upgraded connections, joined with the runtime or with the pod's network.

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kedge_base::BoxFuture;
use kedge_cri::{Exec, Streams};
use kedge_streams::negotiate::{self, Refusal};
use kedge_streams::port_forward::Dialer;
use kedge_streams::{BoxIo, StreamOptions, Target, bridge, cri_connect, serve_port_forward, serve_remote_command};
use tracing::debug;

use super::query::Query;
use super::reply::{self, Reply};
use super::router::Place;
use super::{Server, netns};
use crate::pod::PodExt;
use crate::runtime::{ContainerRun, PodRuntime};

/// More arguments than any command has.
const MAX_COMMAND: usize = 1024;

fn find(server: &Server, place: &Place) -> Result<Pod, Box<Reply>> {
    let raw = server.kubelet.pods.get(&place.namespace, &place.pod);
    let raw = raw.ok_or_else(|| Box::new(reply::text(StatusCode::NOT_FOUND, "pod does not exist")))?;
    if !place.uid.is_empty() && !server.kubelet.pods.is_known_as(&raw, &place.uid) {
        return Err(Box::new(reply::text(StatusCode::NOT_FOUND, "pod not found")));
    }
    raw.decode().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Box<Reply> {
    Box::new(reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// `/run`: a command whose output is the answer; older clients than those of streams ask for it.
pub(super) async fn run(server: &Server, place: &Place, query: &Query) -> Reply {
    let pod = match find(server, place) {
        Ok(pod) => pod,
        Err(reply) => return *reply,
    };
    let runtime = match observe(server, &pod).await {
        Ok(runtime) => runtime,
        Err(reply) => return *reply,
    };
    let refused = |message: String| reply::text(StatusCode::INTERNAL_SERVER_ERROR, message);
    let Some(run) = running(&runtime, &place.container) else {
        return refused(format!("container not found ({:?})", place.container));
    };
    let command: Vec<String> =
        query.get("cmd").unwrap_or_default().split(' ').map(str::to_owned).take(MAX_COMMAND).collect();
    match server.kubelet.runtime.exec_sync(&run.id, command.clone(), std::time::Duration::ZERO).await {
        Ok(output) if output.exit_code == 0 => reply::json([output.stdout, output.stderr].concat()),
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            refused(format!("command '{}' exited with {}: {told}", command.join(" "), output.exit_code))
        }
        Err(error) => refused(error.to_string()),
    }
}

async fn observe(server: &Server, pod: &Pod) -> Result<PodRuntime, Box<Reply>> {
    server.kubelet.observe(pod.uid()).await.map_err(failed)
}

fn running<'a>(runtime: &'a PodRuntime, container: &str) -> Option<&'a ContainerRun> {
    runtime.running().find(|run| run.name == container)
}

/// The streams that a query asks for.
fn wanted(query: &Query) -> Result<Streams, Box<Reply>> {
    let tty = query.is_one("tty");
    let streams = Streams {
        stdin: query.is_one("input"),
        stdout: query.is_one("output"),
        stderr: query.is_one("error") && !tty,
        tty,
    };
    if !(streams.stdin || streams.stdout || streams.stderr) {
        let message = "you must specify at least 1 of stdin, stdout, stderr";
        return Err(Box::new(reply::text(StatusCode::BAD_REQUEST, message)));
    }
    Ok(streams)
}

pub(super) async fn exec(server: &Server, place: Place, query: &Query, request: Request<Incoming>) -> Reply {
    let prepare = async {
        let streams = wanted(query)?;
        let pod = find(server, &place)?;
        let runtime = observe(server, &pod).await?;
        let run = running(&runtime, &place.container)
            .ok_or_else(|| failed(format!("container not found ({:?})", place.container)))?;
        let mut command = query.all("command");
        command.truncate(MAX_COMMAND);
        let exec = Exec { container_id: run.id.clone(), command, streams };
        let url = server.kubelet.runtime.exec_url(exec).await.map_err(failed)?;
        Ok::<_, Box<Reply>>((url, streams))
    };
    match prepare.await {
        Ok((url, streams)) => join(server, url, streams, request),
        Err(refused) => *refused,
    }
}

pub(super) async fn attach(server: &Server, place: Place, query: &Query, request: Request<Incoming>) -> Reply {
    let prepare = async {
        let mut streams = wanted(query)?;
        let pod = find(server, &place)?;
        let runtime = observe(server, &pod).await?;
        let run = running(&runtime, &place.container).ok_or_else(|| {
            let full_name = format!("{}_{}", place.pod, place.namespace);
            failed(format!("container {} not found in pod {full_name}", place.container))
        })?;
        // Whether there is a terminal was decided when the container started.
        streams.tty = pod.container(&place.container).and_then(|c| c.tty).unwrap_or(false);
        streams.stderr &= !streams.tty;
        let url = server.kubelet.runtime.attach_url(&run.id, streams).await.map_err(failed)?;
        Ok::<_, Box<Reply>>((url, streams))
    };
    match prepare.await {
        Ok((url, streams)) => join(server, url, streams, request),
        Err(refused) => *refused,
    }
}

/// Answers the upgrade, and joins the client with the runtime's streaming server behind it.
fn join(server: &Server, url: String, streams: Streams, mut request: Request<Incoming>) -> Reply {
    let agreed = match negotiate::remote_command(request.headers()) {
        Ok(agreed) => agreed,
        Err(refusal) => return refuse(&refusal),
    };
    let Streams { stdin, stdout, stderr, tty } = streams;
    let options = StreamOptions { stdin, stdout, stderr, tty };
    let upgraded = hyper::upgrade::on(&mut request);
    let tasks = server.tasks.clone();
    let protocol = agreed.protocol;
    server.tasks.spawn_until_shutdown("remote-command", async move {
        let session = async {
            let io = TokioIo::new(upgraded.await?);
            let client = serve_remote_command(io, protocol, options, &tasks).await?;
            match cri_connect(&url, options, &tasks).await {
                Ok(container) => bridge(client, container).await?,
                Err(error) => {
                    let status = kedge_streams::ExecStatus::Failure(error.to_string());
                    client.error.finish(&status).await?;
                }
            }
            Ok::<(), super::BoxError>(())
        };
        if let Err(error) = session.await {
            debug!(error, "remote command session ended");
        }
    });
    reply::head(agreed.response)
}

fn refuse(refusal: &Refusal) -> Reply {
    let mut answer = reply::text(refusal.status, refusal.message.clone());
    for version in &refusal.accepted {
        if let Ok(value) = http::HeaderValue::from_str(version) {
            answer.headers_mut().append(negotiate::ACCEPTED_VERSIONS, value);
        }
    }
    answer
}

pub(super) async fn port_forward(server: &Server, place: Place, mut request: Request<Incoming>) -> Reply {
    let prepare = async {
        let pod = find(server, &place)?;
        let runtime = observe(server, &pod).await?;
        let sandbox = runtime.sandboxes.first().filter(|s| s.ready);
        let name = format!("{}_{}", place.pod, place.namespace);
        let sandbox = sandbox.ok_or_else(|| failed(format!("failed to find sandbox for pod {name}")))?;
        let path = match pod.host_network() {
            true => None,
            false => {
                let status = server.kubelet.runtime.pod_sandbox_status(&sandbox.id, true).await.map_err(failed)?;
                let info = status.info.get("info").map(String::as_str).unwrap_or_default();
                netns::network_path(info).map_err(failed)?
            }
        };
        let agreed = negotiate::port_forward(request.headers()).map_err(|refusal| Box::new(refuse(&refusal)))?;
        Ok::<_, Box<Reply>>((pod, path, agreed))
    };
    let (pod, path, agreed) = match prepare.await {
        Ok(ready) => ready,
        Err(refused) => return *refused,
    };
    let dialer: Dialer = Arc::new(move |port| {
        let path = path.clone();
        let dial: BoxFuture<'static, std::io::Result<BoxIo>> = Box::pin(async move {
            let stream = netns::dial(path, port).await?;
            Ok(Box::new(stream) as BoxIo)
        });
        dial
    });
    let target = Target { pod: pod.name().to_string(), uid: pod.uid().to_string() };
    let upgraded = hyper::upgrade::on(&mut request);
    let tasks = server.tasks.clone();
    let protocol = agreed.protocol;
    server.tasks.spawn_until_shutdown("port-forward", async move {
        let session = async {
            let io = TokioIo::new(upgraded.await?);
            serve_port_forward(io, protocol, target, dialer, &tasks).await?;
            Ok::<(), super::BoxError>(())
        };
        if let Err(error) = session.await {
            debug!(error, "port-forward session ended");
        }
    });
    reply::head(agreed.response)
}
