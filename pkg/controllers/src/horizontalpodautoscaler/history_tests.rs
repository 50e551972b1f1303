//! Cases with upstream's numbers, at a time of which nothing is known but its place.
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::json;

const NOW: Duration = Duration::from_secs(100_000);

fn ago(seconds: u64) -> Duration {
    NOW - Duration::from_secs(seconds)
}

fn behavior(up: &[(&str, i32, i32)], down: &[(&str, i32, i32)]) -> Behavior {
    let rules = |policies: &[(&str, i32, i32)]| {
        let policy =
            |(kind, value, period): &(&str, i32, i32)| json!({"type": kind, "value": value, "periodSeconds": period});
        (!policies.is_empty()).then(|| json!({"policies": policies.iter().map(policy).collect::<Vec<_>>()}))
    };
    serde_json::from_value(json!({"scaleUp": rules(up), "scaleDown": rules(down)})).unwrap()
}

/// Changes in the middle of equal parts of the last two minutes.
fn changes(pods: &[i32]) -> Vec<Change> {
    let part = 120.0 / pods.len() as f64;
    let change = |(i, pods): (usize, &i32)| {
        let seconds = 120.0 - part * (i + 1) as f64 + part / 2.0;
        Change { pods: *pods, at: ago(seconds as u64), outdated: false }
    };
    pods.iter().enumerate().map(change).collect()
}

struct Case {
    up: &'static [(&'static str, i32, i32)],
    down: &'static [(&'static str, i32, i32)],
    grown: &'static [i32],
    shrunk: &'static [i32],
    bounds: (i32, i32),
    change: (i32, i32),
    wanted: (i32, &'static str),
}

const PLAIN: Case = Case {
    up: &[],
    down: &[],
    grown: &[],
    shrunk: &[],
    bounds: (1, 1000),
    change: (1, 1),
    wanted: (1, "DesiredWithinRange"),
};

fn check(cases: &[Case]) {
    for (i, case) in cases.iter().enumerate() {
        let history = History { recommended: Vec::new(), grown: changes(case.grown), shrunk: changes(case.shrunk) };
        let behavior = behavior(case.up, case.down);
        let proposal = Proposal {
            current: case.change.0,
            desired: case.change.1,
            least: case.bounds.0,
            most: case.bounds.1,
            behavior: Some(&behavior),
            window: Duration::from_secs(300),
        };
        let (replicas, why) = history.at_rate(&proposal, &behavior, NOW);
        assert_eq!((replicas, why.0), case.wanted, "case {i}");
    }
}

#[test]
fn rules_limit_how_fast_it_goes_up() {
    check(&[
        Case { bounds: (3, 8), change: (5, 7), wanted: (7, "DesiredWithinRange"), ..PLAIN },
        Case { bounds: (1, 10), change: (20, 1000), wanted: (10, "TooManyReplicas"), ..PLAIN },
        Case { bounds: (100, 150), change: (100, 1000), wanted: (150, "TooManyReplicas"), ..PLAIN },
        Case { up: &[("Percent", 1, 60)], bounds: (1, 2000), change: (3, 1000), wanted: (4, "ScaleUpLimit"), ..PLAIN },
        Case { change: (10, 50), wanted: (20, "ScaleUpLimit"), ..PLAIN },
        Case {
            up: &[("Pods", 100, 60), ("Percent", 100, 60)],
            change: (10, 500),
            wanted: (110, "ScaleUpLimit"),
            ..PLAIN
        },
        Case { up: &[("Pods", 2, 60), ("Percent", 100, 60)], change: (10, 500), wanted: (20, "ScaleUpLimit"), ..PLAIN },
        Case { up: &[("Pods", 100, 60)], change: (10, 50), wanted: (50, "DesiredWithinRange"), ..PLAIN },
        Case { up: &[("Pods", 30, 60)], change: (10, 50), wanted: (40, "ScaleUpLimit"), ..PLAIN },
        Case { up: &[("Percent", 200, 60)], change: (10, 50), wanted: (30, "ScaleUpLimit"), ..PLAIN },
        Case {
            up: &[("Pods", 300, 60)],
            grown: &[1, 5, 9],
            bounds: (1, 200),
            change: (100, 500),
            wanted: (200, "TooManyReplicas"),
            ..PLAIN
        },
        // More was added of late than the rules of now allow.
        Case { up: &[("Pods", 5, 120)], grown: &[1, 5, 9], change: (100, 500), wanted: (100, "ScaleUpLimit"), ..PLAIN },
        Case {
            up: &[("Pods", 150, 120)],
            grown: &[1, 5, 9],
            change: (100, 500),
            wanted: (235, "ScaleUpLimit"),
            ..PLAIN
        },
        Case {
            up: &[("Percent", 200, 120)],
            grown: &[1, 5, 9],
            change: (100, 500),
            wanted: (255, "ScaleUpLimit"),
            ..PLAIN
        },
        Case {
            up: &[("Percent", 300, 300)],
            grown: &[4],
            shrunk: &[2],
            change: (6, 24),
            wanted: (16, "ScaleUpLimit"),
            ..PLAIN
        },
        Case {
            up: &[("Pods", 1000, 30), ("Percent", 100, 60)],
            grown: &[8, 12, 9, 11],
            change: (100, 200),
            wanted: (200, "DesiredWithinRange"),
            ..PLAIN
        },
    ]);
}

