//! The API to the letter: what a stock kube-apiserver answered to requests of all kinds, and what this one answers.
//!
//! The answers were recorded with `cargo xtask diff --peer FILE --record tests/letter/answers.z` against a kube-apiserver
//! v1.36.2 without controllers, and the places with `--places tests/letter/known.txt`.

use std::collections::BTreeSet;

use crate::support::TestCluster;

const ANSWERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/letter/answers.z");
/// Places where answers differ still, a line each: they are to be mended, and no others may come.
const KNOWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/letter/known.txt");

#[test]
fn answers_are_those_of_a_stock_server() {
    // A stock server has no metrics and no storage class of its own.
    let flags =
        ["--disable-controller-manager", "--disable-scheduler", "--disable", "dns,metrics-server,local-storage"];
    let cluster = TestCluster::control_plane_with(&flags);
    let outcome = xtask::diff::replay(&cluster.kubeconfig(), &std::fs::read(ANSWERS).unwrap()).unwrap();
    assert!(outcome.requests >= 600, "{} requests", outcome.requests);
    let known = std::fs::read_to_string(KNOWN).unwrap();
    let known: BTreeSet<&str> = known.lines().collect();
    let found = xtask::diff::places(&outcome);
    let found: BTreeSet<&str> = found.lines().collect();
    let new: Vec<String> = outcome
        .differences
        .iter()
        .flat_map(|(step, all)| all.iter().map(move |d| (format!("{step} {}", d.path), d)))
        .filter(|(place, _)| !known.contains(place.as_str()))
        .map(|(place, d)| format!("{place}\n  ours:   {}\n  theirs: {}", d.ours, d.theirs))
        .collect();
    assert!(new.is_empty(), "{} answers differ in new places:\n{}", new.len(), new.join("\n"));
    let mended: Vec<&&str> = known.difference(&found).collect();
    println!("{} of {} known places differ no more: {mended:#?}", mended.len(), known.len());
}
