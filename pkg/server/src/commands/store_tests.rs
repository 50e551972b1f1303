//! Authorities and encryption keys on their way between an etcd and a data directory; a store in memory stands for the etcd.
#![allow(clippy::unwrap_used)]

use kedge_kv::{Embedded, Op, Txn};

use super::*;
use crate::encryption;
use crate::identity::{self, Identity};
use crate::token::Token;

const KEYS: &str = r#"{"resources":[{"providers":[{"aesgcm":{"keys":[{"name":"k","secret":"s"}]}},{"identity":{}}]}]}"#;

struct Cluster {
    etcd: Embedded,
    clock: SharedClock,
}

impl Cluster {
    /// An etcd on which a server with these keys has run.
    async fn new() -> Self {
        let clock = system_clock();
        let etcd = Embedded::memory(clock.clone()).unwrap();
        let put = Op::Put { key: "/registry/secrets/a/b".into(), value: "k8s:enc:aesgcm:v1:k:…".into(), lease: 0 };
        etcd.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
        let first = tempfile::tempdir().unwrap();
        let keys = || Ok(Some(KEYS.to_owned()));
        let now = crate::start::now(&clock);
        identity::share(&etcd, first.path(), &Token::parse("a-token").unwrap(), keys, now).await.unwrap();
        Self { etcd, clock }
    }

    async fn migrate(&self, to_etcd: bool, data_dir: &Path, token: Option<&str>) -> Result<Migrated, CommandError> {
        let command = MigrateCommand {
            data_dir: data_dir.to_owned(),
            endpoint: Endpoint::Memory,
            tls: Tls::default(),
            to_etcd,
            token: token.map(str::to_owned),
        };
        migrate_with(&command, &self.etcd, &self.clock).await
    }

    async fn identity(&self, token: &str) -> Identity {
        identity::load(&self.etcd, &Token::parse(token).unwrap()).await.unwrap().unwrap().0
    }
}

#[tokio::test]
async fn the_keys_of_a_cluster_come_out_of_the_etcd_with_its_objects() {
    let cluster = Cluster::new().await;
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let refused = cluster.migrate(false, &data_dir, None).await.unwrap_err().to_string();
    assert!(refused.contains("--token"), "{refused}");
    let refused = cluster.migrate(false, &data_dir, Some("another")).await.unwrap_err().to_string();
    assert!(refused.contains("another token"), "{refused}");
    assert!(!data_dir.join("server/db/kv").exists() && !data_dir.join("server/tls").exists());
    cluster.migrate(false, &data_dir, Some("a-token")).await.unwrap();
    let shared = cluster.identity("a-token").await;
    assert_eq!(kedge_certs::shared::export(&data_dir.join("server/tls")).unwrap(), shared.certificates);
    let file = encryption::path_of(&data_dir);
    assert_eq!(encryption::at_start(&file, None, false).unwrap().as_deref(), Some(KEYS));
    // From now on the token is the directory's, as of a server that ran there.
    assert_eq!(Token::known(&data_dir.join("server/token"), None).unwrap().unwrap().password(), "a-token");
    cluster.migrate(false, &data_dir, None).await.unwrap();
}

#[tokio::test]
async fn a_directory_of_another_cluster_is_refused_and_older_keys_are_put_aside() {
    let cluster = Cluster::new().await;
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("server/tls");
    kedge_certs::Pki::open(&tls, crate::start::now(&cluster.clock)).unwrap();
    let refused = cluster.migrate(false, dir.path(), Some("a-token")).await.unwrap_err().to_string();
    assert!(refused.contains("is not the cluster's"), "{refused}");
    assert!(!dir.path().join("server/db/kv").exists());
    std::fs::remove_dir_all(&tls).unwrap();
    let file = encryption::path_of(dir.path());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "older keys").unwrap();
    cluster.migrate(false, dir.path(), Some("a-token")).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), KEYS);
    let all = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|e| e.unwrap().path());
    assert!(all.into_iter().any(|path| std::fs::read_to_string(path).unwrap() == "older keys"));
}

#[tokio::test]
async fn the_keys_of_a_directory_go_to_the_etcd_with_its_objects() {
    let cluster = Cluster::new().await;
    let dir = tempfile::tempdir().unwrap();
    cluster.migrate(false, dir.path(), Some("a-token")).await.unwrap();
    let shared = cluster.identity("a-token").await;
    let target = Cluster { etcd: Embedded::memory(system_clock()).unwrap(), clock: system_clock() };
    target.migrate(true, dir.path(), None).await.unwrap();
    // Whichever server is the first there, it takes over what the cluster has.
    assert_eq!(target.identity("a-token").await, shared);
    std::fs::remove_file(dir.path().join("server/token")).unwrap();
    let refused = target.migrate(true, dir.path(), None).await.unwrap_err().to_string();
    assert!(refused.contains("--token"), "{refused}");
}
