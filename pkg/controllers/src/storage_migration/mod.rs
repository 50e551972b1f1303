//! Migrations of storage versions: all objects of a resource are written again, each as it is, so that the store holds them in the version,
//! and under the key, in which it would write them now.
//!
//! Of the migrations of one resource one runs at a time, the oldest first. It says so, takes note of the version that the resource has, writes
//! every object that was last changed before that, and says what came of it; the definition of a custom resource then forgets the versions that
//! are no longer stored. Each of these is a step of its own, made from what the migration says, so that one that is cut off goes on.
//! Invariant: an object that somebody changes or deletes meanwhile is left alone: it has been written by them.

mod migrate;
mod plan;

use std::sync::Arc;

use kedge_base::time::rfc3339;
use kedge_client::{Error, Informer};
use kedge_meta::{ObjectMeta, resources};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::context::{Context, ignore_not_found};
use crate::objects::{Condition, condition, keyed, nullable};
use migrate::Migrated;
use plan::{Action, plan};

/// As upstream.
const WORKERS: usize = 5;
/// How often a definition is tried that others write at the same time.
const ATTEMPTS: u32 = 5;

/// A request to migrate a resource.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Migration {
    metadata: ObjectMeta,
    spec: Spec,
    #[serde(deserialize_with = "nullable")]
    status: Status,
}
keyed!(Migration);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    resource: GroupResource,
}

#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(default)]
struct GroupResource {
    group: String,
    resource: String,
}

impl std::fmt::Display for GroupResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() { f.write_str(&self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    resource_version: String,
}

impl Migration {
    fn is(&self, kind: &str) -> bool {
        condition(&self.status.conditions, kind).is_some_and(Condition::is_true)
    }

    fn is_over(&self) -> bool {
        self.is("Succeeded") || self.is("Failed")
    }
}

struct Controller {
    ctx: Context,
    migrations: Informer<Migration>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let migrations: Informer<Migration> = ctx.informer(&resources::STORAGE_VERSION_MIGRATIONS);
    let queue = ctx.queue::<GroupResource>();
    let waiting = queue.clone();
    migrations.on_change(move |change| {
        for migration in change.old.iter().chain(&change.new) {
            waiting.add(migration.spec.resource.clone());
        }
    });
    let controller = Arc::new(Controller { ctx: ctx.clone(), migrations: migrations.clone() });
    let synced = async move { migrations.synced().await };
    ctx.work("storage-version-migrator", &queue, WORKERS, synced, controller, |c, resource| async move {
        c.reconcile(&resource).await
    });
}

impl Controller {
    async fn reconcile(&self, resource: &GroupResource) -> Result<(), Error> {
        let all: Vec<Arc<Migration>> =
            self.migrations.list().into_iter().filter(|m| m.spec.resource == *resource).collect();
        for action in plan(&all) {
            match action {
                Action::CleanUp(migration) => self.clean_up(migration).await?,
                Action::Begin(migration) => self.begin(migration).await?,
                Action::Mark(migration) => self.mark(migration).await?,
                Action::Migrate(migration) => self.migrate(migration).await?,
            }
        }
        Ok(())
    }

    /// Says of a migration, and of the definition that it is about, that it runs.
    async fn begin(&self, migration: &Migration) -> Result<(), Error> {
        let name = &migration.metadata.name;
        let message = format!("Migration {name} is running");
        self.define(&migration.spec.resource, |definition| {
            self.migrating(definition, true, "MigrationRunning", &message)
        })
        .await?;
        info!(migration = name, resource = %migration.spec.resource, "a migration of the storage version begins");
        self.say(migration, condition_of("Running", true, "MigrationRunning", "The migration is running")).await
    }

    /// Takes note of the version that the resource has: what is changed later is written anew without us.
    async fn mark(&self, migration: &Migration) -> Result<(), Error> {
        match migrate::newest(&self.ctx, migration).await? {
            Ok(version) => self.update(migration, |status| status["resourceVersion"] = version.into()).await,
            Err(why) => self.fail(migration, why).await,
        }
    }

    async fn migrate(&self, migration: &Migration) -> Result<(), Error> {
        let goes_on = || self.migrations.get("", &migration.metadata.name).is_some();
        match migrate::all(&self.ctx, migration, goes_on).await? {
            Migrated::All(count) => {
                info!(migration = migration.metadata.name, objects = count, "a storage version has been migrated");
                self.say(migration, condition_of("Succeeded", true, "StorageVersionMigrationSucceeded", "")).await
            }
            Migrated::Failed(why) => {
                self.fail(migration, format!("migration encountered unhandled error: {why}")).await
            }
            Migrated::GivenUp => Ok(()),
        }
    }

