//! Puts right now and then what others leave between services and the claims on their addresses and ports, and tells of it.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::{SharedClock, TaskGroup};
use kedge_client::{Client, EventRecorder, EventType};
use kedge_registry::{Finding, Registry};
use tracing::warn;

/// Between two repairs, as upstream.
const INTERVAL: Duration = Duration::from_secs(180);

/// The repair, and in whose names it tells of what it finds: upstream's.
pub(crate) struct ClaimsRepair {
    registry: Arc<Registry>,
    clock: SharedClock,
    addresses: EventRecorder,
    ports: EventRecorder,
}

impl ClaimsRepair {
    pub(crate) fn new(registry: &Arc<Registry>, client: &Client, clock: &SharedClock, tasks: &TaskGroup) -> Arc<Self> {
        let recorder = |name| EventRecorder::new(client, clock.clone(), tasks, name, "");
        Arc::new(Self {
            registry: registry.clone(),
            clock: clock.clone(),
            addresses: recorder("ipallocator-repair-controller"),
            ports: recorder("portallocator-repair-controller"),
        })
    }

    async fn once(&self) -> Result<(), kedge_storage::Error> {
        for Finding { object, reason, message } in self.registry.repair_claims().await? {
            warn!(
                kind = object.kind,
                namespace = object.namespace,
                name = object.name,
                reason,
                message,
                "claims repaired"
            );
            let recorder = if reason.starts_with("Port") { &self.ports } else { &self.addresses };
            recorder.event(&object, EventType::Warning, reason, message);
        }
        Ok(())
    }

    /// Repairs now, and until the tasks end.
    pub(crate) async fn begin(self: Arc<Self>, tasks: &TaskGroup) -> Result<(), kedge_storage::Error> {
        self.once().await?;
        let repair = self;
        tasks.spawn_worker("claims repair", move || {
            let repair = repair.clone();
            async move {
                loop {
                    repair.clock.sleep(INTERVAL).await;
                    if let Err(err) = repair.once().await {
                        warn!(error = %err, "cannot repair the claims on service addresses and node ports");
                    }
                }
            }
        });
        Ok(())
    }
}