#[test]
fn rules_limit_how_fast_it_goes_down() {
    check(&[
        Case { bounds: (2, 8), change: (3, 1), wanted: (2, "TooFewReplicas"), ..PLAIN },
        Case { bounds: (0, 10), change: (1, 0), wanted: (0, "DesiredWithinRange"), ..PLAIN },
        Case {
            down: &[("Pods", 20, 60)],
            bounds: (3, 2000),
            change: (1000, 3),
            wanted: (980, "ScaleDownLimit"),
            ..PLAIN
        },
        Case {
            down: &[("Pods", 20, 60), ("Percent", 1, 60)],
            change: (100, 2),
            wanted: (80, "ScaleDownLimit"),
            ..PLAIN
        },
        Case {
            down: &[("Pods", 2, 60), ("Percent", 1, 60)],
            change: (100, 2),
            wanted: (98, "ScaleDownLimit"),
            ..PLAIN
        },
        Case { down: &[("Pods", 100, 60)], change: (10, 0), wanted: (1, "TooFewReplicas"), ..PLAIN },
        Case {
            down: &[("Percent", 100, 60)],
            bounds: (5, 1000),
            change: (10, 2),
            wanted: (5, "TooFewReplicas"),
            ..PLAIN
        },
        Case { down: &[("Pods", 5, 60)], change: (10, 2), wanted: (5, "ScaleDownLimit"), ..PLAIN },
        Case { down: &[("Percent", 50, 60)], change: (10, 5), wanted: (5, "DesiredWithinRange"), ..PLAIN },
        Case { shrunk: &[1, 5, 9], change: (10, 5), wanted: (5, "DesiredWithinRange"), ..PLAIN },
        Case {
            down: &[("Pods", 115, 120)],
            shrunk: &[1, 5, 9],
            change: (100, 0),
            wanted: (1, "TooFewReplicas"),
            ..PLAIN
        },
        Case {
            down: &[("Pods", 5, 120)],
            shrunk: &[1, 5, 9],
            change: (100, 2),
            wanted: (100, "ScaleDownLimit"),
            ..PLAIN
        },
        Case {
            down: &[("Percent", 50, 120)],
            shrunk: &[2, 4, 6],
            change: (100, 0),
            wanted: (56, "ScaleDownLimit"),
            ..PLAIN
        },
        Case {
            down: &[("Percent", 50, 180)],
            grown: &[2],
            shrunk: &[4],
            change: (10, 1),
            wanted: (6, "ScaleDownLimit"),
            ..PLAIN
        },
        Case {
            down: &[("Percent", 10, 120)],
            shrunk: &[10, 10, 10],
            change: (100, 0),
            wanted: (100, "ScaleDownLimit"),
            ..PLAIN
        },
        Case {
            down: &[("Percent", 1000, 120)],
            shrunk: &[10, 10, 10],
            change: (10, 5),
            wanted: (5, "DesiredWithinRange"),
            ..PLAIN
        },
    ]);
}

#[test]
fn the_least_change_and_none() {
    let mut behavior = behavior(&[("Pods", 2, 60), ("Percent", 100, 60)], &[("Pods", 2, 60), ("Percent", 50, 60)]);
    let history = History::default();
    let mut limit = |policy: &str, desired| {
        behavior.scale_up.as_mut().unwrap().select_policy = Some(policy.to_owned());
        behavior.scale_down.as_mut().unwrap().select_policy = Some(policy.to_owned());
        let proposal =
            Proposal { current: 10, desired, least: 1, most: 99, behavior: Some(&behavior), window: Duration::ZERO };
        history.at_rate(&proposal, &behavior, NOW).0
    };
    assert_eq!((limit("Max", 50), limit("Min", 50), limit("Disabled", 50)), (20, 12, 10));
    assert_eq!((limit("Max", 1), limit("Min", 1), limit("Disabled", 1)), (5, 8, 10));
}

fn proposal(current: i32, desired: i32, behavior: Option<&Behavior>) -> Proposal<'_> {
    Proposal { current, desired, least: 1, most: 1000, behavior, window: Duration::from_secs(300) }
}

