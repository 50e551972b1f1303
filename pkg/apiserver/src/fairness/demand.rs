//! How many seats a priority level wants, over a while: what its limit follows.

use std::time::Duration;

/// As upstream: what is smoothed forgets half of what was in about five minutes.
const KEPT: f64 = 0.977;

/// Adds up a number that changes, weighted by how long it stays.
#[derive(Debug)]
pub(super) struct Integrator {
    value: f64,
    since: Duration,
    last: Duration,
    sum: f64,
    squares: f64,
    highest: f64,
}

/// What has been wanted in a while.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Wanted {
    pub highest: f64,
    pub average: f64,
    pub deviation: f64,
    /// Of this while and those before; it rises at once and falls slowly.
    pub smoothed: f64,
}

impl Integrator {
    pub fn new(now: Duration) -> Self {
        Self { value: 0.0, since: now, last: now, sum: 0.0, squares: 0.0, highest: 0.0 }
    }

    /// From `now` on the number is another.
    pub fn set(&mut self, value: f64, now: Duration) {
        self.pass(now);
        self.value = value;
        self.highest = self.highest.max(value);
    }

    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.sum += self.value * passed;
        self.squares += self.value * self.value * passed;
        self.last = self.last.max(now);
    }

    /// What was in the while that ends now, after `before`; the next one begins.
    pub fn end(&mut self, before: Wanted, now: Duration) -> Wanted {
        self.pass(now);
        let length = now.saturating_sub(self.since).as_secs_f64();
        let highest = self.highest;
        let wanted = if length > 0.0 {
            let average = self.sum / length;
            let deviation = (self.squares / length - average * average).max(0.0).sqrt();
            let envelope = average + deviation;
            let smoothed = envelope.max(KEPT * before.smoothed + (1.0 - KEPT) * envelope);
            Wanted { highest, average, deviation, smoothed }
        } else {
            Wanted { highest, ..before }
        };
        *self = Self { value: self.value, highest: self.value, ..Self::new(now) };
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_while_has_its_average_and_its_highest() {
        let at = Duration::from_secs;
        let mut seats = Integrator::new(at(0));
        seats.set(4.0, at(5));
        seats.set(0.0, at(10));
        let wanted = seats.end(Wanted::default(), at(10));
        assert_eq!((wanted.highest, wanted.average, wanted.deviation, wanted.smoothed), (4.0, 2.0, 2.0, 4.0));
        let after = seats.end(wanted, at(20));
        assert_eq!((after.highest, after.average), (0.0, 0.0));
        assert!((after.smoothed - 4.0 * KEPT).abs() < 1e-9, "it falls slowly");
        assert_eq!(seats.end(after, at(20)), Wanted { highest: 0.0, ..after }, "no time, no news");
    }
}
