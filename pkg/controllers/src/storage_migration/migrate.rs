//! Writes the objects of a resource again, page by page, some at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kedge_client::{Discovered, Error, ListParams, Patch};
use kedge_meta::{Reason, Resource};
use serde_json::json;
use tracing::debug;

use super::Migration;
use crate::context::Context;
use crate::objects::Meta;

/// Objects that are listed at a time.
const PAGE: u64 = 500;
/// Objects that are written at a time: so many share one write to the disk, and others get their turn.
const AT_A_TIME: usize = 8;
/// A resource that is not found may still come, for so long after the migration was asked for.
const COMING: Duration = Duration::from_secs(60);
/// As upstream.
const VERBS: [&str; 3] = ["update", "patch", "list"];
/// No namespace has such a name, so that a list of it has a version and no objects.
const NOWHERE: &str = "@fake:svm_ns!";

/// What came of a migration.
pub(super) enum Migrated {
    /// So many objects were looked at.
    All(usize),
    Failed(String),
    /// It was deleted.
    GivenUp,
}

fn found(ctx: &Context, migration: &Migration) -> Option<Discovered> {
    let wanted = &migration.spec.resource;
    let all = ctx.discovery.current()?;
    let is = |d: &&Discovered| d.resource.group == *wanted.group && d.resource.plural == *wanted.resource;
    all.resources.iter().find(is).cloned()
}

/// The resource of a migration, or why there is none.
///
/// # Errors
/// When there may be one in a moment.
fn resource(ctx: &Context, migration: &Migration, missing: &str) -> Result<Result<Discovered, String>, Error> {
    if let Some(found) = found(ctx, migration) {
        return Ok(Ok(found));
    }
    let created = migration.metadata.creation_timestamp.as_deref().and_then(|text| kedge_base::time::parse(text).ok());
    let age = created.map(|created| ctx.clock.now().duration_since(created));
    if age.is_some_and(|age| age.unsigned_abs() < COMING) {
        ctx.discovery.ask_again();
        return Err(Error::Request(format!("{} is not served yet", migration.spec.resource)));
    }
    Ok(Err(missing.to_owned()))
}

/// The version of the resource now, or why it cannot be migrated.
///
/// # Errors
/// What is worth another try.
pub(super) async fn newest(ctx: &Context, migration: &Migration) -> Result<Result<String, String>, Error> {
    let found = match resource(ctx, migration, "resource does not exist in discovery")? {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let Resource { group, version, plural, namespaced, .. } = &*found.resource;
    if !VERBS.iter().all(|verb| found.can(verb)) {
        let name = format!("{group}/{version}, Resource={plural}");
        return Ok(Err(format!("resource {name:?} does not support discovery operations: [{}]", VERBS.join(" "))));
    }
    let namespace = if *namespaced { NOWHERE } else { "" };
    let one = ListParams { limit: 1, ..ListParams::default() };
    let list = ctx.client.list::<Meta>(&found.resource, namespace, &one).await?;
    Ok(Ok(list.resource_version))
}

/// Writes all objects again that were last changed up to the version of the migration.
///
/// # Errors
/// What is worth another try: it then begins with the first object again, of which most need no writing any more.
pub(super) async fn all(ctx: &Context, migration: &Migration, goes_on: impl Fn() -> bool) -> Result<Migrated, Error> {
    let found = match resource(ctx, migration, "unable to obtain GVR from discovery")? {
        Ok(found) => found.resource,
        Err(why) => return Ok(Migrated::Failed(why)),
    };
    let Ok(until) = migration.status.resource_version.parse::<u64>() else {
        let version = &migration.status.resource_version;
        return Ok(Migrated::Failed(format!("resource version is not well formed: {version}")));
    };
    let mut page = ListParams { limit: PAGE, ..ListParams::default() };
    let count = AtomicUsize::new(0);
    loop {
        let list = match ctx.client.list::<Meta>(&found, "", &page).await {
            Ok(list) => list,
            // The list has become too old to be gone on with.
            Err(err) if err.is_gone() && !page.continue_.is_empty() => {
                page.continue_.clear();
                continue;
            }
            Err(err) => return outcome(err).map(Migrated::Failed),
        };
        if !goes_on() {
            return Ok(Migrated::GivenUp);
        }
        let old = list.items.into_iter().filter(|item| is_old(item, until));
        let each = futures::stream::iter(old).map(|item| one(ctx, &found, item, &count));
        if let Err(err) = each.buffer_unordered(AT_A_TIME).try_collect::<()>().await {
            return outcome(err).map(Migrated::Failed);
        }
        if list.continue_.is_empty() {
            return Ok(Migrated::All(count.into_inner()));
        }
        page.continue_ = list.continue_;
    }
}

/// What was changed later has been written by who changed it.
fn is_old(item: &Meta, until: u64) -> bool {
    item.metadata.resource_version.parse::<u64>().is_ok_and(|version| version <= until)
}

/// Nothing is changed, and only that very object in that very state is meant.
async fn one(ctx: &Context, resource: &Arc<Resource>, item: Meta, count: &AtomicUsize) -> Result<(), Error> {
    let metadata = &item.metadata;
    let same = json!({"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version}});
    let (namespace, name) = (metadata.namespace.as_str(), metadata.name.as_str());
    count.fetch_add(1, Ordering::Relaxed);
    match ctx.client.patch::<Meta>(resource, namespace, name, Patch::Merge(same), None).await {
        Ok(_) => Ok(()),
        Err(err) if err.is_conflict() || err.is_object_not_found(name) => {
            debug!(namespace, name, error = %err, "an object is migrated already, or gone");
            Ok(())
        }
        Err(err) => Err(err),
    }
}

/// What ends a migration, in words; all else is tried again.
fn outcome(err: Error) -> Result<String, Error> {
    const AGAIN: [Reason; 5] = [
        Reason::ServerTimeout,
        Reason::TooManyRequests,
        Reason::ServiceUnavailable,
        Reason::InternalError,
        Reason::Timeout,
    ];
    match err.status() {
        Some(status) if !AGAIN.contains(&status.reason) => Ok(status.message.clone()),
        _ => Err(err),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_meta::{GroupResource, Status};

    #[test]
    fn what_may_pass_is_tried_again() {
        assert!(outcome(Status::unavailable("later").into()).is_err());
        assert!(outcome(Status::too_many_requests("slowly", 1).into()).is_err());
        assert!(outcome(Status::internal("a bug").into()).is_err());
        assert!(outcome(Error::TooLarge(1)).is_err());
        let gone = Status::not_found(&GroupResource::new("example.com", "crontabs"), "a");
        assert_eq!(outcome(gone.into()).unwrap(), "crontabs.example.com \"a\" not found");
    }

    #[test]
    fn only_what_was_there_before_is_written() {
        let item = |version: &str| -> Meta {
            serde_json::from_value(json!({"metadata": {"name": "a", "resourceVersion": version}})).unwrap()
        };
        assert!(is_old(&item("7"), 7) && !is_old(&item("8"), 7));
    }
}
