//! Whether a figure grows: a straight line through its samples, and whether that line is more than noise.

/// Samples of a figure: seconds, and its value.
pub type Series = Vec<(f64, f64)>;

#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Too little was seen.
    Unknown,
    Steady,
    /// By so much an hour; less than nothing when it shrinks.
    Changes(f64),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("too few samples"),
            Self::Steady => f.write_str("steady"),
            Self::Changes(by) if *by < 0.0 => write!(f, "shrinks by {:.1} per hour", -by),
            Self::Changes(by) => write!(f, "grows by {by:.1} per hour"),
        }
    }
}

/// Samples for a line to say anything.
const FEWEST: usize = 6;
/// A slope that is not so many times its own error is noise. Samples that follow each other are alike, so that
/// the usual two or three would see growth in what only goes up and down.
const CERTAIN: f64 = 5.0;
/// What is a smaller part of the figure over the time that was seen is not growth, either.
const PART: f64 = 0.02;

/// What a series does after `from` seconds. `least` is what the figure must change by over that time to count.
pub fn verdict(series: &[(f64, f64)], from: f64, least: f64) -> Verdict {
    let seen: Vec<(f64, f64)> = series.iter().copied().filter(|(at, _)| *at >= from).collect();
    if seen.len() < FEWEST {
        return Verdict::Unknown;
    }
    let count = seen.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| seen.iter().map(of).sum::<f64>() / count;
    let (at, level) = (mean(|s| s.0), mean(|s| s.1));
    let spread: f64 = seen.iter().map(|s| (s.0 - at).powi(2)).sum();
    let slope = seen.iter().map(|s| (s.0 - at) * (s.1 - level)).sum::<f64>() / spread;
    let off: f64 = seen.iter().map(|s| (s.1 - level - slope * (s.0 - at)).powi(2)).sum();
    let error = (off / (count - 2.0) / spread).sqrt();
    let time = seen[seen.len() - 1].0 - seen[0].0;
    let change = (slope * time).abs();
    if slope.abs() > CERTAIN * error && change >= least && change > PART * level.abs() {
        Verdict::Changes(slope * 3600.0)
    } else {
        Verdict::Steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(value: impl Fn(f64) -> f64) -> Series {
        (0..60).map(|i| f64::from(i) * 10.0).map(|at| (at, value(at))).collect()
    }

    #[test]
    fn growth_is_seen_through_noise() {
        let noise = |at: f64| ((at * 7.3).sin() + (at * 1.7).cos()) * 2.0;
        let grows = verdict(&series(|at| 100.0 + at / 36.0 + noise(at)), 200.0, 1.0);
        assert!(matches!(grows, Verdict::Changes(by) if (80.0..120.0).contains(&by)), "{grows:?}");
        let shrinks = verdict(&series(|at| 100.0 - at / 36.0), 0.0, 1.0);
        assert!(matches!(shrinks, Verdict::Changes(by) if (-101.0..-99.0).contains(&by)), "{shrinks:?}");
    }

    #[test]
    fn what_goes_up_and_down_is_steady_and_so_is_what_grew_only_at_first() {
        assert_eq!(verdict(&series(|at| 50.0 + 10.0 * (at / 30.0).sin()), 200.0, 1.0), Verdict::Steady);
        assert_eq!(verdict(&series(|at| at.min(200.0)), 200.0, 1.0), Verdict::Steady);
        assert_eq!(verdict(&series(|_| 3.0), 0.0, 1.0), Verdict::Steady);
        // Half of one is not a leak of what is counted in ones.
        assert_eq!(verdict(&series(|at| at / 1_200.0), 0.0, 1.0), Verdict::Steady);
        assert_eq!(verdict(&series(|at| at)[..5], 0.0, 1.0), Verdict::Unknown);
    }
}
