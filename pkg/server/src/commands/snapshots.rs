//! `kedge etcd-snapshot`.

use std::path::PathBuf;

use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt as _;
use kedge_base::system_clock;
use kedge_client::Client;
use kedge_datastore::{Layout, Saved, Snapshots};
use serde::Deserialize;
use serde_json::json;

use super::{CommandError, Reporter, own_kubeconfig};

/// A line that is longer is no answer of ours.
const MAX_LINE: usize = 64 << 10;

/// Where snapshots are saved from and to.
pub struct SnapshotCommand {
    /// That of the server to ask; none for the one on the data directory.
    pub kubeconfig: Option<PathBuf>,
    pub data_dir: PathBuf,
    /// Absolute; none for the server's, or the place in the data directory.
    pub dir: Option<PathBuf>,
    /// Part of the names; none for the server's, or that of the host.
    pub node: Option<String>,
    pub host: String,
}

impl SnapshotCommand {
    /// The directory of snapshots, as far as it can be told without a server.
    pub fn snapshots(&self) -> Snapshots {
        let dir = self.dir.clone().unwrap_or_else(|| Layout::new(&self.data_dir).snapshots());
        Snapshots::new(dir, self.node.as_ref().unwrap_or(&self.host))
    }
}

/// Saves a snapshot: by the running server, or, when none runs on the data directory, of the embedded store in it.
///
/// # Errors
/// When neither is possible; when a server that was named does not answer.
pub async fn save_snapshot(command: &SnapshotCommand, name: &str) -> Result<Saved, CommandError> {
    let kubeconfig = command.kubeconfig.clone().unwrap_or_else(|| own_kubeconfig(&command.data_dir));
    let online = match Client::from_kubeconfig(&kubeconfig) {
        Ok(client) => save_online(&client, command, name).await,
        Err(err) => Err(CommandError::Kubeconfig(err)),
    };
    let why = match online {
        Err(CommandError::Kubeconfig(err)) if command.kubeconfig.is_none() => err.to_string(),
        Err(CommandError::Client(err)) if command.kubeconfig.is_none() && err.status().is_none() => err.to_string(),
        other => return other,
    };
    let mut reporter = Reporter::default();
    let layout = Layout::new(&command.data_dir);
    let mut told = |what: &str, done: usize, total: Option<usize>| reporter.told(what, done, total);
    let saved = command.snapshots().save_offline(&layout, name, system_clock().now(), &mut told);
    saved.map_err(|err| CommandError::Neither(why, err))
}

#[derive(Deserialize)]
struct Line {
    progress: Option<String>,
    #[serde(default)]
    done: usize,
    total: Option<usize>,
    saved: Option<Saved>,
    error: Option<String>,
}

async fn save_online(client: &Client, command: &SnapshotCommand, name: &str) -> Result<Saved, CommandError> {
    let request = json!({ "name": name, "dir": command.dir, "node": command.node }).to_string();
    let opened = client.open(Method::POST, "/kedge/v1/snapshots", request.into()).await;
    let mut body = opened.map_err(CommandError::Client)?.into_body();
    let mut reporter = Reporter::default();
    let mut buffer = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| CommandError::Answer(e.to_string()))?.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line = buffer.split_to(end + 1);
            let line: Line = serde_json::from_slice(&line).map_err(|e| CommandError::Answer(e.to_string()))?;
            if let Some(saved) = line.saved {
                return Ok(saved);
            }
            if let Some(error) = line.error {
                return Err(CommandError::Refused(error));
            }
            if let Some(what) = line.progress {
                reporter.told(&what, line.done, line.total);
            }
        }
        if buffer.len() > MAX_LINE {
            return Err(CommandError::Answer("a line without end".into()));
        }
    }
    Err(CommandError::Answer("it ended before the snapshot was saved".into()))
}

/// A table of snapshots, as k3s shows them.
pub fn describe(saved: &[Saved]) -> String {
    let width = saved.iter().map(|s| s.name.len()).max().unwrap_or(0).max("Name".len());
    let row = |name: &str, size: &str, created: &str, place: &str| {
        format!("{name:width$}  {size:>10}  {created:20}  {place}\n")
    };
    let mut out = row("Name", "Size", "Created", "Location");
    for s in saved {
        let created = jiff::Timestamp::from_second(s.created).map(kedge_base::time::rfc3339).unwrap_or_default();
        out += &row(&s.name, &s.size.to_string(), &created, &format!("file://{}", s.path.display()));
    }
    out
}
