//! Keeps few managers that update: the oldest become one.

use crate::entry::{Entry, Managed, Manager, Operation};

/// Managers that update. Those that apply say for themselves when they own nothing any more.
const MAX_UPDATERS: usize = 10;
/// Whom the fields of the others belong to.
const ANCIENT: &str = "ancient-changes";

/// Merges the oldest updates of each version, until there are few enough.
pub(crate) fn cap(mut managed: Managed) -> Managed {
    let is_update = |entry: &&Entry| entry.manager.operation == Operation::Update;
    let mut updaters: Vec<Manager> = managed.0.iter().filter(is_update).map(|entry| entry.manager.clone()).collect();
    let mut count = updaters.len();
    if count <= MAX_UPDATERS {
        return managed;
    }
    let time = |manager: &Manager| {
        let entry = managed.find(manager).map(|at| &managed.0[at]);
        entry.and_then(|entry| entry.time.clone()).unwrap_or_default()
    };
    updaters.sort_by_cached_key(|manager| (time(manager), manager.sort_key()));
    let mut firsts: Vec<Manager> = Vec::new();
    for manager in updaters {
        if count <= MAX_UPDATERS {
            break;
        }
        let Some(first) = firsts.iter().find(|first| first.api_version == manager.api_version) else {
            firsts.push(manager);
            continue;
        };
        let bucket = Manager {
            name: ANCIENT.to_owned(),
            operation: Operation::Update,
            api_version: manager.api_version.clone(),
            subresource: String::new(),
        };
        if managed.find(&bucket).is_none()
            && let Some(at) = managed.find(first)
        {
            managed.0[at].manager = bucket.clone();
        }
        let (Some(at), Some(into)) = (managed.find(&manager), managed.find(&bucket)) else { continue };
        if at == into {
            continue;
        }
        // What cannot be read belongs to nobody.
        let older = managed.0[at].take_set().unwrap_or_default();
        let merged = managed.0[into].take_set().unwrap_or_default().union(older);
        managed.0[into] = Entry::new(bucket, managed.0[at].time.clone(), merged);
        managed.0.remove(at);
        count -= 1;
    }
    managed
}
