//! Disks that are full or fail.

use std::io::ErrorKind;

use crate::disk::Fault;
use crate::history::Driver;
use crate::seed;

const STEPS: usize = 60;

/// Every call fails once, or it and all after it: what was promised is there, nothing is there in part.
#[tokio::test]
async fn a_call_that_fails_breaks_no_promise() {
    let seed = seed() * 4_000;
    let calls = {
        let mut driver = Driver::new(seed, None);
        driver.kills = false;
        driver.live(STEPS).await.unwrap();
        driver.disk.calls()
    };
    let mut failed = 0;
    for call in 0..calls {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            for fault in [Fault::FailsAt(call, kind), Fault::FailsFrom(call, kind)] {
                failed += usize::from(one(seed, fault).await);
            }
        }
    }
    println!("{calls} calls, {failed} lives that ended with an error");
    assert!(failed > calls, "hardly any fault was noticed");
}

/// Returns whether the store noticed the fault.
async fn one(seed: u64, fault: Fault) -> bool {
    let mut driver = Driver::new(seed, None);
    driver.kills = false;
    driver.disk.set_fault(Some(fault));
    let mut noticed = false;
    for _ in 0..STEPS {
        noticed |= driver.live(1).await.is_err();
        if driver.has_failed().await {
            break;
        }
    }
    // The driver compares what is there with what was shown; a write that failed may have happened as a whole.
    if let Err(err) = driver.restart().await {
        panic!("seed {seed}, {fault:?}: the store does not open afterwards: {err}");
    }
    driver.live(5).await.unwrap();
    noticed
}
