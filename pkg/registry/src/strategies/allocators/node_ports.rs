//! Node ports: a claim for each, and upstream's record of all where others keep it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use kedge_base::random;
use kedge_storage::{Amend, Error as StorageError, Matcher, Object, ResourceStore};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::warn;

use super::numbers::{Numbers, band};
use super::range_allocation::{Entry, KEY, RangeAllocation};
use super::{Refused, parent, service_ports};

/// The ports of the cluster's range, each free or taken.
pub(crate) struct NodePorts {
    pub(super) range: (u16, u16),
    numbers: Numbers,
    /// The claims that are stored.
    pub(super) stored: Option<ResourceStore>,
    /// Whether other programs may give out ports in this store: then their record is kept from the start.
    pub(super) shared: bool,
    /// Taken for services that are being written.
    pending: Mutex<BTreeSet<u32>>,
    /// The record as it was last read, and the revision of its last change.
    record: Mutex<Option<(RangeAllocation, u64)>>,
}

impl NodePorts {
    /// Where the claims are, below `/registry/`.
    pub(crate) const CLAIMS: &str = "kedge/nodeports";

    pub(super) fn new(range: (u16, u16), shared: bool, stored: Option<ResourceStore>) -> Self {
        let (first, last) = (u128::from(range.0), u128::from(range.1));
        let numbers = Numbers::new(first, last, band((last + 1).saturating_sub(first), 32, 128));
        Self { range, numbers, stored, shared, pending: Mutex::default(), record: Mutex::default() }
    }

    /// The first and the last port.
    pub(crate) fn range(&self) -> (u16, u16) {
        self.range
    }

    /// Reads the record of all ports, which is in no cache.
    pub(crate) async fn refresh(&self) -> Result<(), StorageError> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let found = stored.value_of(KEY).await?;
        let read = found.and_then(|(value, revision)| match RangeAllocation::decode(&value) {
            Ok(record) => Some((record, revision)),
            Err(err) => {
                warn!(key = KEY, error = %err, "the record of node ports cannot be read");
                None
            }
        });
        let mut record = self.record.lock();
        let newer = |(_, revision): &(RangeAllocation, u64)| record.as_ref().is_none_or(|(_, had)| had <= revision);
        if read.as_ref().is_none_or(newer) {
            *record = read;
        }
        Ok(())
    }

    fn is_free(&self, port: u32) -> bool {
        // A claim that cannot be read is one, too.
        let claimed = self.stored.as_ref().is_some_and(|stored| !matches!(stored.get(&port.to_string()), Ok(None)));
        !claimed && !self.record.lock().as_ref().is_some_and(|(record, _)| record.has(port))
    }

    /// Takes a certain port.
    pub(crate) fn take(&self, port: u32) -> Result<(), Refused> {
        if !self.numbers.contains(u128::from(port)) {
            return Err(Refused::OutOfRange);
        }
        let mut pending = self.pending.lock();
        if pending.contains(&port) || !self.is_free(port) {
            return Err(Refused::Taken);
        }
        pending.insert(port);
        Ok(())
    }

    /// Takes any free port.
    pub(crate) fn take_any(&self) -> Result<u32, Refused> {
        let mut pending = self.pending.lock();
        let is_free = |number: u128| {
            let port = u32::try_from(number).ok();
            port.is_some_and(|port| !pending.contains(&port) && self.is_free(port))
        };
        let picked = self.numbers.pick(random::u64(), is_free).and_then(|number| u32::try_from(number).ok());
        let port = picked.ok_or(Refused::Full)?;
        pending.insert(port);
        Ok(port)
    }

    /// The write for which a port was taken is over; if it succeeded, the claim is stored.
    pub(crate) fn release(&self, port: u32) {
        self.pending.lock().remove(&port);
    }

    pub(crate) fn key(port: u32) -> String {
        format!("/registry/{}/{port}", Self::CLAIMS)
    }

    pub(super) fn claim(port: u32, service: &Value, now: Timestamp) -> Value {
        let created = kedge_base::time::rfc3339(now);
        json!({"apiVersion": "kedge/v1", "kind": "NodePort",
            "metadata": {"name": port.to_string(), "uid": random::uuid(), "creationTimestamp": created},
            "spec": {"parentRef": parent(service)}})
    }

    /// Key and value of the claim on each port for a service.
    pub(crate) fn claims(ports: &[u32], service: &Value, now: Timestamp) -> Result<Vec<(String, Bytes)>, StorageError> {
        let claim = |port: &u32| Ok((Self::key(*port), Object::encode(None, &Self::claim(*port, service, now))?));
        ports.iter().map(claim).collect()
    }

    /// What goes into the record with a write that takes some ports and gives back others; none where nobody keeps one.
    pub(crate) fn entry(&self, taken: Vec<u32>, returned: Vec<u32>) -> Option<Arc<dyn Amend>> {
        let kept = self.shared || self.record.lock().is_some();
        if !kept || (taken.is_empty() && returned.is_empty()) {
            return None;
        }
        let beginning = self.shared.then(|| RangeAllocation::new(self.range, self.claimed()));
        Some(Arc::new(Entry { taken, returned, beginning }))
    }

    fn claimed(&self) -> Vec<u32> {
        let claims = self.stored.as_ref().map(|stored| stored.readable("", &Matcher::default()).objects);
        claims.unwrap_or_default().iter().filter_map(|(name, _)| name.parse().ok()).collect()
    }

    /// What goes into the record when a service is deleted.
    pub(crate) fn returned_of(&self, service: &Value) -> Option<Arc<dyn Amend>> {
        self.entry(Vec::new(), service_ports(service).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_is_given_out_once() {
        let ports = NodePorts::new((1, 20), false, None);
        assert_eq!(ports.take(21), Err(Refused::OutOfRange));
        assert_eq!(ports.take(18), Ok(()));
        assert_eq!(ports.take(18), Err(Refused::Taken));
        let mut any: Vec<_> = (0..19).filter_map(|_| ports.take_any().ok()).collect();
        assert!(any[..3].iter().all(|n| *n > 16), "the upper band first: {any:?}");
        any.sort_unstable();
        assert!(any.into_iter().eq((1..=20).filter(|n| *n != 18)));
        assert_eq!(ports.take_any(), Err(Refused::Full));
        ports.release(2);
        assert_eq!(ports.take_any(), Ok(2));
    }

    #[test]
    fn what_the_record_says_is_taken_is_not_given_out() {
        let ports = NodePorts::new((1, 3), false, None);
        assert!(ports.entry(vec![1], Vec::new()).is_none(), "nobody keeps one");
        *ports.record.lock() = Some((RangeAllocation::new((1, 3), [1, 3]), 5));
        assert!(ports.entry(vec![1], Vec::new()).is_some());
        assert_eq!(ports.take(3), Err(Refused::Taken));
        assert_eq!((ports.take_any(), ports.take_any()), (Ok(2), Err(Refused::Full)));
    }
}
