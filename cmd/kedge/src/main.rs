//! The one binary: argv to a subcommand. No logic here.

mod assemble;
mod certificate;
mod store;
mod token;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use kedge_agent::host;
use kedge_cli::{Command, Kedge};
use kedge_nft::NftCommand;

/// It gives back what is not used any more; its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long threads may linger at the end.
const LINGER: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    // The container runtime calls this binary by the names of the plug-ins.
    let invoked_as = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if matches!(invoked_as.file_name().and_then(|n| n.to_str()), Some(kedge_cni::PLUGIN | "loopback")) {
        return plugin();
    }
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
            eprintln!("error: {}", explain(&err));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each said once.
fn explain(err: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in err.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{cause}");
        }
    }
    text
}

fn plugin() -> ExitCode {
    ExitCode::from(u8::try_from(kedge_cni::main_from_env()).unwrap_or(1))
}

fn run(kedge: Kedge) -> anyhow::Result<ExitCode> {
    match kedge.command {
        Command::Server(flags) => {
            flags.check().map_err(anyhow::Error::msg)?;
            log_to_stderr(flags.debug);
            if let Some(snapshot) = &flags.cluster_reset_restore_path {
                return store::reset(&flags, snapshot);
            }
            let runtime = runtime()?;
            let ended = runtime.block_on(assemble::server(*flags));
            // Everything has been closed; a thread that still waits for some program need not hold up the end.
            runtime.shutdown_timeout(LINGER);
            ended.map(|()| ExitCode::SUCCESS)
        }
        Command::EtcdSnapshot(flags) => runtime()?.block_on(store::snapshot(flags)),
        Command::SecretsEncrypt(flags) => runtime()?.block_on(store::encryption(flags)),
        Command::Certificate(flags) => runtime()?.block_on(certificate::run(flags)),
        Command::Store(flags) => runtime()?.block_on(store::store(flags)),
        Command::Token(flags) => runtime()?.block_on(token::token(flags)),
        Command::Cni => Ok(plugin()),
        Command::CheckConfig => Ok(check_config()),
        Command::Cleanup { data_dir } => {
            let data_dir = data_dir.unwrap_or_else(kedge_cli::default_data_dir);
            runtime()?.block_on(cleanup(&data_dir))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

fn log_to_stderr(debug: bool) {
    let default = if debug { "debug,h2=info,hyper=info,rustls=info,tower=info" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("KEDGE_LOG").unwrap_or_else(|_| default.into());
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        .init();
}

fn check_config() -> ExitCode {
    let mut missing = false;
    for (program, package) in host::NEEDED {
        match host::find_program(program) {
            Some(path) => println!("{program}: {}", path.display()),
            None => {
                missing = true;
                println!("{program}: missing; install the package {package}");
            }
        }
    }
    if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Takes back what a node has put into the kernel.
async fn cleanup(data_dir: &Path) -> anyhow::Result<()> {
    let nft = NftCommand::new();
    kedge_proxy::cleanup(&nft).await.context("cannot remove the service table")?;
    kedge_cni::cleanup(data_dir, &nft).await.context("cannot remove the pod network")
}
