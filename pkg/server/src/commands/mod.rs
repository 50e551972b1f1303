//! What the commands about the store do, outside of a server's process.
//!
//! Where a server runs, it is asked; an embedded store that nobody has open is read directly.

mod certificates;
mod encryption;
mod shared_identity;
mod snapshots;
mod store;
mod tokens;

pub use certificates::{
    Rotated, certificate_json, certificate_lines, certificate_table, check_certificates, rotate_authorities,
    rotate_certificates,
};
pub use encryption::{change_encryption, encryption_status};
pub use snapshots::{SnapshotCommand, describe, save_snapshot};
pub use store::{MigrateCommand, inspect, migrate, restore};
pub use tokens::{
    BootstrapToken, NewToken, create_token, delete_token, describe_tokens, generate_token, list_tokens, rotate_token,
};

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(
        "cannot use the kubeconfig of a server: {0}; has one run here? name its data directory with --data-dir, or its kubeconfig with --kubeconfig"
    )]
    Kubeconfig(#[from] kedge_client::KubeconfigError),
    #[error("{0}")]
    Client(kedge_client::Error),
    #[error("no server answers ({0}), and the embedded store cannot be read either: {1}")]
    Neither(String, kedge_datastore::Error),
    #[error("the server could not save the snapshot: {0}")]
    Refused(String),
    #[error("the server's answer cannot be read: {0}")]
    Answer(String),
    #[error(transparent)]
    Datastore(#[from] kedge_datastore::Error),
    #[error(transparent)]
    Kv(#[from] kedge_kv::Error),
    #[error(
        "the authorities and encryption keys of the cluster in the etcd are sealed with its token, and {0} is not there: give the token with --token or --token-file (it is in server/token of the cluster's servers)"
    )]
    TokenOfEtcd(PathBuf),
    #[error(
        "the authorities and encryption keys of the cluster go to the etcd sealed with its token, and {0} is not there: give the token with --token or --token-file"
    )]
    TokenOfDirectory(PathBuf),
    #[error(transparent)]
    Server(#[from] crate::error::Error),
    #[error("the embedded store would not open: see what is said of {0} of its files above")]
    Damaged(usize),
    #[error("{0} is not there: has a server run here? name its data directory with --data-dir")]
    NoCertificates(PathBuf),
    #[error("{0} has none of the files of authorities, such as server-ca.crt and server-ca.key")]
    NoAuthorities(PathBuf),
    #[error("service {0} is not recognized")]
    Service(String),
    #[error("there is no store at {0}")]
    NoStore(PathBuf),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Token(String),
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

/// The administrator's kubeconfig that the server on a data directory keeps there, for these commands: whichever other one
/// is around, it is this server that is asked.
pub fn own_kubeconfig(data_dir: &Path) -> PathBuf {
    data_dir.join("server/cred/admin.kubeconfig")
}

/// Tells on stderr how far work has come: on a terminal on one line, else now and then.
#[derive(Default)]
pub(crate) struct Reporter {
    shown: usize,
    what: String,
}

impl Reporter {
    pub(crate) fn told(&mut self, what: &str, done: usize, total: Option<usize>) {
        let ended = total == Some(done);
        let step = if std::io::stderr().is_terminal() { 1_000 } else { 100_000 };
        if self.what == what && !ended && done < self.shown + step {
            return;
        }
        let terminal = std::io::stderr().is_terminal();
        let start = if terminal { "\r" } else { "" };
        let end = if terminal && !ended { "" } else { "\n" };
        match total {
            Some(total) => eprint!("{start}{done} of {total} {what}{end}"),
            None => eprint!("{start}{done} {what}{end}"),
        }
        (self.shown, self.what) = (done, what.to_owned());
    }
}

/// Collects a short answer.
pub(crate) async fn collect(response: http::Response<kedge_client::Body>) -> Result<Bytes, CommandError> {
    use http_body_util::{BodyExt as _, Limited};
    let limited = Limited::new(response.into_body(), 1 << 20);
    Ok(limited.collect().await.map_err(|e| CommandError::Answer(e.to_string()))?.to_bytes())
}
