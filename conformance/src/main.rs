//! A conformance suite of our own, runnable against any cluster: `kedge-conformance <kubeconfig> [part of a name]`.
//!
//! Tests are filed by area as upstream's are. Each works in a namespace of its own, which is deleted afterwards; the
//! report has one line a test, and the exit code says whether all passed.

mod areas;
mod context;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use kedge_client::Client;

use crate::context::TestContext;

fn main() -> anyhow::Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let kubeconfig: PathBuf = args.next().context("usage: kedge-conformance <kubeconfig> [part of a name]")?.into();
    let only = args.next().unwrap_or_default();
    let client = Client::from_kubeconfig(&kubeconfig)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(client, &only))
}

async fn run(client: Client, only: &str) -> anyhow::Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for test in areas::all().into_iter().filter(|t| t.name.contains(only)) {
        let context = TestContext::new(client.clone()).await?;
        let outcome = (test.run)(context.clone()).await;
        context.clean_up().await;
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("ok      {}", test.name);
            }
            Err(err) => {
                failed += 1;
                println!("FAILED  {}: {err:#}", test.name);
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
