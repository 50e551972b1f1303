//! API machinery: objects, lists, watches, namespaces.

use anyhow::{Context as _, ensure};
use kedge_client::{DeleteOptions, ListParams, Patch, WatchEvent};
use kedge_meta::resources::{CONFIG_MAPS, NAMESPACES};
use serde_json::{Value, json};

use super::Test;
use crate::context::TestContext;

pub fn tests() -> Vec<Test> {
    vec![
        Test { name: "apimachinery: an object is created, read, patched and deleted", run: |c| Box::pin(lifecycle(c)) },
        Test { name: "apimachinery: a stale update conflicts", run: |c| Box::pin(stale_update(c)) },
        Test { name: "apimachinery: a watch sees every change in order", run: |c| Box::pin(watch(c)) },
        Test { name: "apimachinery: pages of a list show one version", run: |c| Box::pin(paging(c)) },
        Test { name: "apimachinery: a deleted namespace takes its content along", run: |c| Box::pin(namespace(c)) },
    ]
}

fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": "1" } })
}

async fn lifecycle(c: TestContext) -> anyhow::Result<()> {
    let made: Value = c.client.create(&CONFIG_MAPS, &c.namespace, &config_map("x")).await?;
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        ensure!(made["metadata"][field].is_string(), "no {field}");
    }
    let twice = c.client.create::<Value>(&CONFIG_MAPS, &c.namespace, &config_map("x")).await;
    ensure!(twice.is_err_and(|e| e.is_already_exists()), "a name could be taken twice");
    let patch = Patch::Merge(json!({ "data": { "a": null, "b": "2" } }));
    let patched: Value = c.client.patch(&CONFIG_MAPS, &c.namespace, "x", patch, None).await?;
    ensure!(patched["data"] == json!({ "b": "2" }), "{patched}");
    let wrong = DeleteOptions::with_uid("another");
    let refused = c.client.delete(&CONFIG_MAPS, &c.namespace, "x", &wrong).await;
    ensure!(refused.is_err_and(|e| e.is_conflict()), "a precondition was not kept");
    c.client.delete(&CONFIG_MAPS, &c.namespace, "x", &DeleteOptions::default()).await?;
    let gone = c.client.get::<Value>(&CONFIG_MAPS, &c.namespace, "x").await;
    ensure!(gone.is_err_and(|e| e.is_not_found()), "it is still there");
    Ok(())
}

async fn stale_update(c: TestContext) -> anyhow::Result<()> {
    let first: Value = c.client.create(&CONFIG_MAPS, &c.namespace, &config_map("x")).await?;
    let mut next = first.clone();
    next["data"]["a"] = json!("2");
    let _: Value = c.client.update(&CONFIG_MAPS, &c.namespace, "x", &next).await?;
    let stale = c.client.update::<Value>(&CONFIG_MAPS, &c.namespace, "x", &first).await;
    ensure!(stale.is_err_and(|e| e.is_conflict()), "a stale update went through");
    Ok(())
}

async fn watch(c: TestContext) -> anyhow::Result<()> {
    let list = c.client.list::<Value>(&CONFIG_MAPS, &c.namespace, &ListParams::default()).await?;
    let params = ListParams::fields("metadata.name=x");
    let mut stream = c.client.watch(&CONFIG_MAPS, &c.namespace, &params, &list.resource_version).await?;
    let _: Value = c.client.create(&CONFIG_MAPS, &c.namespace, &config_map("other")).await?;
    let _: Value = c.client.create(&CONFIG_MAPS, &c.namespace, &config_map("x")).await?;
    let patch = Patch::Merge(json!({ "data": { "a": "2" } }));
    let _: Value = c.client.patch(&CONFIG_MAPS, &c.namespace, "x", patch, None).await?;
    c.client.delete(&CONFIG_MAPS, &c.namespace, "x", &DeleteOptions::default()).await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match stream.next().await.context("the watch ended")?? {
            WatchEvent::Added(_) => seen.push("added"),
            WatchEvent::Modified(_) => seen.push("modified"),
            WatchEvent::Deleted(_) => seen.push("deleted"),
            WatchEvent::Bookmark(_) => {}
        }
    }
    ensure!(seen == ["added", "modified", "deleted"], "{seen:?}");
    Ok(())
}

async fn paging(c: TestContext) -> anyhow::Result<()> {
    for i in 0..5 {
        let _: Value = c.client.create(&CONFIG_MAPS, &c.namespace, &config_map(&format!("page{i}"))).await?;
    }
    let mut params = ListParams { limit: 2, ..ListParams::fields("metadata.name!=kube-root-ca.crt") };
    let first = c.client.list::<Value>(&CONFIG_MAPS, &c.namespace, &params).await?;
    ensure!(first.items.len() == 2 && !first.continue_.is_empty(), "the first page has {} items", first.items.len());
    c.client.delete(&CONFIG_MAPS, &c.namespace, "page4", &DeleteOptions::default()).await?;
    let (version, mut count) = (first.resource_version, first.items.len());
    params.continue_ = first.continue_;
    while !params.continue_.is_empty() {
        let page = c.client.list::<Value>(&CONFIG_MAPS, &c.namespace, &params).await?;
        ensure!(page.resource_version == version, "a page shows another version");
        count += page.items.len();
        params.continue_ = page.continue_;
    }
    ensure!(count == 5, "{count} objects in all pages");
    Ok(())
}

async fn namespace(c: TestContext) -> anyhow::Result<()> {
    let _: Value = c.client.create(&CONFIG_MAPS, &c.namespace, &config_map("x")).await?;
    c.client.delete(&NAMESPACES, "", &c.namespace, &DeleteOptions::default()).await?;
    c.eventually("the end of the namespace", || async {
        match c.client.get::<Value>(&NAMESPACES, "", &c.namespace).await {
            Err(err) if err.is_not_found() => Ok(Some(())),
            Err(err) => Err(err.into()),
            Ok(_) => Ok(None),
        }
    })
    .await
}
