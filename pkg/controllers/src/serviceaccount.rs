//! A ServiceAccount `default` in every namespace that is not going away; recreated when deleted.

use std::sync::Arc;

use kedge_client::{Error, Informer, ListParams};
use kedge_meta::{ObjectKey, resources};
use serde_json::json;

use crate::context::{Context, enqueue_changes};
use crate::namespace::is_active;
use crate::objects::{Meta, Namespace};

const NAME: &str = "default";

struct Controller {
    ctx: Context,
    accounts: Informer<Meta>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let only_default = ListParams::fields(format!("metadata.name={NAME}"));
    let accounts: Informer<Meta> = Informer::start(&ctx.client, &ctx.tasks, &resources::SERVICE_ACCOUNTS, only_default);
    let queue = ctx.queue();
    enqueue_changes(&ctx.namespaces, &queue);
    let q = queue.clone();
    accounts.on_change(move |change| {
        if change.new.is_none() {
            q.add(ObjectKey::new("", change.key().namespace));
        }
    });
    let controller = Arc::new(Controller { ctx: ctx.clone(), accounts });
    let c = controller.clone();
    let synced = async move {
        c.ctx.namespaces.synced().await;
        c.accounts.synced().await;
    };
    ctx.work("serviceaccount", &queue, 1, synced, controller, |c, key| async move { c.reconcile(&key.name).await });
}

/// Whether the namespace lacks its account.
fn is_missing(namespace: Option<&Namespace>, account: Option<&Meta>) -> bool {
    account.is_none() && namespace.is_some_and(is_active)
}

impl Controller {
    async fn reconcile(&self, namespace: &str) -> Result<(), Error> {
        let found = self.ctx.namespaces.get("", namespace);
        if !is_missing(found.as_deref(), self.accounts.get(namespace, NAME).as_deref()) {
            return Ok(());
        }
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": NAME, "namespace": namespace }
        });
        tolerate_races(self.ctx.client.create(&resources::SERVICE_ACCOUNTS, namespace, &account).await)
    }
}

/// Somebody else may have created the object, or the namespace may be going away or gone: both are fine.
pub fn tolerate_races(created: Result<Meta, Error>) -> Result<(), Error> {
    match created {
        Ok(_) => Ok(()),
        Err(err) if err.is_already_exists() || err.is_not_found() || is_namespace_terminating(&err) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Whether an object was refused because its namespace is going away.
pub fn is_namespace_terminating(err: &Error) -> bool {
    let causes = err.status().and_then(|s| s.details.as_ref()).map(|d| d.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|c| c.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_active_namespaces_get_one() {
        let mut namespace = Namespace::default();
        assert!(is_missing(Some(&namespace), None));
        assert!(!is_missing(Some(&namespace), Some(&Meta::default())));
        assert!(!is_missing(None, None));
        namespace.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        assert!(!is_missing(Some(&namespace), None));
    }
}
