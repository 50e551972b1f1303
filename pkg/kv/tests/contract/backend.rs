//! What only a real etcd can show: lost answers, lost watches, TLS, users, shared compaction, a full store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::VirtualClock;
use kedge_kv::{Error, EtcdOptions, KeyRange, Kv, Op, Range};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::engines::{PATIENCE, block_on, connect, connect_by, etcd_options, try_connect};
use crate::etcd::{Process, tools};
use crate::proxy::{Mode, Proxy};
use crate::recorder::{Recorder, Told};
use crate::store::{Store, put, texts, when};

pub fn on_own_etcd(test: impl AsyncFnOnce(Process), scheme: &str, more: Vec<String>) {
    if tools().is_none() {
        eprintln!("not run: KEDGE_TEST_ETCD_DIR is not set");
        return;
    }
    let process = Process::start_with(scheme, more);
    block_on(test(process));
}

async fn store(options: EtcdOptions) -> Store {
    Store::single(connect(options).await)
}

fn impatient(mut options: EtcdOptions) -> EtcdOptions {
    options.attempt_timeout = Duration::from_millis(500);
    options.total_timeout = Duration::from_secs(3);
    options
}

#[test]
fn a_write_whose_answer_is_lost_is_not_repeated() {
    on_own_etcd(
        async |etcd| {
            let direct = store(etcd_options(vec![etcd.url()])).await;
            let proxy = Proxy::to(&etcd.url()).await;
            // With another endpoint that would take it.
            let relayed = store(impatient(etcd_options(vec![proxy.url.clone(), etcd.url()]))).await;
            relayed.put("/a", "0").await;
            proxy.set(Mode::Mute);
            let lost = relayed.put_with("/a", "1", 0).await;
            assert!(matches!(lost, Err(Error::Unavailable { unknown: true, .. })), "{lost:?}");
            // Reads, and the next write, go to the other endpoint.
            let now = relayed.read("/a").await.unwrap();
            assert_eq!((&now.value[..], now.version), (&b"1"[..], 2));
            relayed.put("/a", "2").await;
            assert_eq!(direct.read("/a").await.unwrap().version, 3);
        },
        "http",
        vec![],
    );
}

#[test]
fn a_write_that_was_never_sent_goes_to_another_endpoint() {
    on_own_etcd(
        async |etcd| {
            let nobody = format!("http://127.0.0.1:{}", crate::etcd::free_port());
            let s = store(etcd_options(vec![nobody, etcd.url()])).await;
            s.put("/a", "1").await;
            assert_eq!(s.read("/a").await.unwrap().version, 1);
        },
        "http",
        vec![],
    );
}

#[test]
fn nobody_there_is_an_error_in_time() {
    block_on(async {
        let nobody = format!("http://127.0.0.1:{}", crate::etcd::free_port());
        let refused = try_connect(impatient(etcd_options(vec![nobody]))).await.err();
        assert!(matches!(refused, Some(Error::Unavailable { unknown: false, .. })), "{refused:?}");
    });
}

#[test]
fn a_lost_watch_resumes_where_it_was() {
    on_own_etcd(
        async |etcd| {
            let direct = store(etcd_options(vec![etcd.url()])).await;
            let proxy = Proxy::to(&etcd.url()).await;
            let relayed = store(etcd_options(vec![proxy.url.clone()])).await;
            let recorder = Recorder::new();
            relayed.observe(b"/", recorder.clone()).await.unwrap();
            let mut written = Vec::new();
            for round in 0..4 {
                written.push(direct.put("/a", "while it watches").await);
                relayed.barrier().await.unwrap();
                proxy.set(Mode::Cut);
                written.push(direct.put("/a", &format!("while it is away {round}")).await);
                written.push(direct.delete("/a").await.revision);
                proxy.set(Mode::Open);
            }
            relayed.barrier().await.unwrap();
            assert_eq!(recorder.events().iter().map(|e| e.revision).collect::<Vec<_>>(), written);
        },
        "http",
        vec![],
    );
}

#[test]
fn a_watch_starts_over_when_its_history_is_compacted() {
    on_own_etcd(
        async |etcd| {
            let direct = store(etcd_options(vec![etcd.url()])).await;
            let proxy = Proxy::to(&etcd.url()).await;
            let relayed = store(etcd_options(vec![proxy.url.clone()])).await;
            let recorder = Recorder::new();
            relayed.observe(b"/a/", recorder.clone()).await.unwrap();
            direct.put("/a/gone", "1").await;
            relayed.barrier().await.unwrap();
            proxy.set(Mode::Cut);
            direct.delete("/a/gone").await;
            direct.put("/a/new", "1").await;
            let last = direct.put("/b", "1").await;
            direct.compact(last).await.unwrap();
            proxy.set(Mode::Open);
            relayed.barrier().await.unwrap();
            let after = direct.put("/a/after", "1").await;
            recorder.wait(|events| events.last().is_some_and(|e| e.revision == after)).await;
            let told = recorder.told();
            let reset = told.iter().position(|t| matches!(t, Told::Reset(_))).expect("a reset");
            let Told::Reset(state) = &told[reset] else { panic!("{told:?}") };
            assert!(state.revision >= last && texts(&state.kvs).contains(&"/a/new".to_owned()), "{state:?}");
            assert!(!texts(&state.kvs).contains(&"/a/gone".to_owned()));
        },
        "http",
        vec![],
    );
}

