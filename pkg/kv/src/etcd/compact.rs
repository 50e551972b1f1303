//! Compaction in the background, shared by all servers of one etcd as upstream's API servers share it.
//!
//! The key `compact_rev_key` is written by whoever compacts. A server compacts what was the newest revision an interval
//! ago, if nobody else has written the key since it looked; so history of one to two intervals is kept, and several
//! servers, also upstream's, do the work once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{debug, warn};

use super::Shared;
use crate::api::{Compare, KeyRange, Op, OpResult, Order, Range, Target, Txn};
use crate::error::Error;

/// Upstream's key.
const KEY: &[u8] = b"compact_rev_key";

/// What a server knows from its last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// The version of the key.
    version: u64,
    /// The newest revision then.
    revision: u64,
}

impl Shared {
    pub(super) async fn compact_always(self: Arc<Self>, interval: Duration) {
        let mut turn = Turn::default();
        loop {
            tokio::select! {
                () = self.caller.clock().sleep(interval) => {}
                () = self.caller.shutdown().requested() => return,
            }
            match self.compact_turn(turn).await {
                Ok(next) => turn = next,
                Err(error) => warn!(%error, "history is not compacted now"),
            }
        }
    }

    /// Compacts to the revision of the last look, if this server comes first.
    pub(super) async fn compact_turn(&self, turn: Turn) -> Result<Turn, Error> {
        let key = Bytes::from_static(KEY);
        let unchanged =
            Compare { keys: KeyRange::key(key.clone()), order: Order::Equal, target: Target::Version(turn.version) };
        let value = turn.revision.to_string().into();
        let txn = Txn {
            compare: vec![unchanged],
            success: vec![Op::Put { key: key.clone(), value, lease: 0 }],
            failure: vec![Op::Range(Range::key(key))],
            ..Txn::default()
        };
        let result = self.txn(txn).await?;
        if !result.succeeded {
            let version = match result.results.first() {
                Some(OpResult::Range(range)) => range.kvs.first().map_or(0, |kv| kv.version),
                _ => 0,
            };
            return Ok(Turn { version, revision: result.revision });
        }
        let next = Turn { version: turn.version + 1, revision: result.revision };
        if turn.revision > 0 {
            match self.compact(turn.revision).await {
                Ok(()) | Err(Error::Compacted { .. }) => debug!(revision = turn.revision, "history is compacted"),
                Err(error) => return Err(error),
            }
        }
        Ok(next)
    }
}
