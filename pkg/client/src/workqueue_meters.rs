//! How busy the work queues of this process are, counted under upstream's names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use kedge_base::exposition::{self, Exposition, Histogram, Shown, written};
use parking_lot::Mutex;

/// `ExponentialBuckets(10e-9, 10, 12)`.
const BOUNDS: [f64; 12] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];

/// Counts of one queue.
#[derive(Debug)]
pub(crate) struct Meters {
    name: &'static str,
    depth: AtomicU64,
    adds: AtomicU64,
    retries: AtomicU64,
    work: Histogram<12>,
}

/// All queues that are measured. It holds them weakly: what has gone is not shown.
#[derive(Default)]
struct Queues(Mutex<Vec<Weak<Meters>>>);

static QUEUES: LazyLock<Arc<Queues>> = LazyLock::new(|| {
    let queues = Arc::default();
    exposition::list("work queues", &queues);
    queues
});

impl Meters {
    /// Of a queue of that name, which is shown from now on.
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        let meters = Arc::new(Self {
            name,
            depth: AtomicU64::new(0),
            adds: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            work: Histogram::new(&BOUNDS),
        });
        let mut queues = QUEUES.0.lock();
        // One that is gone, or that a new one of its name follows, is not shown any more.
        queues.retain(|queue| queue.upgrade().is_some_and(|queue| queue.name != name));
        queues.push(Arc::downgrade(&meters));
        meters
    }

    /// So many keys wait now, of which one has just come.
    pub(crate) fn added(&self, depth: usize) {
        self.adds.fetch_add(1, Ordering::Relaxed);
        self.waits(depth);
    }

    /// So many keys wait now.
    pub(crate) fn waits(&self, depth: usize) {
        self.depth.store(depth as u64, Ordering::Relaxed);
    }

    /// A key comes back after a failure.
    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A key was worked on.
    pub(crate) fn worked(&self, took: Duration) {
        self.work.observe(took.as_secs_f64());
    }
}

impl Shown for Queues {
    fn show(&self, out: &mut Exposition) {
        let mut queues: Vec<Arc<Meters>> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        queues.sort_by_key(|queue| queue.name);
        let mut family = |name: &str, kind: &str, help: &str, of: fn(&Meters) -> &AtomicU64| {
            out.family(name, kind, help);
            for queue in &queues {
                out.sample(name, &[("name", queue.name)], of(queue).load(Ordering::Relaxed) as f64);
            }
        };
        let help = "[BETA] Total number of adds handled by workqueue";
        family("workqueue_adds_total", "counter", help, |queue| &queue.adds);
        family("workqueue_depth", "gauge", "[BETA] Current depth of workqueue", |queue| &queue.depth);
        let help = "[BETA] Total number of retries handled by workqueue";
        family("workqueue_retries_total", "counter", help, |queue| &queue.retries);
        let name = "workqueue_work_duration_seconds";
        out.family(name, "histogram", "[BETA] How long in seconds processing an item from workqueue takes.");
        for queue in &queues {
            queue.work.show(out, name, &written(&[("name", queue.name)]));
        }
    }
}
