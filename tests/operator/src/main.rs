//! An operator on kube-rs, as somebody would write one for any Kubernetes: what the end-to-end tests run against Kedge.
//!
//! `kedge-test-operator KUBECONFIG run IDENTITY` works whenever it leads, until it is killed; `kedge-test-operator KUBECONFIG try` defines the
//! resource and uses it as a client with types, and fails when an answer is not as it should be.
// Clock and tasks are the library's own here.
#![allow(clippy::disallowed_methods)]

mod election;
mod fleet;
mod trial;

use anyhow::bail;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use election::Election;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::new("info,kube_runtime=debug");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [kubeconfig, "run", identity] => work(client(kubeconfig).await?, identity).await,
        [kubeconfig, "try"] => trial::run(client(kubeconfig).await?).await,
        _ => bail!("usage: kedge-test-operator KUBECONFIG run IDENTITY | kedge-test-operator KUBECONFIG try"),
    }
}

async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// What an instance does all its life.
async fn work(client: Client, identity: &str) -> anyhow::Result<()> {
    fleet::define(&client).await?;
    let mut election = Election::new(client.clone(), identity);
    loop {
        election.win().await;
        tracing::info!("leads");
        tokio::select! {
            () = election.hold() => tracing::info!("leads no longer"),
            () = fleet::run(client.clone(), identity.to_owned()) => bail!("the controller has ended"),
        }
    }
}
