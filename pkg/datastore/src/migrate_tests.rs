//! Migrations that are cut off, repeated, and go there and back; a store in memory stands for the etcd.
#![allow(clippy::unwrap_used)]

use kedge_kv::Embedded;

use super::*;

async fn etcd(keys: &[(&'static str, &'static str)]) -> Embedded {
    let kv = Embedded::memory(kedge_base::system_clock()).unwrap();
    for (key, value) in keys {
        put(&kv, vec![Op::Put { key: (*key).into(), value: (*value).into(), lease: 0 }]).await.unwrap();
    }
    kv
}

async fn run(layout: &Layout, direction: Direction<'_>) -> Result<Migrated, Error> {
    migrate(layout, direction, "the etcd", Timestamp::UNIX_EPOCH, &mut |_, _, _| {}).await
}

fn to(etcd: &Embedded) -> Direction<'_> {
    Direction::ToEtcd { etcd, identity: None }
}

async fn run_from(layout: &Layout, etcd: &Embedded) -> Result<Migrated, Error> {
    run(layout, Direction::FromEtcd { etcd, identity: &mut || Ok(()) }).await
}

#[tokio::test]
async fn what_has_been_migrated_can_be_migrated_again() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let from = etcd(&[("/registry/a", "1"), ("/registry/b", "2")]).await;
    assert_eq!(run_from(&layout, &from).await.unwrap(), Migrated { keys: 2, written: 2 });
    // As after a kill before the last line.
    assert_eq!(run_from(&layout, &from).await.unwrap(), Migrated { keys: 2, written: 0 });
    let target = etcd(&[]).await;
    assert_eq!(run(&layout, to(&target)).await.unwrap(), Migrated { keys: 2, written: 2 });
    assert_eq!(run(&layout, to(&target)).await.unwrap(), Migrated { keys: 2, written: 0 });
    open(&layout).await;
    let other = etcd(&[("/registry/c", "3")]).await;
    assert!(matches!(run_from(&layout, &other).await, Err(Error::NotEmpty { .. })));
    assert!(matches!(run(&layout, to(&other)).await, Err(Error::NotEmpty { .. })));
}

/// The embedded store keeps some values in fewer bytes; a stock server on the etcd could not read them.
#[tokio::test]
async fn packed_values_go_to_an_etcd_plain() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let plain = Bytes::from("much of the same, ".repeat(50));
    std::fs::create_dir_all(layout.db()).unwrap();
    let options = kedge_kv::Options::new(layout.store(), kedge_base::system_clock());
    let store = Embedded::open(options).unwrap();
    let packed = kedge_packed::pack(&plain).unwrap();
    put(&store, vec![Op::Put { key: "/registry/events/a/e".into(), value: packed, lease: 0 }]).await.unwrap();
    store.close().await;
    drop(store);
    let target = etcd(&[]).await;
    assert_eq!(run(&layout, to(&target)).await.unwrap(), Migrated { keys: 1, written: 1 });
    assert_eq!(target.get(b"/registry/events/a/e").await.unwrap().unwrap().value, plain);
    assert_eq!(run(&layout, to(&target)).await.unwrap(), Migrated { keys: 1, written: 0 });
}

#[tokio::test]
async fn an_identity_of_another_time_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let from = etcd(&[("/kedge/identity", "old keys"), ("/registry/a", "1")]).await;
    run_from(&layout, &from).await.unwrap();
    // From here on the encryption keys are files, and may change.
    let target = etcd(&[]).await;
    run(&layout, to(&target)).await.unwrap();
    assert!(target.get(IDENTITY).await.unwrap().is_none());
    assert!(target.get(b"/registry/a").await.unwrap().is_some());
}

#[tokio::test]
async fn a_restore_that_was_cut_off_is_completed_before_a_migration() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    run_from(&layout, &etcd(&[("/registry/a", "1")]).await).await.unwrap();
    std::fs::rename(layout.store(), layout.store().with_file_name("kv.new")).unwrap();
    let target = etcd(&[]).await;
    assert_eq!(run(&layout, to(&target)).await.unwrap().keys, 1);
}

