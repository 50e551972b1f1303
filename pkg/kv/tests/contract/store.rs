//! What guarantees are stated on: a store, a second handle of it, and short forms of the usual requests.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use kedge_kv::{Compare, Error, KeyRange, KeyValue, Kv, Op, OpResult, Range, Txn, TxnResult};

#[derive(Clone)]
pub struct Store {
    pub kv: Arc<dyn Kv>,
    /// Another handle of the same store; the same one where a store has only one.
    pub other: Arc<dyn Kv>,
}

impl Deref for Store {
    type Target = dyn Kv;
    fn deref(&self) -> &Self::Target {
        &*self.kv
    }
}

impl Store {
    pub fn single(kv: Arc<dyn Kv>) -> Self {
        Self { other: kv.clone(), kv }
    }

    pub async fn wipe(&self) {
        for lease in self.leases().await.unwrap() {
            self.revoke(lease).await.unwrap();
        }
        self.txn(when(vec![], vec![Op::Delete(KeyRange::prefix(b""))], vec![])).await.unwrap();
    }

    pub async fn put(&self, key: &str, value: &str) -> u64 {
        self.put_with(key, value, 0).await.unwrap()
    }

    pub async fn put_with(&self, key: &str, value: &str, lease: i64) -> Result<u64, Error> {
        Ok(self.txn(when(vec![], vec![put(key, value, lease)], vec![])).await?.revision)
    }

    pub async fn delete(&self, key: &str) -> TxnResult {
        self.txn(when(vec![], vec![Op::Delete(KeyRange::key(key.to_owned()))], vec![])).await.unwrap()
    }

    /// Whether the conditions hold now.
    pub async fn holds(&self, compare: Vec<Compare>) -> bool {
        self.txn(when(compare, vec![], vec![])).await.unwrap().succeeded
    }

    pub async fn read(&self, key: &str) -> Option<KeyValue> {
        self.get(key.as_bytes()).await.unwrap()
    }

    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        texts(&self.range(Range::prefix(prefix.as_bytes())).await.unwrap().kvs)
    }

    pub async fn newest(&self) -> u64 {
        self.range(Range { count_only: true, ..Range::prefix(b"") }).await.unwrap().revision
    }
}

pub fn when(compare: Vec<Compare>, success: Vec<Op>, failure: Vec<Op>) -> Txn {
    Txn { compare, success, failure, ..Txn::default() }
}

pub fn put(key: &str, value: &str, lease: i64) -> Op {
    Op::Put { key: bytes(key), value: bytes(value), lease }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The keys.
pub fn texts(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(|kv| text(&kv.key)).collect()
}

/// What the range operation at `index` of a transaction found.
pub fn found(result: &TxnResult, index: usize) -> Vec<KeyValue> {
    match &result.results[index] {
        OpResult::Range(range) => range.kvs.clone(),
        other => panic!("no range: {other:?}"),
    }
}
