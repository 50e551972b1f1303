//! Exponential back-off with a ceiling and a little jitter.

use std::time::Duration;

use crate::random;

/// Delays that grow from `initial` by `factor` tenths up to `max`, each with up to 10 % of jitter added.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    factor_tenths: u32,
    next: Duration,
}

impl Backoff {
    /// A fresh series; `factor_tenths` is the growth in tenths (20 doubles).
    pub fn new(initial: Duration, max: Duration, factor_tenths: u32) -> Self {
        Self { initial, max, factor_tenths: factor_tenths.max(10), next: initial }
    }

    /// The next delay of the series.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Duration {
        let base = self.next.min(self.max);
        self.next = (base * self.factor_tenths / 10).min(self.max);
        let jitter_ppm = (random::u64() % 100_000) as u32;
        base + base / 1_000_000 * jitter_ppm
    }

    /// Starts again at `initial`.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_ceiling_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4), 20);
        let first: Vec<u64> = (0..4).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(first, [1, 2, 4, 4]);
        backoff.reset();
        assert_eq!(backoff.next().as_secs(), 1);
    }
}
