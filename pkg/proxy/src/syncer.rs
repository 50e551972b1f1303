//! Brings the plan into the kernel.
//!
//! Invariant: what this believes of the kernel is what the last successful transaction left there.
//! After a failure it believes nothing and writes the whole table at once.

use crate::conntrack::{self, Stale};
use crate::objects::{EndpointSlice, Service};
use crate::plan::{Context, Fragment, plan_service};
use crate::render::{self, Kernel};
use crate::ruleset::Shape;
use crate::state::Desired;
use kedge_meta::ObjectKey;
use kedge_nft::{Nft, NftError};
use std::sync::Arc;

/// The desired table and the way into the kernel.
pub struct Syncer {
    nft: Arc<dyn Nft>,
    shape: Shape,
    context: Context,
    desired: Desired,
    kernel: Option<Kernel>,
}

/// What one sync did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many items changed.
    pub changes: usize,
    /// Whether the whole table was written.
    pub full: bool,
    /// UDP flows that conntrack must forget.
    pub stale: Vec<Stale>,
}

impl Syncer {
    /// A syncer that knows nothing of the kernel: its first sync writes the whole table.
    pub fn new(nft: Arc<dyn Nft>, shape: Shape, context: Context) -> Self {
        Self { nft, shape, context, desired: Desired::default(), kernel: None }
    }

    /// Moves the node to another zone; the caller plans all services again.
    pub fn set_zone(&mut self, zone: String) {
        self.context.place.zone = zone;
    }

    /// The zone plans are made for.
    pub fn zone(&self) -> &str {
        &self.context.place.zone
    }

    /// Plans one service again; `None` forgets it.
    pub fn update(&mut self, key: &ObjectKey, service: Option<&Service>, slices: &[Arc<EndpointSlice>]) {
        let fragment = service.map_or_else(Fragment::new, |s| plan_service(s, slices, &self.context));
        self.desired.replace(key, fragment);
    }

    /// The services that have a part in the plan.
    pub fn services(&self) -> Vec<ObjectKey> {
        self.desired.owners().cloned().collect()
    }

    /// Whether the kernel holds chains that only another sync can remove, also if nothing changes until then.
    pub fn has_leftovers(&self) -> bool {
        self.kernel.as_ref().is_some_and(Kernel::has_leftovers)
    }

    /// Makes the kernel hold what is planned.
    ///
    /// # Errors
    /// When the transaction was refused. Nothing of it is in force, and the next sync is a full one.
    pub async fn sync(&mut self) -> Result<Outcome, NftError> {
        let changes = self.desired.changes();
        let full = self.kernel.is_none();
        let rendered = match &self.kernel {
            Some(kernel) if changes.is_empty() && !kernel.has_leftovers() => return Ok(Outcome::default()),
            Some(kernel) => render::incremental(kernel, &changes),
            None => render::full(&self.shape, &self.desired.everything()),
        };
        // Forgotten until it succeeded, so that a dropped future leads to a full sync, too.
        self.kernel = None;
        self.nft.apply(&rendered.script).await?;
        self.kernel = Some(rendered.kernel);
        self.desired.applied();
        Ok(Outcome { changes: changes.len(), full, stale: conntrack::stale_flows(&changes) })
    }
}
