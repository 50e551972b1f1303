//! Tests of exec: a client over SPDY or WebSocket, the server, and a runtime behind it.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::cri::CriStreams;
use crate::{ExecStatus, bridge};
use futures::stream::{SplitSink, SplitStream};
use kedge_base::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;

const ALL: StreamOptions = StreamOptions { stdin: true, stdout: true, stderr: true, tty: false };
const TTY: StreamOptions = StreamOptions { tty: true, ..ALL };

fn tasks() -> TaskGroup {
    TaskGroup::new("test", Shutdown::new())
}

/// A stock SPDY client with its streams in their usual order.
async fn spdy_client(io: DuplexStream, options: StreamOptions, tasks: &TaskGroup) -> CriStreams {
    crate::cri::open(io, options, tasks).await.unwrap()
}

/// A command that echoes its input, complains once, and ends with `status`.
async fn echo(streams: RemoteCommandStreams, status: ExecStatus) {
    let (mut stdin, mut stdout) = (streams.stdin.unwrap(), streams.stdout.unwrap());
    tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
    if let Some(mut stderr) = streams.stderr {
        stderr.write_all(b"complaint").await.unwrap();
    }
    streams.error.finish(&status).await.unwrap();
}

async fn text(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn exec_over_spdy() {
    let tasks = tasks();
    let (a, b) = tokio::io::duplex(1 << 16);
    let serve = async {
        let protocol = RemoteCommand::Spdy(Version::V4);
        echo(serve_remote_command(b, protocol, ALL, &tasks).await.unwrap(), ExecStatus::ExitCode(3)).await;
    };
    let ask = async {
        let mut client = spdy_client(a, ALL, &tasks).await;
        let mut stdin = client.stdin.take().unwrap();
        stdin.write_all(b"hello").await.unwrap();
        stdin.shutdown().await.unwrap();
        let out = (text(&mut client.stdout.unwrap()).await, text(&mut client.stderr.unwrap()).await);
        (out, text(&mut client.error).await)
    };
    let ((), (out, status)) = tokio::join!(serve, ask);
    assert_eq!(out, ("hello".into(), "complaint".into()));
    assert_eq!(status, ExecStatus::ExitCode(3).to_json().to_string());
    assert!(tasks.join(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn terminals_are_resized_over_spdy() {
    let tasks = tasks();
    let (a, b) = tokio::io::duplex(1 << 16);
    let protocol = RemoteCommand::Spdy(Version::V4);
    let (server, mut client) =
        tokio::join!(serve_remote_command(b, protocol, TTY, &tasks), spdy_client(a, TTY, &tasks));
    let mut server = server.unwrap();
    assert!(server.stderr.is_none() && client.stderr.is_none());
    let size = TermSize { width: 120, height: 40 };
    client.resize.as_mut().unwrap().resize(size).await.unwrap();
    assert_eq!(server.resize.as_mut().unwrap().recv().await, Some(size));
    drop(server);
    client.closed.cancelled().await;
}

#[tokio::test]
async fn a_client_that_goes_before_its_streams_are_there_is_an_error() {
    let tasks = tasks();
    let (a, b) = tokio::io::duplex(1 << 16);
    let (session, _) = Session::start(a, Role::Client, &tasks);
    let leave = async {
        drop(session.open(crate::spdy::Headers::default().with("streamtype", "error")).await.unwrap());
        drop(session);
    };
    let serve = serve_remote_command(b, RemoteCommand::Spdy(Version::V4), ALL, &tasks);
    let (served, ()) = tokio::join!(serve, leave);
    assert!(matches!(served, Err(Error::Closed)));
}

type Socket = WebSocketStream<DuplexStream>;

async fn websocket_client(io: DuplexStream) -> (SplitSink<Socket, Message>, SplitStream<Socket>) {
    ws::upgraded(io, WsRole::Client).await.split()
}

/// All messages by channel, until the server closes, which it has to do with a code.
async fn channels(source: &mut SplitStream<Socket>) -> Vec<Vec<u8>> {
    let mut out = vec![Vec::new(); 5];
    loop {
        match source.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => out[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000, "stock clients fail at anything else");
                return out;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn exec_over_websocket_with_an_end_of_input() {
    let tasks = tasks();
    let (a, b) = tokio::io::duplex(1 << 16);
    let serve = async {
        let protocol = RemoteCommand::WebSocket(Version::V5);
        echo(serve_remote_command(b, protocol, ALL, &tasks).await.unwrap(), ExecStatus::Success).await;
    };
    let ask = async {
        let (mut sink, mut source) = websocket_client(a).await;
        let first = source.next().await.unwrap().unwrap();
        assert_eq!(first.into_data().as_ref(), [1], "an empty message on stdout comes first");
        sink.send(Message::Ping(Bytes::from_static(b"beat"))).await.unwrap();
        let long = [vec![0], vec![b'x'; 100_000]].concat();
        sink.send(Message::Binary(long.into())).await.unwrap();
        sink.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
        channels(&mut source).await
    };
    let ((), out) = tokio::join!(serve, ask);
    assert_eq!((out[1].len(), out[2].as_slice()), (100_000, b"complaint".as_slice()));
    assert_eq!(out[3], ExecStatus::Success.to_json().to_string().as_bytes());
}

#[tokio::test]
async fn resizing_and_leaving_over_websocket() {
    let tasks = tasks();
    let (a, b) = tokio::io::duplex(1 << 16);
    let (mut sink, source) = websocket_client(a).await;
    let mut server = serve_remote_command(b, RemoteCommand::WebSocket(Version::V4), TTY, &tasks).await.unwrap();
    sink.send(Message::Binary(Bytes::from_static(b"\x04{\"Width\":80,\"Height\":24}"))).await.unwrap();
    let size = server.resize.as_mut().unwrap().recv().await;
    assert_eq!(size, Some(TermSize { width: 80, height: 24 }));
    drop((sink, source));
    server.closed.cancelled().await;
    assert_eq!(text(&mut server.stdin.take().unwrap()).await, "");
}

/// kubectl over WebSocket, the bridge, and a runtime over SPDY.
#[tokio::test]
async fn the_bridge_carries_everything_to_the_runtime_and_back() {
    let tasks = tasks();
    let (client, middle) = tokio::io::duplex(1 << 16);
    let (runtime_client, runtime) = tokio::io::duplex(1 << 16);
    let run = async {
        let protocol = RemoteCommand::Spdy(Version::V4);
        echo(serve_remote_command(runtime, protocol, ALL, &tasks).await.unwrap(), ExecStatus::ExitCode(7)).await;
    };
    let carry = async {
        let server = serve_remote_command(middle, RemoteCommand::WebSocket(Version::V5), ALL, &tasks).await.unwrap();
        bridge(server, spdy_client(runtime_client, ALL, &tasks).await).await.unwrap();
    };
    let ask = async {
        let (mut sink, mut source) = websocket_client(client).await;
        for _ in 0..50 {
            sink.send(Message::Binary([vec![0], vec![b'y'; 10_000]].concat().into())).await.unwrap();
        }
        sink.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
        channels(&mut source).await
    };
    // Input and output wait for each other here: nothing may read everything before it writes.
    let ((), (), out) = tokio::join!(run, carry, ask);
    assert_eq!((out[1].len(), out[2].as_slice()), (500_000, b"complaint".as_slice()));
    assert_eq!(out[3], ExecStatus::ExitCode(7).to_json().to_string().as_bytes());
}

#[tokio::test]
async fn the_bridge_lets_the_runtime_go_when_the_client_does() {
    let tasks = tasks();
    let (client, middle) = tokio::io::duplex(1 << 16);
    let (runtime_client, runtime) = tokio::io::duplex(1 << 16);
    let protocol = RemoteCommand::Spdy(Version::V4);
    let server = serve_remote_command(middle, RemoteCommand::WebSocket(Version::V5), ALL, &tasks).await.unwrap();
    let (running, runtime_client) =
        tokio::join!(serve_remote_command(runtime, protocol, ALL, &tasks), spdy_client(runtime_client, ALL, &tasks));
    let running = running.unwrap();
    drop(client);
    assert!(bridge(server, runtime_client).await.is_err());
    running.closed.cancelled().await;
}
