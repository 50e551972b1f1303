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

#[tokio::test]
async fn what_has_been_migrated_can_be_migrated_again() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let from = etcd(&[("/registry/a", "1"), ("/registry/b", "2")]).await;
    assert_eq!(run(&layout, Direction::FromEtcd(&from)).await.unwrap(), Migrated { keys: 2, written: 2 });
    // As after a kill before the last line.
    assert_eq!(run(&layout, Direction::FromEtcd(&from)).await.unwrap(), Migrated { keys: 2, written: 0 });
    let to = etcd(&[]).await;
    assert_eq!(run(&layout, Direction::ToEtcd(&to)).await.unwrap(), Migrated { keys: 2, written: 2 });
    assert_eq!(run(&layout, Direction::ToEtcd(&to)).await.unwrap(), Migrated { keys: 2, written: 0 });
    let other = etcd(&[("/registry/c", "3")]).await;
    assert!(matches!(run(&layout, Direction::FromEtcd(&other)).await, Err(Error::NotEmpty { .. })));
    assert!(matches!(run(&layout, Direction::ToEtcd(&other)).await, Err(Error::NotEmpty { .. })));
}

#[tokio::test]
async fn an_identity_of_another_time_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let from = etcd(&[("/kedge/identity", "old keys"), ("/registry/a", "1")]).await;
    run(&layout, Direction::FromEtcd(&from)).await.unwrap();
    // From here on the encryption keys are files, and may change.
    let to = etcd(&[]).await;
    run(&layout, Direction::ToEtcd(&to)).await.unwrap();
    assert!(to.get(IDENTITY).await.unwrap().is_none());
    assert!(to.get(b"/registry/a").await.unwrap().is_some());
}

#[tokio::test]
async fn a_restore_that_was_cut_off_is_completed_before_a_migration() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    run(&layout, Direction::FromEtcd(&etcd(&[("/registry/a", "1")]).await)).await.unwrap();
    std::fs::rename(layout.store(), layout.store().with_file_name("kv.new")).unwrap();
    let to = etcd(&[]).await;
    assert_eq!(run(&layout, Direction::ToEtcd(&to)).await.unwrap().keys, 1);
}
