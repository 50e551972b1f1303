//! Crash tests of the embedded engine: power cuts at every write of long random histories, with what was not synced
//! dropped, torn and reordered; damage anywhere; disks that are full or fail.
//!
//! `KEDGE_CRASH_SEED` chooses other histories than the usual ones.
#![allow(clippy::unwrap_used)]

mod damage;
mod disk;
mod faults;
mod history;
mod model;
mod rng;
mod states;

use disk::SyncSite;
use history::{Driver, History};

/// Histories, each with so many steps.
const HISTORIES: u64 = 4;
const STEPS: usize = 250;

fn seed() -> u64 {
    std::env::var("KEDGE_CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

async fn history(seed: u64, steps: usize, ignored: Option<SyncSite>) -> History {
    let mut driver = Driver::new(seed, ignored);
    driver.live(steps).await.unwrap();
    driver.end()
}

#[tokio::test]
async fn no_power_cut_loses_what_was_promised() {
    let mut states = 0;
    for i in 0..HISTORIES {
        let seed = seed() * 1_000 + i;
        let history = history(seed, STEPS, None).await;
        match states::check(&history, seed).await {
            Ok(n) => states += n,
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    println!("{states} states after power cuts");
    assert!(states >= 10_000, "only {states} states");
}

/// The test above would find it if any of the syncs were missing.
#[tokio::test]
async fn every_missing_sync_is_found() {
    for site in SyncSite::ALL {
        let mut found = None;
        for i in 0..60 {
            let seed = seed() * 2_000 + i;
            let history = history(seed, 120, Some(site)).await;
            if let Err(what) = states::check(&history, seed).await {
                found = Some(what);
                break;
            }
        }
        let found = found.unwrap_or_else(|| panic!("a missing sync is not found: {site:?}"));
        println!("{site:?}: {}", found.chars().take(300).collect::<String>());
    }
}
