//! Streams and watches that are cut off by the hundred.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::node;
use super::workers::Tools;

const STREAMS: u64 = 100;
const WATCHES: usize = 1_000;
/// Connections that carry the watches; each may have 250.
const CONNECTIONS: usize = 10;

pub async fn run(tools: &Tools, node: bool) -> anyhow::Result<()> {
    println!("\n{STREAMS} exec sessions and as many port-forwards cut off, {WATCHES} watches opened and dropped");
    if node {
        for i in 0..STREAMS {
            node::cut_exec(tools, i).await?;
            node::cut_port_forward(tools, i).await?;
        }
    }
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| tools.connect()).collect::<anyhow::Result<_>>()?;
    let mut open = Vec::new();
    for i in 0..WATCHES {
        let resource = ["pods", "configmaps", "events", "services"][i % 4];
        let uri = format!("/api/v1/{resource}?watch=true&allowWatchBookmarks=true");
        open.push(clients[i % CONNECTIONS].open(Method::GET, &uri, &Value::Null).await?);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Half of them one by one, the others with their connections.
    open.truncate(WATCHES / 2);
    drop(clients);
    drop(open);
    Ok(())
}
