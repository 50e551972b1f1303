//! Repository tasks: `cargo xtask <task>`.

#![allow(clippy::disallowed_methods, reason = "these tasks measure and wait on the real clock")]

mod bench;
mod clients;
mod codegen;
mod fuzz;
mod test;
mod tidy;
mod tools;
mod up;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask up [-- FLAGS]     build, install what is missing, and run one node in the foreground
cargo xtask test              all tests; as root also the end-to-end ones
cargo xtask tidy              layers, file headers, file sizes, bans
cargo xtask bench             figures of one node
                              [--no-node] [--binary PATH] [--no-build], as for those below
cargo xtask bench store [DIR] figures of the embedded store, beside a real etcd
cargo xtask bench memory      what a load leaves in memory, each scenario on a server of its own
                              [--only churn,config-maps,collection,lists,watches] [--events 50000] [--pods 15000]
                              [--settle SECONDS] [--cgroup MIB: survive within so much]
cargo xtask bench soak        a mixed load for a while, and whether anything grows meanwhile or stays afterwards
                              --minutes N [--bursts: also streams and watches cut off by the hundred]
cargo xtask bench extension   what custom resources cost: memory, start, requests [--objects 5000]
cargo xtask bench api         what requests cost: rates, processor time, lists, watches, memory a pod, server-side apply
                              [--pods 10000] [--peer KUBECONFIG --peer-pid PID: the same to another server, and ratios]
cargo xtask clients           stock clients in Python, JavaScript and Go, and helm, against a control plane
                              [--only NAMES] [--kubeconfig FILE: of a server that runs] [--binary PATH]
cargo xtask tools             install what the tests need, and say where it is
cargo xtask codegen           write the generated tables; see --help there
cargo xtask fuzz [TARGET…]    what strangers write, made up by the million: all targets of tests/fuzz, or some, one after another
                              [--seconds 300: for each] [--addresses: look at memory as well, which is slower]
cargo xtask diff              the same requests to two servers, and how their answers differ
                              --kubeconfig FILE --peer FILE [--only PATTERN] [--record FILE: keep the peer's answers]
                              [--against RECORD: instead of a peer] [--places FILE: where answers differ]
cargo xtask authorization     every route and verb asked by every kind of user, and what two servers say differently
                              --kubeconfig FILE [--peer FILE | --expect TABLE] [--write TABLE]
cargo xtask pod-security      made-up pods, and what two servers say of them by each standard differently
                              --kubeconfig FILE --peer FILE [--seed 1] [--record FILE: keep what the peer says]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("up") => up::run(rest),
        Some("test") => test::run(rest),
        Some("tidy") => tidy::run(),
        Some("bench") => bench::run(rest),
        Some("clients") => clients::run(rest),
        Some("tools") => tools::run(),
        Some("codegen") => codegen::run(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("diff") => xtask::diff::run(rest),
        Some("pod-security") => xtask::pod_security::run(rest),
        Some("authorization") => xtask::authorization::run(rest),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("unknown task {:?}\n{USAGE}", other.unwrap_or_default())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}
