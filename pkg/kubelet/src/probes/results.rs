//! The latest verdicts, by container id: a container that is made anew starts without any.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::ProbeKind;

#[derive(Default)]
struct Table {
    verdicts: HashMap<(ProbeKind, String), bool>,
    /// Which pod a container belongs to, so that its verdicts go with it.
    pods: HashMap<String, String>,
}

/// All verdicts.
#[derive(Default)]
pub(super) struct Results {
    table: Mutex<Table>,
}

impl Results {
    pub(super) fn get(&self, kind: ProbeKind, id: &str) -> Option<bool> {
        self.table.lock().verdicts.get(&(kind, id.to_string())).copied()
    }

    /// Whether the verdict is another than before.
    pub(super) fn set(&self, kind: ProbeKind, id: &str, verdict: bool) -> bool {
        self.table.lock().verdicts.insert((kind, id.to_string()), verdict) != Some(verdict)
    }

    pub(super) fn belongs(&self, id: &str, uid: &str) {
        self.table.lock().pods.insert(id.to_string(), uid.to_string());
    }

    pub(super) fn forget(&self, kind: ProbeKind, id: &str) {
        self.table.lock().verdicts.remove(&(kind, id.to_string()));
    }

    pub(super) fn forget_pod(&self, uid: &str) {
        let mut table = self.table.lock();
        let Table { verdicts, pods } = &mut *table;
        verdicts.retain(|(_, id), _| pods.get(id).is_none_or(|of| of != uid));
        pods.retain(|_, of| of != uid);
    }
}
