//! Why a server could not start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A failed start. The text says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the data directory {path}: {source}; choose another one with --data-dir")]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error(
        "cannot listen on {address}: {source}; stop what uses the port or choose another one with --https-listen-port"
    )]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Kv(#[from] kedge_kv::Error),
    #[error(transparent)]
    Datastore(#[from] kedge_datastore::Error),
    #[error("cannot {action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the token cannot be used: {0}")]
    Token(&'static str),
    #[error(
        "the store belongs to a cluster with another token; give that cluster's token with --token or --token-file (it is in server/token of its first server)"
    )]
    WrongToken,
    #[error("the cluster's identity in the store cannot be used: {0}")]
    Identity(String),
    #[error("--kube-apiserver-arg: {0}")]
    Admission(#[from] kedge_admission::UnknownPlugin),
    #[error("--kube-apiserver-arg {0}")]
    Setting(String),
    #[error("encryption of secrets: {0}")]
    Encryption(String),
    #[error("--etcd-snapshot-schedule-cron {0:?}: {1}")]
    Schedule(String, kedge_controllers::ScheduleError),
    #[error(
        "--etcd-snapshot-schedule-cron {0:?} names no time that will come; give another one, or --etcd-disable-snapshots"
    )]
    NoTime(String),
    #[error("--etcd-listen {0}: {1}")]
    EtcdListen(String, String),
    #[error(transparent)]
    Storage(#[from] kedge_storage::Error),
    #[error(transparent)]
    Certificates(#[from] kedge_certs::Error),
    #[error(transparent)]
    Rotation(#[from] kedge_certs::rotation::RotationError),
    #[error("{0}")]
    Waiting(&'static str),
    #[error("cannot set up authentication: {0}")]
    Authentication(String),
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    #[error("cannot create what a new cluster starts with ({what}): {source}")]
    Bootstrap { what: String, source: kedge_client::Error },
    #[error(
        "this cluster was begun with other addresses of services: its service {service} has {existing}, {flag} says {wanted}; start with what it was begun with"
    )]
    Address { service: &'static str, existing: String, flag: String, wanted: IpAddr },
    #[error("the definitions of custom resources cannot be read: {0}")]
    Definitions(String),
    #[error("a built-in manifest is damaged ({name}): {what}")]
    Manifest { name: String, what: String },
}
