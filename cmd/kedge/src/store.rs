//! The commands about the store: flags in, text out.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use kedge_agent::host;
use kedge_cli::{
    DatastoreFlags, EtcdSnapshotCommand, EtcdSnapshotFlags, SecretsEncryptCommand, SecretsEncryptFlags, ServerFlags,
    StoreCommand, StoreFlags,
};
use kedge_server::commands::{self, MigrateCommand, SnapshotCommand};
use kedge_server::{Action, EncryptionStatus, Endpoint, Tls};

/// What the flags say of the store.
pub fn datastore(flags: &DatastoreFlags) -> anyhow::Result<(Endpoint, Tls)> {
    let tls = Tls {
        ca_file: flags.datastore_cafile.clone(),
        cert_file: flags.datastore_certfile.clone(),
        key_file: flags.datastore_keyfile.clone(),
    };
    let endpoint = flags.datastore_endpoint.parse()?;
    anyhow::ensure!(
        matches!(endpoint, Endpoint::Etcd(_)) || tls == Tls::default(),
        "--datastore-cafile, --datastore-certfile and --datastore-keyfile are for an etcd; {endpoint} has no use for them"
    );
    Ok((endpoint, tls))
}

/// `kedge server --cluster-reset`.
pub fn reset(flags: &ServerFlags, snapshot: &Path) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        datastore(&flags.datastore)?.0 == Endpoint::Embedded,
        "--cluster-reset is for the embedded store; an etcd of your own is restored with its own tools"
    );
    let restored = commands::restore(&flags.data_dir(), snapshot)?;
    println!("restored {} keys of revision {}; revisions go on at {}", restored.keys, restored.revision, restored.next);
    if let Some(previous) = restored.previous {
        println!("what was there before is in {}", previous.display());
    }
    println!("start the server again without --cluster-reset");
    Ok(ExitCode::SUCCESS)
}

/// `kedge etcd-snapshot`.
pub async fn snapshot(flags: EtcdSnapshotFlags) -> anyhow::Result<ExitCode> {
    let data_dir = flags.data_dir.path();
    let command = SnapshotCommand {
        kubeconfig: flags.server.path(&data_dir),
        data_dir,
        dir: flags.etcd_snapshot_dir,
        node: flags.node_name.unwrap_or_else(host::name),
    };
    let snapshots = command.snapshots();
    match flags.command {
        EtcdSnapshotCommand::Save { name } => {
            let saved = commands::save_snapshot(&command, &name).await?;
            println!("saved {} ({} bytes) as {}", saved.name, saved.size, saved.path.display());
        }
        EtcdSnapshotCommand::Ls { output } => match output.as_str() {
            "json" => println!("{}", serde_json::to_string(&snapshots.list()?).context("cannot print the list")?),
            _ => print!("{}", commands::describe(&snapshots.list()?)),
        },
        EtcdSnapshotCommand::Delete { names } => {
            snapshots.delete(&names)?;
            names.iter().for_each(|name| println!("deleted {name}"));
        }
        EtcdSnapshotCommand::Prune { name, snapshot_retention } => {
            let gone = snapshots.prune(&name, snapshot_retention)?;
            gone.iter().for_each(|old| println!("deleted {}", old.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `kedge secrets-encrypt`.
pub async fn encryption(flags: SecretsEncryptFlags) -> anyhow::Result<ExitCode> {
    let kubeconfig = flags.server.path(&flags.data_dir.path());
    let (action, json) = match flags.command {
        SecretsEncryptCommand::Status { output } => (None, output == "json"),
        SecretsEncryptCommand::Enable => (Some(Action::Enable), false),
        SecretsEncryptCommand::Disable => (Some(Action::Disable), false),
        SecretsEncryptCommand::RotateKeys => (Some(Action::RotateKeys), false),
    };
    let status = match action {
        None => commands::encryption_status(&kubeconfig).await?,
        Some(action) => commands::change_encryption(&kubeconfig, action).await?,
    };
    if json {
        println!("{}", serde_json::to_string(&status).context("cannot print the status")?);
    } else {
        print!("{}", describe(&status));
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(status: &EncryptionStatus) -> String {
    let mut out = format!(
        "Encryption Status: {}\nCurrent Rotation Stage: {}\n\nActive  Key Type  Name\n------  --------  ----\n",
        status.status, status.stage
    );
    for (at, key) in status.keys.iter().enumerate() {
        let active = if at == 0 && status.status == "Enabled" { "*" } else { "" };
        out += &format!("{active:6}  AES-GCM   {key}\n");
    }
    out
}

/// `kedge store`.
pub async fn store(flags: StoreFlags) -> anyhow::Result<ExitCode> {
    let data_dir = flags.data_dir.path();
    match flags.command {
        StoreCommand::Inspect { records } => commands::inspect(&data_dir, records, &mut std::io::stdout().lock())?,
        StoreCommand::Migrate { direction, datastore: flags, token } => {
            let (endpoint, tls) = datastore(&flags)?;
            let (to_etcd, token) = (direction == "embedded-to-etcd", token.read().map_err(anyhow::Error::msg)?);
            let migrated = commands::migrate(&MigrateCommand { data_dir, endpoint, tls, to_etcd, token }).await?;
            println!("{} keys are the same on both sides; {} were written", migrated.keys, migrated.written);
        }
    }
    Ok(ExitCode::SUCCESS)
}