/// As the first start of a server on what has been migrated.
async fn open(layout: &Layout) {
    let tasks = kedge_base::TaskGroup::new("test", kedge_base::Shutdown::new());
    let clock = kedge_base::system_clock();
    crate::open(&crate::Endpoint::Embedded, &crate::Tls::default(), layout, &clock, &tasks).await.unwrap();
}

#[tokio::test]
async fn what_no_server_has_used_yet_is_replaced_by_what_the_source_has_become() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let from = etcd(&[("/registry/a", "1")]).await;
    run_from(&layout, &from).await.unwrap();
    let write =
        |value: &'static str| put(&from, vec![Op::Put { key: "/registry/a".into(), value: value.into(), lease: 0 }]);
    write("2").await.unwrap();
    assert_eq!(run_from(&layout, &from).await.unwrap(), Migrated { keys: 1, written: 1 });
    // The same objects at other revisions are another state.
    write("2").await.unwrap();
    assert_eq!(run_from(&layout, &from).await.unwrap(), Migrated { keys: 1, written: 1 });
    assert_eq!(Place::take(&layout).unwrap().read().unwrap().unwrap().revision, from.revision());
    open(&layout).await;
    write("3").await.unwrap();
    assert!(matches!(run_from(&layout, &from).await, Err(Error::NotEmpty { .. })));
}

#[tokio::test]
async fn an_etcd_that_servers_use_is_not_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let from = etcd(&[("/registry/a", "1")]).await;
    let lease = from.grant(None, Duration::from_secs(600)).await.unwrap().id;
    let server = Op::Put { key: "/registry/masterleases/10.0.0.7".into(), value: "{}".into(), lease };
    put(&from, vec![server]).await.unwrap();
    let refused = run_from(&layout, &from).await.unwrap_err();
    assert!(refused.to_string().contains("in use by the server 10.0.0.7"), "{refused}");
    from.revoke(lease).await.unwrap();
    let leader = |at: &str| {
        let value =
            serde_json::json!({"spec": {"holderIdentity": "n1_x", "leaseDurationSeconds": 15, "renewTime": at}});
        Op::Put { key: LEADERS[1].into(), value: value.to_string().into(), lease: 0 }
    };
    for at in ["1970-01-01T00:00:03.000000Z", "1969-12-31T23:59:50.000000Z"] {
        put(&from, vec![leader(at)]).await.unwrap();
        let refused = run_from(&layout, &from).await.unwrap_err();
        assert!(refused.to_string().contains("in use by n1_x"), "{refused}");
    }
    assert!(!layout.db().exists());
    put(&from, vec![leader("1969-12-31T23:59:40.000000Z")]).await.unwrap();
    assert_eq!(run_from(&layout, &from).await.unwrap().keys, 2);
}

#[tokio::test]
async fn what_servers_share_moves_with_the_store_or_nothing_does() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let from = etcd(&[("/kedge/identity", "sealed"), ("/registry/a", "1")]).await;
    let mut refuse = || Err("the token is another".into());
    let refused = run(&layout, Direction::FromEtcd { etcd: &from, identity: &mut refuse }).await.unwrap_err();
    assert_eq!(refused.to_string(), "the token is another");
    assert!(!layout.store().exists());
    let mut moved = 0;
    for _ in 0..2 {
        let mut count = || {
            moved += 1;
            Ok(())
        };
        run(&layout, Direction::FromEtcd { etcd: &from, identity: &mut count }).await.unwrap();
    }
    assert_eq!(moved, 2);
    let target = etcd(&[]).await;
    let shared = async || target.get(IDENTITY).await.unwrap().map(|kv| kv.value);
    let with = |sealed: &'static str| Direction::ToEtcd { etcd: &target, identity: Some(sealed.into()) };
    assert_eq!(run(&layout, with("files, sealed")).await.unwrap(), Migrated { keys: 1, written: 1 });
    assert_eq!(shared().await.unwrap(), "files, sealed");
    // Sealed anew it is the same.
    assert_eq!(run(&layout, with("sealed again")).await.unwrap(), Migrated { keys: 1, written: 0 });
    assert_eq!(shared().await.unwrap(), "files, sealed");
    put(&target, vec![Op::Delete(KeyRange::key(IDENTITY))]).await.unwrap();
    run(&layout, with("after a cut")).await.unwrap();
    assert_eq!(shared().await.unwrap(), "after a cut");
}
