//! Events of one resource to many watchers.

use std::time::Instant;

use anyhow::{anyhow, bail, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::task::JoinSet;

use super::api::{Api, each};

/// So many watchers, each of which is sent so many events.
pub struct FanOut {
    pub watchers: usize,
    pub events: usize,
}

impl FanOut {
    /// Events that all watchers together are sent in a second while objects are created; they are made from number `from` on.
    pub async fn run(&self, clients: &[Api], uri: &str, from: usize, make: fn(usize) -> Value) -> anyhow::Result<f64> {
        let Self { watchers, events: wanted } = *self;
        let mut watches = JoinSet::new();
        let list = clients[0].get(&format!("{uri}?limit=1")).await?.unwrap_or_default();
        let since = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        for i in 0..watchers {
            let uri = format!("{uri}?watch=1&resourceVersion={since}");
            let mut body = clients[i % clients.len()].open(Method::GET, &uri, &Value::Null).await?;
            watches.spawn(async move {
                let mut lines = 0;
                while lines < wanted {
                    let Some(frame) = body.frame().await else { bail!("a watch ended after {lines} events") };
                    let frame = frame.map_err(|err| anyhow!("{err}"))?;
                    lines += frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                }
                anyhow::Ok(lines)
            });
        }
        let begun = Instant::now();
        let to = uri.to_owned();
        each(clients, wanted, move |api, i| {
            let to = to.clone();
            async move { api.create(&to, &make(from + i)).await.map(drop) }
        })
        .await?;
        let mut events = 0;
        while let Some(ended) = watches.join_next().await {
            events += ended??;
        }
        ensure!(events >= watchers * wanted, "{events} events came");
        Ok(events as f64 / begun.elapsed().as_secs_f64())
    }
}
