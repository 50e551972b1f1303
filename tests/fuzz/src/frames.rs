//! Frames on connections that were upgraded: SPDY, and WebSocket with a byte stream inside.

use std::sync::LazyLock;

use kedge_streams::spdy::frame::{FrameReader, MAX_PIECE};
use kedge_streams::spdy::headers::{Deflater, Inflater, MAX_BLOCK, MAX_HEADERS};
use kedge_streams::spdy::{Frame, Headers};
use kedge_streams::ws::{Role, Tunnel, upgraded};
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts"));

/// All that a connection brings; what is read can be written and is read again.
pub fn spdy(data: &[u8]) {
    let frames = RUNTIME.block_on(frames(data));
    let Ok(mut deflater) = Deflater::new() else { return };
    let mut written = Vec::new();
    for frame in &frames {
        if let Frame::Data { bytes, .. } = frame {
            assert!(bytes.len() <= MAX_PIECE);
        }
        written.extend(frame.encode(&mut deflater).expect("what was read is written"));
    }
    assert_eq!(RUNTIME.block_on(self::frames(&written)), frames);
}

async fn frames(data: &[u8]) -> Vec<Frame> {
    let mut reader = FrameReader::new(data);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = reader.next().await {
        frames.push(frame);
    }
    frames
}

/// A header block, as it is and compressed.
pub fn spdy_headers(data: &[u8]) {
    let read = Headers::from_block(data).ok();
    for headers in read.into_iter().chain(Inflater::new().decompress(data).ok()) {
        let block = headers.to_block();
        assert_eq!(Headers::from_block(&block).ok().as_ref(), Some(&headers));
        if block.len() > MAX_BLOCK {
            continue;
        }
        let count = u32::from_be_bytes(*block.first_chunk().expect("a block begins with its number of headers"));
        assert!(count as usize <= MAX_HEADERS);
        let packed =
            Deflater::new().and_then(|mut deflater| deflater.compress(&headers)).expect("headers are compressed");
        assert_eq!(Inflater::new().decompress(&packed).ok(), Some(headers));
    }
}

/// What a client sends over a WebSocket; no more comes out than went in.
pub fn websocket(data: &[u8]) {
    let content = RUNTIME.block_on(async {
        let io = tokio::io::join(data, tokio::io::sink());
        let mut tunnel = Tunnel::new(upgraded(io, Role::Server).await);
        let mut content = Vec::new();
        // How it ends is the connection's business.
        let _end = tunnel.read_to_end(&mut content).await;
        content
    });
    assert!(content.len() <= data.len());
}
