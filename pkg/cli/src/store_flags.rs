//! Flags of the commands about the store.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::flags::default_data_dir;

/// Which store is used.
#[derive(Debug, Clone, Default, Args)]
pub struct DatastoreFlags {
    /// Where the cluster is kept: https://host:2379[,…] for an etcd, memory:// for nowhere [default: the embedded store]
    #[arg(
        long,
        env = "KEDGE_DATASTORE_ENDPOINT",
        value_name = "ENDPOINT",
        default_value = "",
        hide_default_value = true,
        help_heading = "Store"
    )]
    pub datastore_endpoint: String,
    /// Authority that signs the etcd's certificates.
    #[arg(long, env = "KEDGE_DATASTORE_CAFILE", value_name = "FILE", help_heading = "Store")]
    pub datastore_cafile: Option<PathBuf>,
    /// Client certificate for the etcd.
    #[arg(
        long,
        env = "KEDGE_DATASTORE_CERTFILE",
        value_name = "FILE",
        requires = "datastore_keyfile",
        help_heading = "Store"
    )]
    pub datastore_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(
        long,
        env = "KEDGE_DATASTORE_KEYFILE",
        value_name = "FILE",
        requires = "datastore_certfile",
        help_heading = "Store"
    )]
    pub datastore_keyfile: Option<PathBuf>,
}

/// The token of the cluster.
#[derive(Debug, Clone, Default, Args)]
pub struct TokenFlags {
    /// The cluster's token, which all its servers share [default: the one in server/token; a new cluster makes one]
    #[arg(long, env = "KEDGE_TOKEN", hide_env_values = true, help_heading = "Cluster")]
    pub token: Option<String>,
    /// File with the token.
    #[arg(long, env = "KEDGE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token", help_heading = "Cluster")]
    pub token_file: Option<PathBuf>,
}

impl TokenFlags {
    /// The token, from the flag or the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self) -> Result<Option<String>, String> {
        match &self.token_file {
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(err) => Err(format!("cannot read --token-file {}: {err}", path.display())),
            },
            None => Ok(self.token.clone()),
        }
    }
}

/// The data directory of a command.
#[derive(Debug, Clone, Args)]
pub struct DataDirFlag {
    /// Where data is kept [default: /var/lib/kedge, or ~/.kedge when not root]
    #[arg(long, short = 'd', env = "KEDGE_DATA_DIR", value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
}

impl DataDirFlag {
    /// The data directory, or its default.
    pub fn path(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(default_data_dir)
    }
}

/// How a running server is reached.
#[derive(Debug, Clone, Args)]
pub struct ServerAccessFlags {
    /// Administrator's kubeconfig of the server [default: /etc/kedge/kedge.yaml, or in the data directory when not root]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
}

impl ServerAccessFlags {
    /// The kubeconfig, or where a server with this data directory writes it.
    pub fn path(&self, data_dir: &std::path::Path) -> PathBuf {
        self.kubeconfig.clone().unwrap_or_else(|| match rustix::process::geteuid().is_root() {
            true => PathBuf::from("/etc/kedge/kedge.yaml"),
            false => data_dir.join("kedge.yaml"),
        })
    }
}

/// `kedge etcd-snapshot`.
#[derive(Debug, Args)]
pub struct EtcdSnapshotFlags {
    #[command(subcommand)]
    pub command: EtcdSnapshotCommand,
    #[command(flatten)]
    pub data_dir: DataDirFlag,
    #[command(flatten)]
    pub server: ServerAccessFlags,
    /// Where snapshots are kept [default: server/db/snapshots in the data directory]
    #[arg(long, visible_alias = "dir", value_name = "DIR", global = true)]
    pub etcd_snapshot_dir: Option<PathBuf>,
    /// Name of this node, which is part of the names of its snapshots [default: the host name]
    #[arg(long, env = "KEDGE_NODE_NAME", value_name = "NAME", global = true)]
    pub node_name: Option<String>,
}

/// What to do with snapshots.
#[derive(Debug, Subcommand)]
pub enum EtcdSnapshotCommand {
    /// Save a snapshot now: through the running server, or of the embedded store when none runs.
    Save {
        /// What its name begins with.
        #[arg(long, default_value = "on-demand")]
        name: String,
    },
    /// List snapshots.
    #[command(visible_alias = "list")]
    Ls {
        /// table or json.
        #[arg(long, short = 'o', default_value = "table", value_parser = ["table", "json"])]
        output: String,
    },
    /// Remove snapshots.
    Delete {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove all but the newest snapshots on schedule.
    Prune {
        /// What the names begin with.
        #[arg(long, default_value = "etcd-snapshot")]
        name: String,
        /// How many stay.
        #[arg(long, default_value_t = 5)]
        snapshot_retention: usize,
    },
}

/// `kedge secrets-encrypt`.
#[derive(Debug, Args)]
pub struct SecretsEncryptFlags {
    #[command(subcommand)]
    pub command: SecretsEncryptCommand,
    #[command(flatten)]
    pub data_dir: DataDirFlag,
    #[command(flatten)]
    pub server: ServerAccessFlags,
}

/// What to do with the encryption of secrets.
#[derive(Debug, Subcommand)]
pub enum SecretsEncryptCommand {
    /// Show how it stands.
    Status {
        /// text or json.
        #[arg(long, short = 'o', default_value = "text", value_parser = ["text", "json"])]
        output: String,
    },
    /// Encrypt all secrets, and those to come.
    Enable,
    /// Store all secrets as they are, and those to come.
    Disable,
    /// Make a new key, and encrypt all secrets with it.
    RotateKeys,
}

/// `kedge store`.
#[derive(Debug, Args)]
pub struct StoreFlags {
    #[command(subcommand)]
    pub command: StoreCommand,
    #[command(flatten)]
    pub data_dir: DataDirFlag,
}

/// What to do with the embedded store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Print what the files of the embedded store hold, and whether they are sound.
    Inspect {
        /// Every record, not only every file.
        #[arg(long)]
        records: bool,
    },
    /// Move everything between the embedded store and an etcd, with the cluster's authorities and encryption keys. No server
    /// may run. Can be run again.
    Migrate {
        /// embedded-to-etcd or etcd-to-embedded.
        #[arg(value_parser = ["embedded-to-etcd", "etcd-to-embedded"])]
        direction: String,
        #[command(flatten)]
        datastore: DatastoreFlags,
        #[command(flatten)]
        token: TokenFlags,
    },
}
