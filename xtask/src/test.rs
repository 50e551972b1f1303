//! All tests.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use crate::tools;

/// Where the operator of the tests is built.
const OPERATOR_DIR: &str = "target/operator";

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command.current_dir(tools::root()).args(["test", "--workspace", "--no-fail-fast"]);
    if tools::is_root() {
        tools::install_tests()?;
        let kubectl = tools::kubectl()?;
        command.env("KEDGE_TEST_ETCD_DIR", tools::etcd()?);
        build_binary()?;
        command.env("KEDGE_TEST_OPERATOR", operator()?);
        command.env("KEDGE_TEST_KUBECTL", kubectl).env("KEDGE_TEST_BINARY", tools::root().join("target/debug/kedge"));
    } else {
        println!("not root: leaving out the end-to-end tests, and those of the packet filter and of pod networks");
        command.args(["--exclude", "kedge-tests"]);
    }
    command.args(args);
    ensure!(command.status()?.success(), "tests failed");
    Ok(())
}

fn build_binary() -> anyhow::Result<()> {
    let status = Command::new("cargo").current_dir(tools::root()).args(["build", "-p", "kedge"]).status()?;
    ensure!(status.success(), "the binary does not build");
    Ok(())
}

/// Builds the operator that tests run. It has dependencies of its own, which must not change the features of the product's.
fn operator() -> anyhow::Result<PathBuf> {
    let args = ["build", "--locked", "--manifest-path", "tests/operator/Cargo.toml", "--target-dir", OPERATOR_DIR];
    let status = Command::new("cargo").current_dir(tools::root()).args(args).status()?;
    ensure!(status.success(), "the operator of the tests does not build");
    Ok(tools::root().join(OPERATOR_DIR).join("debug/kedge-test-operator"))
}
