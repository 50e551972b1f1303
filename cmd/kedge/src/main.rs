//! The one binary: argv to a subcommand. No logic here.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use kedge_base::Shutdown;
use kedge_cli::{Command, Kedge, ServerFlags};
use kedge_server::{Server, ServerConfig};
use tracing::{error, info};

fn main() -> ExitCode {
    let args = match kedge_cli::expand(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(err) => {
            eprintln!("error: {err}");
            return ExitCode::from(2);
        }
    };
    match run(Kedge::parse_from(args)) {
        Ok(code) => code,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(kedge: Kedge) -> anyhow::Result<ExitCode> {
    match kedge.command {
        Command::Server(flags) => {
            flags.check().map_err(anyhow::Error::msg)?;
            log_to_stderr(flags.debug);
            runtime()?.block_on(server(*flags))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Cni => Ok(ExitCode::SUCCESS),
        Command::CheckConfig | Command::Cleanup { .. } => anyhow::bail!("not here"),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

fn log_to_stderr(debug: bool) {
    let default = if debug { "debug,h2=info,hyper=info,rustls=info,tower=info" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("KEDGE_LOG").unwrap_or_else(|_| default.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

async fn server(flags: ServerFlags) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    let node_name = flags.node_name.clone().unwrap_or_else(|| "kedge".into());
    let config = ServerConfig {
        data_dir: flags.data_dir(),
        bind_address: flags.bind_address,
        https_port: flags.https_listen_port,
        advertise_address: flags.advertise_address.unwrap_or([127, 0, 0, 1].into()),
        tls_sans: flags.tls_san.clone(),
        service_cidr: flags.service_cidr.to_string(),
        cluster_cidr: flags.cluster_cidr.to_string(),
        cluster_dns: flags.cluster_dns,
        cluster_domain: flags.cluster_domain.clone(),
        node_ports: (flags.service_node_port_range.0, flags.service_node_port_range.1),
        kubeconfig: flags.kubeconfig(),
        kubeconfig_mode: flags.write_kubeconfig_mode.0,
        node_name,
        scheduler: !flags.disable_scheduler,
        dns: flags.enabled("dns"),
    };
    let server = Server::start(config, &shutdown).await?;
    tokio::signal::ctrl_c().await?;
    info!("stopping");
    shutdown.trigger();
    server.stop().await;
    let _ = (Duration::ZERO, error!("x"));
    Ok(())
}
