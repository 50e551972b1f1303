//! The command about bootstrap tokens: flags in, text out.

use std::process::ExitCode;

use kedge_base::system_clock;
use kedge_cli::{TokenCommand, TokenCommandFlags};
use kedge_server::commands::{self, NewToken};

const ROTATING: &str = "WARNING: Recommended to keep a record of the old token. If restoring from a snapshot, you must use the \
    token associated with that snapshot.";

/// `kedge token`.
pub async fn token(flags: TokenCommandFlags) -> anyhow::Result<ExitCode> {
    let kubeconfig = flags.server.kubeconfig.unwrap_or_else(|| commands::own_kubeconfig(&flags.data_dir.path()));
    let now = system_clock().now();
    match flags.command {
        TokenCommand::Create { token, description, groups, ttl, usages } => {
            let new = NewToken { token, description, groups, ttl, usages };
            println!("{}", commands::create_token(&kubeconfig, &new, now).await?);
        }
        TokenCommand::Delete { tokens } => {
            for token in tokens {
                println!("bootstrap token {:?} deleted", commands::delete_token(&kubeconfig, &token).await?);
            }
        }
        TokenCommand::Rotate { token, new_token } => {
            println!("{ROTATING}");
            commands::rotate_token(&kubeconfig, token.as_deref(), new_token.as_deref()).await?;
            println!("Token rotated, restart kedge nodes with new token");
        }
        TokenCommand::Generate => println!("{}", commands::generate_token()),
        TokenCommand::List { output } => {
            let (tokens, others) = commands::list_tokens(&kubeconfig).await?;
            others.iter().for_each(|why| eprintln!("{why}"));
            print!("{}", commands::describe_tokens(&tokens, &output, now)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
