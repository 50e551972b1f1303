//! What a test works with: a client and a namespace of its own.

use std::time::Duration;

use anyhow::bail;
use kedge_base::{random, system_clock};
use kedge_client::{Client, DeleteOptions, Error};
use kedge_meta::resources;
use serde_json::{Value, json};

/// How long a state may take to come about.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client and a namespace.
#[derive(Clone)]
pub struct TestContext {
    pub client: Client,
    pub namespace: String,
}

impl TestContext {
    /// Makes the namespace.
    pub async fn new(client: Client) -> Result<Self, Error> {
        let namespace = format!("conformance-{}", random::name_suffix(6));
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        let _: Value = client.create(&resources::NAMESPACES, "", &object).await?;
        Ok(Self { client, namespace })
    }

    /// Deletes the namespace; a failure is said and does not hide the test's own outcome.
    pub async fn clean_up(&self) {
        let deleted = self.client.delete(&resources::NAMESPACES, "", &self.namespace, &DeleteOptions::default()).await;
        if let Err(err) = deleted.or_else(|err| if err.is_not_found() { Ok(()) } else { Err(err) }) {
            eprintln!("namespace {} is left: {err}", self.namespace);
        }
    }

    /// Waits until `state` gives something.
    pub async fn eventually<T, F>(&self, what: &str, mut state: impl FnMut() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<Option<T>>>,
    {
        let clock = system_clock();
        let start = clock.monotonic();
        loop {
            if let Some(value) = state().await? {
                return Ok(value);
            }
            if clock.monotonic() - start > PATIENCE {
                bail!("{what} did not come about");
            }
            clock.sleep(Duration::from_millis(100)).await;
        }
    }
}
