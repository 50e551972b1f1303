//! What HTTP/2 lets a client do cheaply costs the server no more than it costs the client.

use std::time::Duration;

use kedge_certs::Leaf;

use crate::http2_client::{
    ACK, CONTINUATION, Client, END_HEADERS, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, Port, REFUSED_STREAM, RST_STREAM,
    SETTINGS, head,
};
use crate::support::Cluster;

fn known(cluster: &Cluster) -> Leaf {
    let masters = Some(kedge_auth::MASTERS);
    cluster.pki.client("jane", "jane", masters, time::OffsetDateTime::now_utc()).unwrap()
}

/// The code of the answer to one request on a connection.
async fn asked(client: &mut Client, stream: u32, path: &str) -> String {
    client.request(stream, "GET", path);
    client.flush().await.unwrap();
    client.next_of(HEADERS).await.unwrap().status()
}

/// CVE-2023-44487: a stream that is opened and reset at once does not count as open, so that the bound on streams alone lets a client have
/// any number of requests begun.
#[tokio::test]
async fn who_opens_and_resets_streams_loses_the_connection_and_others_do_not() {
    const STREAMS: u32 = 20_000;
    const BATCH: u32 = 100;
    let cluster = Cluster::new().await;
    let port = Port::open(&cluster).await;
    let jane = known(&cluster);
    let (mut attacker, mut other) = (port.connect(Some(&jane)).await, port.connect(Some(&jane)).await);
    let mut sent = 0;
    while sent < STREAMS {
        for stream in sent..sent + BATCH {
            attacker.request(2 * stream + 1, "GET", "/version");
            attacker.reset(2 * stream + 1);
        }
        sent += BATCH;
        let taken = tokio::time::timeout(Duration::from_secs(60), attacker.flush()).await;
        if taken.expect("the server neither reads nor closes").is_err() {
            break;
        }
    }
    // Whoever is still served gets an answer to this.
    attacker.frame(PING, 0, 0, b"here yet");
    let _ = attacker.flush().await;
    let end = loop {
        match attacker.next().await {
            Some(frame) if frame.kind == GOAWAY => break Some(frame.code()),
            Some(frame) => assert!(frame.kind != PING || frame.flags & ACK == 0, "all {sent} streams were taken"),
            // What was in flight when the server closed may have taken its reason along.
            None => break None,
        }
    };
    assert!(end.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{end:?}");
    attacker.closed().await;
    for stream in [1, 3, 5] {
        assert_eq!(asked(&mut other, stream, "/version").await, "200", "others are served");
    }
}

/// CVE-2023-44487, and what is left of it when streams stay open: a connection has so many requests at a time.
#[tokio::test]
async fn a_connection_has_so_many_streams_at_a_time() {
    let cluster = Cluster::new().await;
    let port = Port::open(&cluster).await;
    let mut client = port.connect(Some(&known(&cluster))).await;
    let settings = client.next_of(SETTINGS).await.unwrap();
    let most = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
    let most = u32::from_be_bytes(most[2..].try_into().unwrap());
    assert_eq!(most, 250);
    // Bodies that never come.
    for stream in 0..most + 10 {
        client.request(2 * stream + 1, "POST", "/api/v1/namespaces/test/configmaps");
    }
    client.flush().await.unwrap();
    for stream in most..most + 10 {
        let refused = client.next_of(RST_STREAM).await.unwrap();
        assert_eq!((refused.stream, refused.code()), (2 * stream + 1, REFUSED_STREAM));
    }
}

/// CVE-2023-44487: as upstream, who is not known has no connection on which many requests can be tried.
#[tokio::test]
async fn a_connection_ends_with_the_first_request_of_somebody_unknown() {
    let cluster = Cluster::new().await;
    let port = Port::open(&cluster).await;
    let stranger = kedge_certs::Pki::open(tempfile::tempdir().unwrap().path(), time::OffsetDateTime::now_utc());
    let stranger = stranger.unwrap().client("eve", "eve", None, time::OffsetDateTime::now_utc()).unwrap();
    for (who, path, code) in [(None, "/version", "401"), (None, "/livez", "200"), (Some(&stranger), "/version", "401")]
    {
        let mut client = port.connect(who).await;
        assert_eq!(asked(&mut client, 1, path).await, code, "{path}");
        assert_eq!(client.next_of(GOAWAY).await.unwrap().code(), 0, "{path}");
        client.closed().await;
    }
    let mut client = port.connect(Some(&known(&cluster))).await;
    for stream in [1, 3, 5] {
        assert_eq!(asked(&mut client, stream, "/version").await, "200", "who is known goes on");
    }
}

/// CVE-2023-45288: a head that never ends is read by nobody, but has to be unpacked.
#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    let cluster = Cluster::new().await;
    let port = Port::open(&cluster).await;
    let mut client = port.connect(Some(&known(&cluster))).await;
    client.frame(HEADERS, 0, 1, &head("GET", "/version"));
    let mut closed = false;
    // A megabyte of names that nobody knows.
    for _ in 0..128 {
        let field = [&[0x00, 0x01, b'x', 0x7e][..], &[b'y'; 0x7e]].concat();
        client.frame(CONTINUATION, 0, 1, &field.repeat(64));
        closed = closed || client.flush().await.is_err();
    }
    client.frame(CONTINUATION, END_HEADERS, 1, &[]);
    closed = closed || client.flush().await.is_err();
    let end = client.next_of(GOAWAY).await.map(|frame| frame.code());
    assert!(closed || end.is_some(), "a megabyte of headers was read");
}
