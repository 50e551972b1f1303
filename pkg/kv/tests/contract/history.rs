//! Random histories of concurrent clients and observers, with compaction and with restarts, before the judge.

use std::sync::Arc;

use bytes::Bytes;
use kedge_kv::{Error, Kv};

use crate::engines;
use crate::model::{Done, Model};
use crate::store::Store;
use crate::workload::{PREFIX, Watching, Workload};

/// Clients of each handle.
const CLIENTS: usize = 4;
const OPERATIONS: usize = 150;

/// Clients on all handles at once; the model takes what the witness saw, and all observers are judged.
async fn phase(handles: &[Arc<dyn Kv>], model: &mut Option<Model>) -> Vec<Done> {
    let witness = Watching::begin(&*handles[0], Bytes::from_static(PREFIX)).await.unwrap();
    match model {
        Some(model) => model.resumes(&witness.start),
        None => *model = Some(Model::new(&witness.start)),
    }
    let model = model.as_mut().unwrap();
    // From here on compaction cannot get ahead of the witness.
    handles[0].barrier().await.unwrap();
    let work = Workload::new(false);
    let clients: Vec<_> = handles
        .iter()
        .cycle()
        .take(CLIENTS * handles.len())
        .map(|kv| tokio::spawn(work.clone().client(kv.clone(), OPERATIONS)))
        .collect();
    let compaction = tokio::spawn(compact(handles[0].clone(), work.clone()));
    let (mut done, mut watching) = (Vec::new(), Vec::new());
    for client in clients {
        let (did, watched) = client.await.unwrap();
        done.extend(did);
        watching.extend(watched);
    }
    work.stop();
    compaction.abort();
    for handle in handles {
        handle.barrier().await.unwrap();
    }
    model.extend(&witness.recorder.told());
    for one in watching {
        model.judge_observer(&one.prefix, &one.start, &one.recorder.told());
    }
    done
}

/// Compacts behind the clients until it is stopped.
async fn compact(kv: Arc<dyn Kv>, work: Arc<Workload>) {
    loop {
        work.more(40).await;
        match kv.compact(kv.revision().saturating_sub(10)).await {
            Ok(()) | Err(Error::Compacted { .. }) => {}
            Err(error) => panic!("compaction: {error}"),
        }
    }
}

pub async fn concurrent_clients_see_one_order(s: Store) {
    let mut model = None;
    let done = phase(&[s.kv.clone(), s.other.clone()], &mut model).await;
    let model = model.unwrap();
    model.judge_clients(&done);
    let now = s.range(kedge_kv::Range::prefix(PREFIX)).await.unwrap();
    model.resumes(&kedge_kv::Snapshot { revision: now.revision, kvs: now.kvs });
}

#[test]
fn one_order_across_restarts_on_files() {
    let dir = tempfile::tempdir().unwrap();
    engines::block_on(async {
        let (mut model, mut done) = (None, Vec::new());
        for _ in 0..4 {
            let kv = engines::open_files(dir.path());
            done.extend(phase(std::slice::from_ref(&kv), &mut model).await);
            kv.close().await;
        }
        model.unwrap().judge_clients(&done);
    });
}
