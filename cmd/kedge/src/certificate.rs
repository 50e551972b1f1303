//! `kedge certificate`: flags in, text out.

use std::process::ExitCode;

use kedge_cli::{CertificateCommand, CertificateFlags};
use kedge_server::commands;

/// Runs a command about certificates.
pub async fn run(flags: CertificateFlags) -> anyhow::Result<ExitCode> {
    let data_dir = flags.data_dir.path();
    match flags.command {
        CertificateCommand::Check { services, output } => {
            let listed = commands::check_certificates(&data_dir, &services.service)?;
            match output.as_str() {
                "json" => println!("{}", commands::certificate_json(&listed)),
                "table" => print!("{}", commands::certificate_table(&listed)),
                _ => print!("{}", commands::certificate_lines(&listed)),
            }
        }
        CertificateCommand::Rotate { services } => {
            let rotated = commands::rotate_certificates(&data_dir, &services.service).await?;
            rotated.files.iter().for_each(|file| println!("rotated {file}"));
            println!("the certificates before are in {}", rotated.backup.display());
            if rotated.in_use {
                println!("the server uses the new ones");
            } else {
                println!("no server runs here: the next one issues the new ones when it starts");
            }
        }
        CertificateCommand::RotateCa { authorities } => {
            let files = commands::rotate_authorities(&data_dir, authorities.path.as_deref(), authorities.force).await?;
            files.iter().for_each(|file| println!("replaced {file}"));
            println!("restart kedge on all servers, then on all nodes, so that they use the new ones");
        }
    }
    Ok(ExitCode::SUCCESS)
}
