//! Kinds that are about to be served. Whoever has read that one is established finds it, though that is written a moment before it is served: a
//! request that would be told that there is no such thing waits for it.
//!
//! Invariant: what is announced is taken back, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use kedge_meta::GroupResource;
use kedge_schema::ResourceInfo;
use tokio::sync::watch;

use crate::catalogue::Catalogue;
use crate::registry::Registry;

/// How long a request waits at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kinds that come, each as often as it is announced.
#[derive(Default)]
pub(crate) struct Coming(watch::Sender<Vec<GroupResource>>);

/// A kind has been announced for as long as this lives.
pub struct Announced<'a> {
    coming: &'a Coming,
    resource: GroupResource,
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.coming.0.send_modify(|all| {
            if let Some(at) = all.iter().position(|resource| *resource == self.resource) {
                all.swap_remove(at);
            }
        });
    }
}

impl Registry {
    /// Requests for kinds of its group, and for what is said of all kinds, wait until this is dropped.
    pub fn announce(&self, resource: GroupResource) -> Announced<'_> {
        self.coming.0.send_modify(|all| all.push(resource.clone()));
        Announced { coming: &self.coming, resource }
    }

    /// Whether a resource is served still, or again, or will be in a moment: perhaps it is stored in another form only.
    pub fn serves(&self, info: &ResourceInfo) -> bool {
        self.catalogue().get(&info.group, &info.version, &info.plural).is_some() || self.is_announced(&info.group)
    }

    /// Whether a kind of the group has been announced.
    fn is_announced(&self, group: &str) -> bool {
        self.coming.0.borrow().iter().any(|resource| resource.group == group)
    }

    /// What is served now, for a request on a kind of this group, or on all groups: what has been announced is waited for.
    pub async fn settled(&self, group: Option<&str>) -> Arc<Catalogue> {
        let is_coming = |all: &Vec<GroupResource>| all.iter().any(|r| group.is_none_or(|group| r.group == *group));
        let patience = self.clock.sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            let catalogue = self.catalogue();
            if !is_coming(&self.coming.0.borrow()) {
                // It may be that of a moment when something was coming that has come since.
                if Arc::ptr_eq(&catalogue, &self.catalogue()) {
                    return catalogue;
                }
                continue;
            }
            let mut coming = self.coming.0.subscribe();
            tokio::select! {
                // The sender lives as long as this.
                _ = coming.wait_for(|all| !is_coming(all)) => {}
                () = &mut patience => break,
            }
        }
        self.catalogue()
    }
}
