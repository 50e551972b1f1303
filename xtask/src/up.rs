//! One node in the foreground.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::tools;

const READY: Duration = Duration::from_secs(120);

pub fn run(args: &[String]) -> anyhow::Result<()> {
    ensure!(
        tools::is_root(),
        "a node needs root: run `sudo cargo xtask up`, or `kedge server --disable-agent` without a node"
    );
    tools::install_node()?;
    println!("building");
    let build =
        Command::new("cargo").current_dir(tools::root()).args(["build", "--release", "-p", "kedge"]).status()?;
    ensure!(build.success(), "the build failed");
    let kubectl = tools::kubectl()?;
    let binary = tools::root().join("target/release/kedge");
    let flags: Vec<&String> = args.iter().filter(|a| *a != "--").collect();
    let mut server = Command::new(&binary).arg("server").args(&flags).spawn().context("cannot start kedge")?;
    let kubeconfig = kubeconfig(&flags);
    match wait(&mut server, &kubectl, &kubeconfig) {
        Ok(()) => {
            println!("\nThe node is ready and DNS answers. In another terminal:\n");
            println!("  export KUBECONFIG={}", kubeconfig.display());
            println!("  {} get nodes\n", kubectl.display());
            println!("Ctrl-C stops kedge; pods keep running. `{} cleanup` removes what is left.", binary.display());
        }
        Err(err) => {
            // It may have ended already, which is then the error.
            let _ = Command::new("kill").arg(server.id().to_string()).status();
            server.wait()?;
            return Err(err);
        }
    }
    // Ctrl-C reaches the server as well; it stops by itself.
    let status = server.wait()?;
    ensure!(status.success(), "kedge ended with {status}");
    Ok(())
}

fn kubeconfig(flags: &[&String]) -> PathBuf {
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        if let Some(path) = flag.strip_prefix("--write-kubeconfig=") {
            return path.into();
        }
        if matches!(flag.as_str(), "-o" | "--write-kubeconfig")
            && let Some(path) = flags.next()
        {
            return path.into();
        }
    }
    "/etc/kedge/kedge.yaml".into()
}

fn wait(server: &mut Child, kubectl: &PathBuf, kubeconfig: &PathBuf) -> anyhow::Result<()> {
    let start = Instant::now();
    let ask = |args: &[&str]| {
        let out = Command::new(kubectl).arg("--kubeconfig").arg(kubeconfig).args(args).output();
        out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
    };
    loop {
        if let Some(status) = server.try_wait()? {
            bail!("kedge ended with {status}; its messages are above");
        }
        let ready = ask(&["get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}"]);
        let selector = "kubernetes.io/service-name=kube-dns";
        let dns = ask(&["-n", "kube-system", "get", "endpointslices", "-l", selector, "-o", "name"]);
        if ready.contains("True") && !dns.is_empty() {
            return Ok(());
        }
        if start.elapsed() > READY {
            let nodes = ask(&["describe", "nodes"]);
            bail!("the node is not ready after {READY:?}:\n{nodes}");
        }
        sleep(Duration::from_millis(200));
    }
}
