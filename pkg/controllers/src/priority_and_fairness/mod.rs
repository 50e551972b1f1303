//! API priority and fairness: the default priority levels and flow schemas are there, and each flow schema says whether its
//! priority level is.
//!
//! A part of the API server rather than of the controller manager: requests are classified by what it keeps, also where
//! no controllers run.

mod defaults;
mod types;

use std::sync::Arc;

use kedge_base::{SharedClock, TaskGroup};
use kedge_client::{Client, Error, Informer, Keyed, ListParams, WorkQueue, run_workers};
use kedge_meta::{ObjectKey, resources};
use serde_json::{Value, json};

use crate::context::ignore_not_found;
use crate::objects::{Condition, Meta};
pub use defaults::ensure;
use types::{FlowSchema, PriorityLevel};

/// Who owns the conditions, as upstream.
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
const DANGLING: &str = "Dangling";
/// So many share one write to the disk when a cluster begins.
const WORKERS: usize = 8;

struct Controller {
    client: Client,
    clock: SharedClock,
    schemas: Informer<FlowSchema>,
    levels: Informer<PriorityLevel>,
    defaults: Vec<Value>,
}

/// Keeps `defaults`, and the conditions of all flow schemas.
pub fn start(client: &Client, clock: &SharedClock, tasks: &TaskGroup, defaults: Vec<Value>) {
    let schemas = Informer::start(client, tasks, &resources::FLOW_SCHEMAS, ListParams::default());
    let levels = Informer::start(client, tasks, &resources::PRIORITY_LEVEL_CONFIGURATIONS, ListParams::default());
    let controller = Arc::new(Controller { client: client.clone(), clock: clock.clone(), schemas, levels, defaults });
    let queue: WorkQueue<ObjectKey> = WorkQueue::new(clock.clone(), tasks);
    let q = queue.clone();
    controller.schemas.on_change(move |change| q.add(change.key()));
    let (q, schemas) = (queue.clone(), controller.schemas.clone());
    controller.levels.on_change(move |change| {
        let level = change.key().name;
        // Of a level itself there is only to say whether it is there.
        q.add(ObjectKey::new(LEVEL, level.clone()));
        let about = schemas.list().into_iter().filter(|schema| schema.spec.priority_level_configuration.name == level);
        about.for_each(|schema| q.add(ObjectKey::new("", schema.metadata().name.clone())));
    });
    let group = tasks.clone();
    tasks.spawn_until_shutdown("priority-and-fairness", async move {
        controller.schemas.synced().await;
        controller.levels.synced().await;
        run_workers("priority-and-fairness", &queue, &group, WORKERS, move |key: ObjectKey| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        });
    });
}

/// Stands for the namespace, which none of these have, of keys that are about priority levels.
const LEVEL: &str = "prioritylevelconfigurations";

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Error> {
        let is_level = key.namespace == LEVEL;
        let resource = if is_level { &resources::PRIORITY_LEVEL_CONFIGURATIONS } else { &resources::FLOW_SCHEMAS };
        let is_it = |object: &&Value| object["kind"] == *resource.kind && object["metadata"]["name"] == *key.name;
        if let Some(wanted) = self.defaults.iter().find(is_it) {
            defaults::ensure_one(&self.client, wanted).await?;
        }
        if is_level { Ok(()) } else { self.tell(&key.name).await }
    }

    /// Says of a flow schema whether its priority level is there.
    async fn tell(&self, name: &str) -> Result<(), Error> {
        let Some(schema) = self.schemas.get("", name) else { return Ok(()) };
        let level = &schema.spec.priority_level_configuration.name;
        let wanted = dangling(level, self.levels.get("", level).is_some());
        let told = schema.status.conditions.iter().find(|condition| condition.kind == DANGLING);
        if told.is_some_and(|told| says(told) == says(&wanted)) {
            return Ok(());
        }
        let resource = &resources::FLOW_SCHEMAS;
        let object = json!({
            "apiVersion": resource.api_version(),
            "kind": resource.kind,
            "metadata": { "name": name, "uid": schema.metadata.uid },
            "status": { "conditions": [{
                "type": DANGLING,
                "status": wanted.status,
                "lastTransitionTime": kedge_base::time::rfc3339(self.clock.now()),
                "reason": wanted.reason,
                "message": wanted.message,
            }] },
        });
        let applied = self.client.apply(resource, name, &object, Some("status"), CONSUMER).await;
        ignore_not_found(applied.map(|_: Meta| ()))
    }
}

fn says(condition: &Condition) -> (&str, &str, &str) {
    (&condition.status, &condition.reason, &condition.message)
}

/// What is said of a schema that names a level, in upstream's words.
fn dangling(level: &str, is_there: bool) -> Condition {
    let (status, reason, rest) = if is_there {
        ("False", "Found", "and it exists")
    } else {
        ("True", "NotFound", "but there is no such object")
    };
    Condition {
        kind: DANGLING.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {rest}"),
        ..Condition::default()
    }
}