    async fn fail(&self, migration: &Migration, why: String) -> Result<(), Error> {
        warn!(migration = migration.metadata.name, why, "a migration of the storage version has failed");
        self.say(migration, condition_of("Failed", true, "StorageVersionMigrationFailed", &why)).await
    }

    /// Says that a migration runs no more. If all objects are in the version that is stored now, and that is the one of then, the definition
    /// forgets the others.
    async fn clean_up(&self, migration: &Migration) -> Result<(), Error> {
        let succeeded = migration.is("Succeeded");
        self.define(&migration.spec.resource, |definition| {
            let (same, stored) = plan::stored(definition);
            let (reason, message) = match (succeeded, same) {
                (true, true) => {
                    ("MigrationSucceeded", "The migration has succeeded and the stored versions have been updated")
                }
                (true, false) => (
                    "MigrationSucceeded",
                    "The migration has succeeded but the stored versions have not been updated due to a generation mismatch",
                ),
                (false, _) => ("MigrationFailed", "The migration has failed"),
            };
            let mut definition = self.migrating(definition, false, reason, message);
            // Upstream forgets them after a failure too, and then cannot read what is left of them.
            if succeeded && same {
                definition["status"]["storedVersions"] = json!([stored]);
            }
            definition
        })
        .await?;
        self.say(migration, condition_of("Running", false, "MigrationCompleted", "Migration completed")).await
    }

    /// A definition with what is said of its migration.
    fn migrating(&self, definition: &Value, runs: bool, reason: &str, message: &str) -> Value {
        let mut definition = definition.clone();
        let mut said = condition_of("StorageMigrating", runs, reason, message);
        said["observedGeneration"] = definition["metadata"]["generation"].clone();
        plan::put(&mut definition, said, &rfc3339(self.ctx.clock.now()));
        definition
    }

    /// Writes the status of the definition of a custom resource; of others there is none.
    async fn define(&self, resource: &GroupResource, change: impl Fn(&Value) -> Value) -> Result<(), Error> {
        let (name, kind) = (resource.to_string(), &resources::CUSTOM_RESOURCE_DEFINITIONS);
        if resource.group.is_empty() {
            return Ok(());
        }
        for attempt in 1.. {
            let definition: Value = match self.ctx.client.get(kind, "", &name).await {
                Ok(definition) => definition,
                Err(err) if err.is_not_found() => return Ok(()),
                Err(err) => return Err(err),
            };
            let changed = change(&definition);
            match self.ctx.client.update_status::<Value>(kind, "", &name, &changed).await {
                Err(err) if err.is_conflict() && attempt < ATTEMPTS => {}
                other => return ignore_not_found(other.map(drop)),
            }
        }
        Ok(())
    }

    async fn say(&self, migration: &Migration, said: Value) -> Result<(), Error> {
        let now = rfc3339(self.ctx.clock.now());
        self.update(migration, move |status| {
            let mut whole = json!({ "status": status.clone() });
            plan::put(&mut whole, said.clone(), &now);
            *status = whole["status"].take();
        })
        .await
    }

    /// Writes the status of a migration that is still as it is known here.
    async fn update(&self, migration: &Migration, change: impl FnOnce(&mut Value)) -> Result<(), Error> {
        let (name, kind) = (&migration.metadata.name, &resources::STORAGE_VERSION_MIGRATIONS);
        let mut current: Value = match self.ctx.client.get(kind, "", name).await {
            Ok(current) => current,
            Err(err) if err.is_not_found() => return Ok(()),
            Err(err) => return Err(err),
        };
        // Another one of that name is another's business, and comes up by itself.
        if current["metadata"]["uid"] != *migration.metadata.uid {
            return Ok(());
        }
        if !current["status"].is_object() {
            current["status"] = json!({});
        }
        change(&mut current["status"]);
        ignore_not_found(self.ctx.client.update_status::<Value>(kind, "", name, &current).await.map(drop))
    }
}

fn condition_of(kind: &str, holds: bool, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": if holds { "True" } else { "False" }, "reason": reason, "message": message})
}
