//! Tests of the server: messages in, messages out, read by another implementation.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::objects::Service;
use crate::resolv::Upstreams;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as HQuery, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as HName, RecordType};
use kedge_base::{Shutdown, system_clock};
use kedge_meta::ObjectKey;
use proptest::prelude::*;
use serde_json::json;

fn server(complete: bool) -> Arc<Server> {
    let mut records = Records::default();
    let addresses: Vec<String> = (0..100).map(|i| format!("10.43.1.{i}")).collect();
    let services = json!([
        {"metadata": {"name": "web"}, "spec": {"clusterIP": "10.43.0.5", "ports": [{"name": "http", "port": 80}]}},
        {"metadata": {"name": "big"}, "spec": {"clusterIP": "x", "clusterIPs": addresses}},
        {"metadata": {"name": "alias"}, "spec": {"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}},
        {"metadata": {"name": "round"}, "spec": {"type": "ExternalName", "externalName": "round.default.svc.cluster.local"}},
        {"metadata": {"name": "out"}, "spec": {"type": "ExternalName", "externalName": "example.com"}},
    ]);
    for value in services.as_array().unwrap() {
        let service: Service = serde_json::from_value(value.clone()).unwrap();
        let key = ObjectKey::new("default", service.metadata.name.clone());
        records.set_service(&key, Some(Arc::new(service)));
    }
    records.set_namespace("default", Some(&Default::default()));
    let zone = Zone::new("cluster.local", 5, Vec::new()).unwrap();
    let forwarder = Forwarder::new(system_clock(), Upstreams::new(None, Vec::new()));
    let complete = Arc::new(AtomicBool::new(complete));
    Arc::new(Server::new(zone, Arc::new(RwLock::new(records)), complete, forwarder))
}

fn question(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(HQuery::query(HName::from_ascii(name).unwrap(), rtype));
    message
}

async fn ask_server(server: &Server, message: &Message) -> Message {
    let bytes = server.answer(&message.to_vec().unwrap()).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

async fn ask(name: &str, rtype: RecordType) -> Message {
    ask_server(&server(true), &question(name, rtype)).await
}

fn rcode(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[tokio::test]
async fn a_service_is_answered_with_authority() {
    let got = ask("WEB.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!((rcode(&got), got.metadata.authoritative), (ResponseCode::NoError, true));
    assert_eq!((got.answers[0].data.to_string().as_str(), got.answers[0].ttl), ("10.43.0.5", 5));
    assert_eq!(got.queries[0].name().to_ascii(), "WEB.default.svc.cluster.local.", "the client's spelling");
}

#[tokio::test]
async fn what_is_not_there_comes_with_the_zone() {
    let got = ask("web.default.svc.cluster.local.", RecordType::AAAA).await;
    assert_eq!((rcode(&got), got.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!((got.authorities[0].record_type(), got.authorities[0].ttl), (RecordType::SOA, 5));
    let got = ask("example.com.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!((rcode(&got), got.authorities.len()), (ResponseCode::NXDomain, 1));
}

#[tokio::test]
async fn before_the_records_are_complete_nothing_is_said_to_be_missing() {
    let early = server(false);
    let got = ask_server(&early, &question("new.default.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(rcode(&got), ResponseCode::ServFail);
    let got = ask_server(&early, &question("web.default.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(got.answers.len(), 1);
}

#[tokio::test]
async fn aliases_are_followed_and_end() {
    let got = ask("alias.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(got.answers.iter().map(|r| r.record_type()).collect::<Vec<_>>(), [RecordType::CNAME, RecordType::A]);
    let got = ask("alias.default.svc.cluster.local.", RecordType::CNAME).await;
    assert_eq!(got.answers.len(), 1);
    let got = ask("round.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(rcode(&got), ResponseCode::ServFail);
    let got = ask("out.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(rcode(&got), ResponseCode::ServFail, "there is no upstream");
}

#[tokio::test]
async fn foreign_names_fail_at_once_without_upstream() {
    let got = ask("example.com.", RecordType::A).await;
    assert_eq!((rcode(&got), got.metadata.authoritative), (ResponseCode::ServFail, false));
}

#[tokio::test]
async fn long_answers_follow_the_clients_limit() {
    let server = server(true);
    let mut message = question("big.default.svc.cluster.local.", RecordType::A);
    let got = ask_server(&server, &message).await;
    assert!(got.metadata.truncation && got.answers.len() < 100);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    let more = ask_server(&server, &message).await;
    assert!(more.metadata.truncation, "1232 bytes are not enough, either");
    assert!(more.answers.len() > got.answers.len() && more.edns.is_some());
}

#[tokio::test]
async fn answers_begin_with_another_address_each_time() {
    let server = server(true);
    let message = question("big.default.svc.cluster.local.", RecordType::A);
    let (a, b) = (ask_server(&server, &message).await, ask_server(&server, &message).await);
    assert_ne!(a.answers[0].data, b.answers[0].data);
}

#[tokio::test]
async fn other_classes_and_transfers_are_refused() {
    let mut message = question("version.bind.", RecordType::TXT);
    message.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(rcode(&ask_server(&server(true), &message).await), ResponseCode::Refused);
    assert_eq!(rcode(&ask("cluster.local.", RecordType::AXFR).await), ResponseCode::Refused);
}

#[tokio::test]
async fn it_serves_udp_and_tcp() {
    let (server, tasks) = (server(true), TaskGroup::new("test", Shutdown::new()));
    let udp = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    tasks.spawn_until_shutdown("udp", server.clone().udp(udp, tasks.clone()));
    tasks.spawn_until_shutdown("tcp", server.tcp(Arc::new(tcp), tasks.clone()));

    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(udp_at).await.unwrap();
    client.send(b"x").await.unwrap();
    for name in ["web.default.svc.cluster.local.", "example.com."] {
        client.send(&question(name, RecordType::A).to_vec().unwrap()).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut buffer = [0; 1500];
        let length = client.recv(&mut buffer).await.unwrap();
        seen.push(rcode(&Message::from_vec(&buffer[..length]).unwrap()));
    }
    assert!(seen.contains(&ResponseCode::NoError) && seen.contains(&ResponseCode::ServFail));

    let mut stream = TcpStream::connect(tcp_at).await.unwrap();
    let bytes = question("big.default.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    for _ in 0..2 {
        stream.write_u16(bytes.len() as u16).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(Message::from_vec(&reply).unwrap().answers.len(), 100);
    }
    assert!(tasks.join(Duration::from_secs(5)).await);
}

/// A query on which the server panics.
pub(super) const POISON: &[u8] = b"poison";

#[tokio::test]
async fn a_query_that_panics_is_counted_and_the_next_is_answered() {
    let ledger = kedge_base::Ledger::new(kedge_base::system_clock());
    let (server, tasks) = (server(true), TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone()));
    let udp = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let at = udp.local_addr().unwrap();
    tasks.spawn_until_shutdown("udp", server.udp(udp, tasks.clone()));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(at).await.unwrap();
    client.send(POISON).await.unwrap();
    client.send(&question("web.default.svc.cluster.local.", RecordType::A).to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 1500];
    let length = client.recv(&mut buffer).await.unwrap();
    assert_eq!(rcode(&Message::from_vec(&buffer[..length]).unwrap()), ResponseCode::NoError);
    assert_eq!((ledger.panics_of("dns-query"), ledger.panics_of("udp")), (1, 0));
    assert!(tasks.join(Duration::from_secs(5)).await);
}

async fn counted(ledger: &kedge_base::Ledger, task: &str) {
    while ledger.panics_of(task) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn loops_that_panic_serve_again_and_a_connection_gives_its_place_back() {
    let ledger = kedge_base::Ledger::new(kedge_base::system_clock());
    let (server, tasks) = (server(true), TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone()));
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    crate::run::serve(udp, tcp, &server, &tasks);
    let query = question("web.default.svc.cluster.local.", RecordType::A).to_vec().unwrap();

    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(udp_at).await.unwrap();
    server.broken.store(true, Ordering::SeqCst);
    client.send(&query).await.unwrap();
    counted(&ledger, "dns-udp").await;
    client.send(&query).await.unwrap();
    let mut buffer = [0; 1500];
    let length = client.recv(&mut buffer).await.unwrap();
    assert_eq!(rcode(&Message::from_vec(&buffer[..length]).unwrap()), ResponseCode::NoError);

    let ask = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(tcp_at).await.unwrap();
        // The other end may be gone already, which the answer tells.
        let _ = stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), bytes].concat()).await;
        let mut reply = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut reply).await.map(|_| Message::from_vec(&reply).unwrap())
    };
    server.broken.store(true, Ordering::SeqCst);
    assert!(ask(&query).await.is_err());
    counted(&ledger, "dns-tcp").await;
    assert!(ask(POISON).await.is_err());
    counted(&ledger, "dns-connection").await;
    assert_eq!(rcode(&ask(&query).await.unwrap()), ResponseCode::NoError);
    // One place is the loop's, which waits for the next connection.
    while server.connections.available_permits() < MAX_CONNECTIONS - 1 {
        tokio::task::yield_now().await;
    }
    for task in ["dns-udp", "dns-tcp", "dns-connection"] {
        assert_eq!(ledger.panics_of(task), 1, "{task}");
    }
    assert!(tasks.join(Duration::from_secs(5)).await);
}

proptest! {
    #[test]
    fn every_message_gets_a_readable_answer_or_none(at in 0_usize..64, byte in any::<u8>(), cut in 0_usize..64) {
        let mut bytes = question("web.default.svc.cluster.local.", RecordType::A).to_vec().unwrap();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(length - cut % length);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        if let Some(reply) = runtime.block_on(server(true).answer(&bytes)) {
            prop_assert!(Message::from_vec(&reply).is_ok(), "{reply:?}");
        }
    }
}
