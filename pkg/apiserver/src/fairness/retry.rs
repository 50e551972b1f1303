//! When those may come again who were refused: the longer, the more are refused. As upstream.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Seconds.
const LONGEST: i64 = 32;

/// Of a priority level.
#[derive(Debug)]
pub(super) struct Retry(Mutex<State>);

#[derive(Debug)]
struct State {
    after: i64,
    /// When it has become longer.
    raised: i64,
    /// How many were refused in which second; the last is the current one.
    refused: VecDeque<(i64, i64)>,
}

impl Default for Retry {
    fn default() -> Self {
        Self(Mutex::new(State { after: 1, raised: 0, refused: VecDeque::new() }))
    }
}

impl Retry {
    /// One more is refused; after how many seconds it may come again. `now` is in seconds that never go back.
    pub fn refuse(&self, now: i64) -> i64 {
        let mut state = self.0.lock();
        match state.refused.back_mut() {
            Some((second, count)) if *second >= now => *count += 1,
            _ => {
                state.refused.push_back((now, 1));
                state.adjust(now);
            }
        }
        state.after
    }
}

impl State {
    /// By what was refused in as many seconds as one has to wait, before this one.
    fn adjust(&mut self, now: i64) {
        let oldest = now - (2 * self.after).min(LONGEST);
        while self.refused.front().is_some_and(|(second, _)| *second < oldest) {
            self.refused.pop_front();
        }
        let counted = self.refused.iter().filter(|(second, _)| *second < now && *second >= now - self.after);
        let refused: i64 = counted.map(|(_, count)| count).sum();
        if now - self.raised >= self.after && refused >= 3 * self.after {
            self.after = (2 * self.after).min(LONGEST);
            self.raised = now;
        } else if refused < self.after && self.after > 1 {
            self.after -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_too_often_waits_longer_until_fewer_come() {
        let retry = Retry::default();
        let flood = |second: i64| (0..100).map(|_| retry.refuse(second)).last().unwrap_or_default();
        assert_eq!(flood(1_000), 1);
        assert_eq!(flood(1_001), 2);
        assert_eq!((1_002..1_200).map(flood).last(), Some(LONGEST));
        let calm = (1_200..1_210).step_by(2).map(|second| retry.refuse(second)).last();
        assert_eq!(calm, Some(LONGEST), "what was refused before is not over yet");
        assert_eq!((1_210..1_300).step_by(2).map(|second| retry.refuse(second)).last(), Some(1));
        assert!(retry.0.lock().refused.len() <= LONGEST as usize + 1);
    }
}
