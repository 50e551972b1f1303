//! Watches beyond what etcdctl shows: filters, parts, progress, slow clients, wrong requests.

use futures::SinkExt as _;
use futures::channel::mpsc;
use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::{KeyRange, Kv, Op, Txn};
use pb::watch_request::RequestUnion;
use tonic::Streaming;

use crate::served::{PATIENCE, Served, with_tools};

struct Client {
    requests: mpsc::Sender<pb::WatchRequest>,
    messages: Streaming<pb::WatchResponse>,
}

impl Client {
    async fn connect(s: &Served) -> Self {
        let (requests, outgoing) = mpsc::channel(16);
        let client = pb::watch_client::WatchClient::new(s.channel().await);
        let messages = client.max_decoding_message_size(64 << 20).watch(outgoing).await.unwrap().into_inner();
        Self { requests, messages }
    }

    async fn ask(&mut self, union: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.ask(RequestUnion::CreateRequest(create)).await;
        self.next().await
    }

    async fn next(&mut self) -> pb::WatchResponse {
        tokio::time::timeout(PATIENCE, self.messages.message()).await.expect("no message").unwrap().unwrap()
    }
}

fn prefix(text: &'static str) -> pb::WatchCreateRequest {
    let keys = KeyRange::prefix(text.as_bytes());
    pb::WatchCreateRequest { key: keys.start, range_end: keys.end.unwrap(), ..Default::default() }
}

async fn put(kv: &dyn Kv, key: &str, value: &str) -> i64 {
    let op = Op::Put { key: key.to_owned().into(), value: value.to_owned().into(), lease: 0 };
    kv.txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap().revision as i64
}

async fn delete(kv: &dyn Kv, key: &str) {
    let op = Op::Delete(KeyRange::key(key.to_owned()));
    kv.txn(Txn { success: vec![op], ..Txn::default() }).await.unwrap();
}

#[test]
fn filters_and_ids() {
    with_tools(async {
        let s = Served::on_socket().await;
        let mut client = Client::connect(&s).await;
        let noput = pb::watch_create_request::FilterType::Noput.into();
        let created = client.create(pb::WatchCreateRequest { filters: vec![noput], watch_id: 5, ..prefix("/") }).await;
        assert!(created.created && created.watch_id == 5);
        let again = client.create(pb::WatchCreateRequest { watch_id: 5, ..prefix("/") }).await;
        assert!(again.canceled && again.watch_id == -1 && again.cancel_reason.contains("duplicate watch ID"));
        let empty = pb::WatchCreateRequest { key: "/b".into(), range_end: "/a".into(), ..Default::default() };
        assert!(client.create(empty).await.cancel_reason.contains("range is empty"));
        put(&*s.kv, "/a", "1").await;
        delete(&*s.kv, "/a").await;
        let told = client.next().await;
        assert_eq!((told.events.len(), told.events[0].r#type), (1, 1));
        assert!(told.events[0].prev_kv.is_none());
        client.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 5 })).await;
        let canceled = client.next().await;
        assert!(canceled.canceled && canceled.watch_id == 5 && canceled.compact_revision == 0);
        s.stop().await;
    });
}

#[test]
fn progress_comes_after_the_events_it_covers() {
    with_tools(async {
        let s = Served::on_socket().await;
        let mut client = Client::connect(&s).await;
        client.create(prefix("/a")).await;
        for i in 0..50 {
            put(&*s.kv, "/b", "elsewhere").await;
            let written = put(&*s.kv, "/a", &i.to_string()).await;
            client.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
            let told = client.next().await;
            assert_eq!(told.events[0].kv.as_ref().unwrap().mod_revision, written);
            let progress = client.next().await;
            assert!(progress.watch_id == -1 && progress.events.is_empty());
            assert!(progress.header.unwrap().revision >= written);
        }
        s.stop().await;
    });
}

#[test]
fn large_revisions_come_in_parts() {
    with_tools(async {
        let s = Served::on_socket().await;
        let mut client = Client::connect(&s).await;
        client.create(pb::WatchCreateRequest { fragment: true, prev_kv: true, ..prefix("/") }).await;
        for _ in 0..2 {
            let value = bytes::Bytes::from(vec![b'x'; 12_000]);
            let ops = (0..120).map(|i| Op::Put { key: format!("/{i:03}").into(), value: value.clone(), lease: 0 });
            s.kv.txn(Txn { success: ops.collect(), ..Txn::default() }).await.unwrap();
        }
        let (mut keys, mut parts) = (0, 0);
        while keys < 240 {
            let told = client.next().await;
            keys += told.events.len();
            parts += usize::from(told.fragment);
        }
        assert!(parts >= 1, "a message of more than the limit");
        s.stop().await;
    });
}

/// A client that does not read is told everything once it does.
#[test]
fn a_slow_client_misses_nothing() {
    with_tools(async {
        let s = Served::on_socket().await;
        let mut client = Client::connect(&s).await;
        client.create(prefix("/")).await;
        let value = "x".repeat(10_000);
        let mut written = Vec::new();
        // More than the hub keeps.
        for i in 0..5_000 {
            written.push(put(&*s.kv, &format!("/{}", i % 10), &value).await);
        }
        let mut told = Vec::new();
        while told.len() < written.len() {
            let message = client.next().await;
            told.extend(message.events.iter().map(|e| e.kv.as_ref().unwrap().mod_revision));
        }
        assert_eq!(told, written);
        s.stop().await;
    });
}

/// History that the hub does not have: it has dropped it, in messages of bounded size.
#[test]
fn old_history_is_replayed() {
    with_tools(async {
        let s = Served::on_socket().await;
        let mut written = Vec::new();
        let value = "x".repeat(10_000);
        for i in 0..4_000 {
            written.push(put(&*s.kv, &format!("/{}", i % 3), if i < 1_000 { "small" } else { &value }).await);
        }
        let mut client = Client::connect(&s).await;
        client.create(pb::WatchCreateRequest { start_revision: written[0], prev_kv: true, ..prefix("/") }).await;
        let mut told = Vec::new();
        while told.len() < written.len() {
            let message = client.next().await;
            assert!(message.events.len() <= 1_001, "{} events in one message", message.events.len());
            for event in message.events {
                let known = event.prev_kv.map(|kv| kv.mod_revision);
                assert_eq!(known, told.len().checked_sub(3).map(|before| written[before]));
                told.push(event.kv.unwrap().mod_revision);
            }
        }
        assert_eq!(told, written);
        s.stop().await;
    });
}
