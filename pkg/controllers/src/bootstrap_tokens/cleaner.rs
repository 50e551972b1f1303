//! Bootstrap tokens go at their end.

use std::sync::Arc;
use std::time::Duration;

use kedge_client::{DeleteOptions, Error, Informer, WorkQueue};
use kedge_meta::{ObjectKey, resources};

use super::secret::{BootstrapSecret, Left};
use crate::context::{Context, enqueue_changes};

/// So that the clock that the end is measured by has reached it when the timer of another ends.
const MARGIN: Duration = Duration::from_millis(1);

struct Controller {
    ctx: Context,
    secrets: Informer<BootstrapSecret>,
    queue: WorkQueue<ObjectKey>,
}

pub(super) fn start(ctx: &Context, secrets: &Informer<BootstrapSecret>) {
    let queue = ctx.queue();
    enqueue_changes(secrets, &queue);
    let controller = Arc::new(Controller { ctx: ctx.clone(), secrets: secrets.clone(), queue: queue.clone() });
    let synced = {
        let secrets = secrets.clone();
        async move { secrets.synced().await }
    };
    ctx.work("token-cleaner", &queue, 1, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(secret) = self.secrets.get(&key.namespace, &key.name) else { return Ok(()) };
        match secret.left(self.ctx.clock.now()) {
            Left::Forever => Ok(()),
            Left::This(time) => {
                self.queue.add_after(key, time.unsigned_abs().saturating_add(MARGIN));
                Ok(())
            }
            Left::Nothing => {
                let options = DeleteOptions::with_uid(&secret.metadata.uid);
                match self.ctx.client.delete(&resources::SECRETS, &key.namespace, &key.name, &options).await {
                    // It is gone, or another one.
                    Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
                    other => other,
                }
            }
        }
    }
}
