//! What is known of a runtime that does not run, from whoever keeps it running.

use std::sync::Arc;

use tokio::sync::watch;

/// Why the container runtime does not run. Its socket only tells that nobody listens; whoever starts the runtime knows
/// more, and says it here. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RuntimeProblem(Arc<watch::Sender<Option<String>>>);

impl RuntimeProblem {
    /// Says what is wrong.
    pub fn set(&self, problem: impl Into<String>) {
        let problem = problem.into();
        self.0.send_if_modified(|known| {
            let new = known.as_ref() != Some(&problem);
            *known = Some(problem);
            new
        });
    }

    /// What was said last.
    pub fn get(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Forgets it: the runtime answers.
    pub(crate) fn clear(&self) {
        if self.0.borrow().is_some() {
            self.0.send_replace(None);
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}
