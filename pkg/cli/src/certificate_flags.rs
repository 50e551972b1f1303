//! Flags of `kedge certificate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::store_flags::DataDirFlag;

/// `kedge certificate`.
#[derive(Debug, Args)]
pub struct CertificateFlags {
    #[command(subcommand)]
    pub command: CertificateCommand,
    #[command(flatten)]
    pub data_dir: DataDirFlag,
}

/// What to do with the certificates of a server.
#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Show them, and until when they are good.
    Check {
        #[command(flatten)]
        services: ServiceFlags,
        /// text, table or json.
        #[arg(long, short = 'o', default_value = "text", value_parser = ["text", "table", "json"])]
        output: String,
    },
    /// Renew them now: the server that runs uses the new ones at once, or the next one issues them.
    Rotate {
        #[command(flatten)]
        services: ServiceFlags,
    },
    /// Put other authorities in the place of the cluster's on the running server; all servers use them when they are started again.
    RotateCa {
        #[command(flatten)]
        authorities: AuthorityFlags,
    },
}

/// Whence other authorities.
#[derive(Debug, Args)]
pub struct AuthorityFlags {
    /// The directory, or the one with tls in it, where they are: any of server-ca, client-ca, request-header-ca and etcd-client-ca
    /// as .crt and .key (PKCS#8), and service.key [default: new ones are made, which those that there are certify]
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Take them also when who trusts the authorities that there are cannot believe them.
    #[arg(long)]
    pub force: bool,
}

/// Whose certificates.
#[derive(Debug, Args)]
pub struct ServiceFlags {
    /// Only those of admin, api-server, auth-proxy, etcd or kubelet; may be given several times [default: all]
    #[arg(long, short = 's', value_delimiter = ',', value_name = "SERVICE")]
    pub service: Vec<String>,
}