/// Certificates of one authority: `ca.crt`, and `server` and `client` with their keys.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.crt"), ca.pem()).unwrap();
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), name.to_owned()]).unwrap();
        std::fs::write(dir.join(format!("{name}.crt")), params.signed_by(&key, &ca).unwrap().pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn tls_with_client_certificates() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name);
    let flag = |flag: &str, name: &str| format!("--{flag}={}", file(name).display());
    let flags = vec![
        flag("cert-file", "server.crt"),
        flag("key-file", "server.key"),
        flag("trusted-ca-file", "ca.crt"),
        "--client-cert-auth".to_owned(),
    ];
    on_own_etcd(
        async |etcd| {
            let mut options = etcd_options(vec![etcd.url()]);
            (options.ca, options.cert) = (Some(file("ca.crt")), Some(file("client.crt")));
            options.key = Some(file("client.key"));
            let s = store(options.clone()).await;
            let recorder = Recorder::new();
            s.observe(b"/", recorder.clone()).await.unwrap();
            s.put("/a", "1").await;
            s.barrier().await.unwrap();
            assert_eq!(recorder.events().len(), 1);

            let mut nameless = impatient(options.clone());
            (nameless.cert, nameless.key) = (None, None);
            let refused = try_connect(nameless).await.err();
            assert!(matches!(refused, Some(Error::Unavailable { .. })), "{refused:?}");
            let mut absent = options.clone();
            absent.ca = Some(file("absent.crt"));
            let refused = try_connect(absent).await.err();
            assert!(matches!(refused, Some(Error::Io { .. })), "{refused:?}");
            options.ca = Some(file("client.crt"));
            let refused = try_connect(impatient(options)).await.err();
            assert!(matches!(refused, Some(Error::Unavailable { .. })), "{refused:?}");
        },
        "https",
        flags,
    );
}

#[test]
fn users_and_their_tokens() {
    on_own_etcd(
        async |mut etcd| {
            // It is up when this answers.
            connect(etcd_options(vec![etcd.url()])).await.close().await;
            etcd.etcdctl(&["user", "add", "root:secret"]);
            etcd.etcdctl(&["user", "grant-role", "root", "root"]);
            etcd.etcdctl(&["auth", "enable"]);
            let mut options = etcd_options(vec![etcd.url()]);
            let refused = try_connect(options.clone()).await.err();
            assert!(matches!(refused, Some(Error::Unauthenticated(_))), "{refused:?}");
            (options.user, options.password) = (Some("root".into()), Some("wrong".into()));
            let refused = try_connect(options.clone()).await.err();
            assert!(matches!(refused, Some(Error::Unauthenticated(_))), "{refused:?}");
            options.password = Some("secret".into());
            let s = store(options).await;
            let recorder = Recorder::new();
            s.observe(b"/", recorder.clone()).await.unwrap();
            s.put("/a", "1").await;
            s.barrier().await.unwrap();
            // A new process knows none of the tokens.
            etcd.restart();
            assert_eq!(s.read("/a").await.unwrap().version, 1);
            s.put("/a", "2").await;
            s.barrier().await.unwrap();
            assert_eq!(recorder.events().len(), 2);
        },
        "http",
        vec![],
    );
}

#[test]
fn several_servers_compact_once_an_interval() {
    const INTERVAL: Duration = Duration::from_secs(300);
    on_own_etcd(
        async |etcd| {
            let plain = etcd_options(vec![etcd.url()]);
            let s = store(plain.clone()).await;
            let mut options = plain;
            options.compact_interval = Some(INTERVAL);
            let clock = VirtualClock::new(jiff::Timestamp::UNIX_EPOCH);
            let mut servers: Vec<Arc<dyn Kv>> = Vec::new();
            for _ in 0..3 {
                servers.push(connect_by(options.clone(), Arc::new(clock.clone())).await.unwrap());
            }
            let old = s.put("/a", "1").await;
            let gone = |outcome: Result<_, Error>| matches!(outcome, Err(Error::Compacted { .. }));
            let mut rounds = 0;
            let waiting = async {
                while !gone(s.range(Range { revision: Some(old), ..Range::key("/a") }).await) {
                    rounds += 1;
                    clock.advance(INTERVAL);
                    let version = async || s.read("compact_rev_key").await.map_or(0, |kv| kv.version);
                    while version().await < rounds {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    assert_eq!(version().await, rounds, "more than one server compacted");
                    s.put("/a", "2").await;
                }
            };
            tokio::time::timeout(PATIENCE, waiting).await.expect("nobody compacts");
            assert!(rounds >= 2, "compaction must leave an interval of history");
            for server in servers {
                server.close().await;
            }
        },
        "http",
        vec![],
    );
}

#[test]
fn a_full_etcd_is_named_and_can_be_emptied() {
    on_own_etcd(
        async |etcd| {
            let s = store(etcd_options(vec![etcd.url()])).await;
            s.health().await.unwrap();
            let value = "x".repeat(1_000_000);
            let full = loop {
                match s.put_with("/a", &value, 0).await {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert!(matches!(&full, Error::NoSpace(_)) && full.is_retriable(), "{full:?}");
            s.health().await.unwrap();
            s.txn(when(vec![], vec![Op::Delete(KeyRange::key("/a"))], vec![])).await.unwrap();
            assert!(matches!(s.txn(when(vec![], vec![put("/b", "1", 0)], vec![])).await, Err(Error::NoSpace(_))));
            assert!(s.read("/a").await.is_none());
        },
        "http",
        vec!["--quota-backend-bytes=4000000".to_owned()],
    );
}