#[test]
fn without_rules_the_highest_of_five_minutes_counts() {
    // What was recommended when, what is now; what counts, and how much is remembered.
    type Case = (&'static [(i32, u64)], i32, i32, usize);
    let cases: &[Case] = &[
        (&[], 5, 5, 1),
        (&[(4, 120), (5, 60)], 3, 5, 3),
        (&[(1, 120), (2, 60)], 3, 3, 3),
        (&[(10, 600), (9, 540)], 3, 3, 2),
        (&[(10, 600), (4, 60), (5, 120), (9, 540)], 3, 5, 4),
    ];
    for (before, desired, wanted, kept) in cases {
        let recommended = before.iter().map(|(count, seconds)| (*count, ago(*seconds))).collect();
        let mut history = History { recommended, ..History::default() };
        assert_eq!(history.highest(&proposal(10, *desired, None), NOW), *wanted);
        assert_eq!(history.recommended.len(), *kept);
    }
    let mut history = History::default();
    history.begin(8, ago(10));
    history.begin(9, NOW);
    let normal = history.normalize(&proposal(8, 2, None), NOW);
    assert_eq!(normal, Normalized { replicas: 8, able: DOWN_STABILIZED, limited: (false, WITHIN) });
    let later = NOW + Duration::from_secs(301);
    assert_eq!(history.normalize(&proposal(8, 2, None), later).replicas, 2);
}

#[test]
fn without_rules_it_doubles_at_most() {
    for (current, desired, bounds, wanted) in [
        (5, 7, (3, 8), (7, "DesiredWithinRange")),
        (3, 1, (2, 8), (2, "TooFewReplicas")),
        (1, 0, (0, 10), (0, "DesiredWithinRange")),
        (20, 1000, (1, 10), (10, "TooManyReplicas")),
        (3, 1000, (1, 2000), (6, "ScaleUpLimit")),
        (1, 1000, (1, 2000), (4, "ScaleUpLimit")),
    ] {
        let proposal =
            Proposal { current, desired, least: bounds.0, most: bounds.1, behavior: None, window: Duration::ZERO };
        let (replicas, why) = within(&proposal);
        assert_eq!((replicas, why.0), wanted);
    }
}

#[test]
fn with_rules_each_direction_has_its_window() {
    let windows = |up: i32, down: i32| -> Behavior {
        serde_json::from_value(json!({"scaleUp": {"stabilizationWindowSeconds": up},
            "scaleDown": {"stabilizationWindowSeconds": down}}))
        .unwrap()
    };
    type Case = (&'static [(i32, u64)], (i32, i32), (i32, i32), i32, usize);
    let cases: &[Case] = &[
        (&[], (0, 0), (100, 5), 5, 1),
        (&[(4, 120), (5, 60)], (0, 180), (100, 3), 5, 3),
        (&[(4, 120), (5, 60)], (300, 0), (1, 7), 4, 3),
        (&[(1, 120), (2, 60)], (0, 300), (100, 3), 3, 3),
        (&[(4, 120), (5, 60)], (300, 0), (1, 3), 3, 3),
        (&[(10, 600), (9, 540)], (0, 300), (100, 3), 3, 2),
        (&[(10, 600), (4, 60), (5, 120), (9, 540)], (0, 300), (100, 3), 5, 4),
    ];
    for (i, (before, (up, down), (current, desired), wanted, kept)) in cases.iter().enumerate() {
        let recommended = before.iter().map(|(count, seconds)| (*count, ago(*seconds))).collect();
        let mut history = History { recommended, ..History::default() };
        let behavior = windows(*up, *down);
        let (replicas, _) = history.stabilize(&proposal(*current, *desired, Some(&behavior)), &behavior, NOW);
        assert_eq!((replicas, history.recommended.len()), (*wanted, *kept), "case {i}");
    }
    // Between both it stays where it is.
    let behavior = windows(300, 300);
    let mut history = History { recommended: vec![(2, ago(60)), (9, ago(30))], ..History::default() };
    let normal = history.normalize(&proposal(5, 7, Some(&behavior)), NOW);
    assert_eq!((normal.replicas, normal.able), (5, UP_STABILIZED));
}

#[test]
fn what_was_done_is_remembered_as_long_as_rules_ask() {
    let behavior = behavior(&[("Pods", 4, 60), ("Percent", 100, 120)], &[]);
    let mut history = History::default();
    history.scaled(None, 1, 5, NOW);
    assert!(history.grown.is_empty(), "nobody asks");
    for step in 0..100 {
        history.scaled(Some(&behavior), 1, 5, NOW + Duration::from_secs(15 * step));
    }
    assert!(history.grown.len() <= 10, "{}", history.grown.len());
    history.scaled(Some(&behavior), 9, 5, NOW);
    assert_eq!((history.shrunk.len(), history.shrunk[0].pods), (1, 4));
}
