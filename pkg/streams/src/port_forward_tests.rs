//! Tests of port-forward: a stock client's streams against the server.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::spdy::Headers;
use kedge_base::Shutdown;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream, ReadBuf};

const RESET: u16 = 82;

/// A connection that the pod resets.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn dialer() -> Dialer {
    Arc::new(|port| {
        Box::pin(async move {
            if port == RESET {
                return Ok(Box::new(Broken) as BoxIo);
            }
            if port != 80 {
                return Err(std::io::Error::other("connection refused"));
            }
            let (near, far) = tokio::io::duplex(4096);
            let (mut reader, mut writer) = tokio::io::split(far);
            // The pod answers with what it got, in a task of its own as a process would.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                    writer.shutdown().await.unwrap();
                });
            });
            Ok(Box::new(near) as BoxIo)
        })
    })
}

async fn pair(session: &Session, port: u16, request: Option<u32>) -> (Stream, Stream) {
    let headers = |kind: &str| {
        let headers = Headers::default().with("streamType", kind).with("port", port.to_string());
        request.map_or(headers.clone(), |id| headers.with("requestID", id.to_string()))
    };
    let error = session.open(headers("error")).await.unwrap();
    (error, session.open(headers("data")).await.unwrap())
}

async fn exchange(session: &Session, port: u16, request: Option<u32>) -> (Vec<u8>, String) {
    let (mut error, mut data) = pair(session, port, request).await;
    let (mut got, mut message) = (Vec::new(), String::new());
    let _ = data.write_all(b"hello").await;
    let _ = data.shutdown().await;
    data.read_to_end(&mut got).await.unwrap();
    error.read_to_string(&mut message).await.unwrap();
    (got, message)
}

async fn check(client: impl Io, server: DuplexStream, protocol: PortForward) {
    let tasks = TaskGroup::new("test", Shutdown::new());
    let target = Target { pod: "web".into(), uid: "1".into() };
    let (session, _) = Session::start(client, Role::Client, &tasks);
    let ask = async {
        let (a, b) = tokio::join!(exchange(&session, 80, Some(0)), exchange(&session, 80, Some(1)));
        assert_eq!((a.0.as_slice(), b.0.as_slice()), (b"hello".as_slice(), b"hello".as_slice()));
        assert_eq!((a.1.as_str(), b.1.as_str()), ("", ""));
        let (_, message) = exchange(&session, 81, Some(2)).await;
        assert_eq!(message, "error forwarding port 81 to pod web, uid 1: connection refused");
        // kubectl would end all its forwarding over a message here.
        let (got, message) = exchange(&session, RESET, Some(3)).await;
        assert_eq!((got.as_slice(), message.as_str()), (b"".as_slice(), ""), "a connection that breaks off ends alone");
        let (got, _) = exchange(&session, 80, None).await;
        assert_eq!(got, b"hello", "an old client without request ids");
        let odd = session.open(Headers::default().with("streamType", "data")).await.unwrap();
        assert_eq!({ odd }.read(&mut [0; 1]).await.unwrap(), 0, "a stream without a port is reset");
        drop(session);
    };
    let (served, ()) = tokio::join!(serve_port_forward(server, protocol, target, dialer(), &tasks), ask);
    served.unwrap();
    assert!(tasks.join(std::time::Duration::from_secs(10)).await);
}

#[tokio::test]
async fn over_plain_spdy() {
    let (client, server) = tokio::io::duplex(1 << 16);
    check(client, server, PortForward::Spdy).await;
}

#[tokio::test]
async fn over_spdy_inside_a_websocket() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let client = ws::Tunnel::new(ws::upgraded(client, WsRole::Client).await);
    check(client, server, PortForward::Tunnel).await;
}
