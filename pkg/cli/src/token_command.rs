//! Flags of `kedge token`.

use clap::{Args, Subcommand};

use crate::store_flags::{DataDirFlag, ServerAccessFlags};

/// `kedge token`.
#[derive(Debug, Args)]
pub struct TokenCommandFlags {
    #[command(subcommand)]
    pub command: TokenCommand,
    #[command(flatten)]
    pub data_dir: DataDirFlag,
    #[command(flatten)]
    pub server: ServerAccessFlags,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a bootstrap token on the server, and print it.
    Create {
        /// The token, <id>.<secret> [default: a new one]
        #[arg(value_name = "TOKEN")]
        token: Option<String>,
        /// What it is for, for people.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
        /// Groups that whoever shows it is in, beside system:bootstrappers.
        #[arg(
            long,
            value_delimiter = ',',
            value_name = "GROUP",
            default_value = "system:bootstrappers:kedge:default-node-token"
        )]
        groups: Vec<String>,
        /// After which time it is deleted, such as 1s, 2m, 3h; 0 for never.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        ttl: String,
        /// What it can be used for: signing, authentication.
        #[arg(long, value_delimiter = ',', value_name = "USAGE", default_value = "signing,authentication",
            value_parser = ["signing", "authentication"])]
        usages: Vec<String>,
    },
    /// Delete bootstrap tokens on the server.
    Delete {
        /// Tokens, or their identities.
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
    },
    /// Print a new bootstrap token that the server does not know.
    Generate,
    /// Put another token in the place of the cluster's, with which further servers join; running ones need it at their next start.
    Rotate {
        /// The token that there is; another one is refused.
        #[arg(long, short = 't', env = "KEDGE_TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// The token that is to be [default: a new one, which is in server/token then]
        #[arg(long, value_name = "TOKEN")]
        new_token: Option<String>,
    },
    /// List the bootstrap tokens on the server.
    List {
        /// text, json or yaml.
        #[arg(long, short = 'o', default_value = "text", value_parser = ["text", "json", "yaml"])]
        output: String,
    },
}
