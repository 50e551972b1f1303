//! Tests of forwarding, with a server of the test's own upstream.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::name::Name;
use crate::query::Edns;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record as HRecord};
use kedge_base::{Clock as _, VirtualClock};
use std::net::Ipv4Addr;

fn query(name: &str, edns: Option<u16>) -> Query {
    Query {
        id: 77,
        recursion_desired: true,
        checking_disabled: false,
        name: Name::parse(name).unwrap(),
        qtype: code::A,
        qclass: code::IN,
        edns: edns.map(|payload| Edns { payload, dnssec_ok: false }),
    }
}

/// The answer with `count` addresses that live 20 seconds.
fn reply(bytes: &[u8], count: u8, rcode: ResponseCode) -> Vec<u8> {
    let asked = Message::from_vec(bytes).unwrap();
    let mut message = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.response_code = rcode;
    message.add_query(asked.queries[0].clone());
    for last in 0..count {
        let data = RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
        message.add_answer(HRecord::from_rdata(asked.queries[0].name().clone(), 20, data));
    }
    message.to_vec().unwrap()
}

async fn upstream() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 2000];
    let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
    buffer.truncate(length);
    (buffer, from)
}

fn forwarder(servers: Vec<SocketAddr>) -> (Arc<Forwarder>, VirtualClock) {
    let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let upstreams = Upstreams::fixed(servers);
    (Arc::new(Forwarder::new(Arc::new(clock.clone()), upstreams)), clock)
}

#[tokio::test]
async fn an_answer_is_passed_on_and_kept() {
    let (socket, address) = upstream().await;
    let (forwarder, clock) = forwarder(vec![address]);
    let asked = query("WWW.example.com", Some(1232));
    let serve = async {
        let (bytes, from) = receive(&socket).await;
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.edns.as_ref().unwrap().max_payload(), 1232);
        assert!(message.metadata.recursion_desired);
        // Neither an answer to another id nor garbage ends the wait.
        socket.send_to(b"garbage", from).await.unwrap();
        let mut forged = reply(&bytes, 1, ResponseCode::NoError);
        forged[0] ^= 1;
        socket.send_to(&forged, from).await.unwrap();
        socket.send_to(&reply(&bytes, 2, ResponseCode::NoError), from).await.unwrap();
    };
    let (answer, ()) = tokio::join!(forwarder.ask(&asked), serve);
    let bytes = readdress(answer.unwrap(), &asked, 1232);
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!((message.metadata.id, message.answers.len()), (77, 2));
    assert_eq!(message.queries[0].name().to_ascii(), "WWW.example.com.");
    // From the cache, older, in another spelling; nobody serves upstream any more.
    clock.advance(Duration::from_secs(5));
    let again = query("www.EXAMPLE.com", Some(512));
    let message = Message::from_vec(&readdress(forwarder.ask(&again).await.unwrap(), &again, 512)).unwrap();
    assert_eq!(message.answers[0].ttl, 15);
    assert_eq!(message.queries[0].name().to_ascii(), "www.EXAMPLE.com.");
    assert_eq!(clock.monotonic(), Duration::from_secs(5));
}

#[tokio::test]
async fn the_same_question_is_asked_once() {
    let (socket, address) = upstream().await;
    let (forwarder, _) = forwarder(vec![address]);
    let asked = query("example.com", None);
    let serve = async {
        let (bytes, from) = receive(&socket).await;
        socket.send_to(&reply(&bytes, 1, ResponseCode::NoError), from).await.unwrap();
    };
    let (a, b, c, ()) = tokio::join!(forwarder.ask(&asked), forwarder.ask(&asked), forwarder.ask(&asked), serve);
    assert!(a.is_some() && b.is_some() && c.is_some());
    assert!(forwarder.waiting.lock().is_empty());
}

#[tokio::test]
async fn a_server_that_fails_is_passed_over_and_remembered() {
    let (bad, bad_address) = upstream().await;
    let (good, good_address) = upstream().await;
    let (forwarder, _) = forwarder(vec![bad_address, good_address]);
    let serve = async {
        let (bytes, from) = receive(&bad).await;
        bad.send_to(&reply(&bytes, 0, ResponseCode::ServFail), from).await.unwrap();
        for _ in 0..2 {
            let (bytes, from) = receive(&good).await;
            good.send_to(&reply(&bytes, 1, ResponseCode::NoError), from).await.unwrap();
        }
    };
    let (a, b) = (query("a.example.com", None), query("b.example.com", None));
    let ask = async { (forwarder.ask(&a).await.is_some(), forwarder.ask(&b).await.is_some()) };
    assert_eq!(tokio::join!(ask, serve).0, (true, true));
}

#[tokio::test]
async fn without_upstream_it_fails_at_once() {
    let (forwarder, _) = forwarder(Vec::new());
    assert!(forwarder.ask(&query("example.com", None)).await.is_none());
}

#[tokio::test]
async fn an_answer_too_long_for_the_client_is_cut_to_its_question() {
    let asked = query("example.com", None);
    let long = reply(&question(&asked, 1), 200, ResponseCode::NoError);
    let bytes = readdress(long, &asked, 512);
    let message = Message::from_vec(&bytes).unwrap();
    assert!(message.metadata.truncation && message.answers.is_empty());
}
