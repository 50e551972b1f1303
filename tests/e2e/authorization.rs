//! Who may do what: every route and verb that there is, asked by every kind of user with real credentials.
//!
//! The table was written with `cargo xtask authorization --kubeconfig FILE --write tests/authorization/matrix.txt` and compared with
//! that of a stock kube-apiserver v1.36.2 (`--peer FILE`): `xtask/src/authorization/data/accepted.txt` says where they differ, and why. A route that is new needs rows.

use std::collections::BTreeSet;

use xtask::authorization::Table;

use crate::support::TestCluster;

const MATRIX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/authorization/matrix.txt");
/// Routes without a row, a line each: there should be none.
const UNCOVERED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/authorization/uncovered.txt");
/// What does not show by its answer that it was allowed to who may do everything, a line each.
const UNCLEAR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/authorization/unclear.txt");

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn every_route_asks_who_may_use_it() {
    let cluster = TestCluster::control_plane();
    let asked = xtask::authorization::ask(&cluster.kubeconfig()).unwrap();
    let expected = Table::parse(&std::fs::read_to_string(MATRIX).unwrap()).unwrap();
    assert_eq!(asked.unknown, Vec::<String>::new(), "controllers that the table does not know");
    assert!(asked.requests > 50_000, "{} requests", asked.requests);

    let rows = |table: &Table| -> BTreeSet<String> {
        table.0.keys().map(|key| format!("{} {}", key.place, key.verb)).collect()
    };
    let (there, known) = (rows(&asked.table), rows(&expected));
    let uncovered: BTreeSet<String> = there.difference(&known).cloned().collect();
    assert_eq!(uncovered, lines(&std::fs::read_to_string(UNCOVERED).unwrap()), "routes without a row");
    let gone: Vec<&String> = known.difference(&there).collect();
    assert!(gone.is_empty(), "rows without a route: {gone:#?}");

    let differences = asked.table.differences(&expected);
    assert!(
        differences.is_empty(),
        "{} rows differ from what is expected:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(!asked.table.0.values().any(|cells| cells.0.contains(&b'X')), "failures of the server");
    let unclear: BTreeSet<String> =
        asked.unclear.iter().map(|(key, code)| format!("{code} {} {}", key.place, key.verb)).collect();
    assert_eq!(unclear, lines(&std::fs::read_to_string(UNCLEAR).unwrap()), "answers to who may do everything");
}
