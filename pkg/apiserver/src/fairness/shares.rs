//! How many seats each priority level has: its share of all, and what it lends and borrows.

/// What a level says of its share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub shares: u32,
    /// Percents of its own seats that others may have while it does not need them.
    pub lends: u32,
    /// Percents of its own seats that it may have beside them; none is no limit.
    pub borrows: Option<u32>,
}

/// Seats of a level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub nominal: usize,
    pub least: usize,
    pub most: usize,
}

fn percent(of: usize, percents: u32) -> usize {
    (of as f64 * f64::from(percents) / 100.0).round() as usize
}

impl Bounds {
    /// Of a level, when all levels together have `seats` for `sum` shares.
    pub fn of(share: Share, seats: usize, sum: u32) -> Self {
        let nominal = (seats as f64 * f64::from(share.shares) / f64::from(sum.max(1))).ceil() as usize;
        let borrowed = share.borrows.map_or(seats, |percents| percent(nominal, percents));
        let least = nominal.saturating_sub(percent(nominal, share.lends.min(100)));
        Self { nominal, least, most: nominal + borrowed }
    }

    /// What it has before it is known what it needs.
    pub fn initial(&self) -> usize {
        self.nominal - (self.nominal - self.least) / 2
    }
}

/// What a level needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    pub bounds: Bounds,
    /// Exempt levels take what they need, and are given nothing.
    pub exempt: bool,
    pub highest: usize,
    pub smoothed: f64,
}

impl Need {
    /// What it must at least have now: what it has used, as far as that is its own.
    fn least(&self) -> usize {
        let used = if self.exempt { self.highest } else { self.highest.min(self.bounds.nominal) };
        self.bounds.least.max(used)
    }

    fn target(&self) -> f64 {
        // Nothing is divided by zero for those that need nothing.
        const LEAST: f64 = 0.001;
        self.smoothed.max(self.least() as f64).max(LEAST)
    }
}

/// How many seats each level has from now on: as upstream, those that are limited get the same fraction of what they need, within
/// their bounds.
pub(super) fn allocate(needs: &[Need]) -> Vec<usize> {
    let total: usize = needs.iter().map(|need| need.bounds.nominal).sum();
    let exempt: usize = needs.iter().filter(|need| need.exempt).map(Need::least).sum();
    let limited = || needs.iter().filter(|need| !need.exempt);
    let left = total.saturating_sub(exempt);
    let least: usize = limited().map(|need| need.bounds.least).sum();
    let used: usize = limited().map(Need::least).sum();
    let seats = |need: &Need| -> usize {
        if left <= least {
            return need.bounds.least;
        }
        let part = (left - least) as f64 / (used - least).max(1) as f64;
        need.bounds.least + ((need.least() - need.bounds.least) as f64 * part).round() as usize
    };
    let fraction = (left > used).then(|| fair_fraction(limited().copied(), total as f64));
    let of = |need: &Need| match fraction {
        _ if need.exempt => need.least(),
        Some(fraction) => clamped(need, fraction).round() as usize,
        None => seats(need),
    };
    needs.iter().map(of).collect()
}

fn clamped(need: &Need, fraction: f64) -> f64 {
    (need.target() * fraction).clamp(need.least() as f64, need.bounds.most.max(need.least()) as f64)
}

/// The fraction of what they need with which they all together have `total`, or all that they may have.
fn fair_fraction(needs: impl Iterator<Item = Need> + Clone, total: f64) -> f64 {
    let have = |fraction: f64| needs.clone().map(|need| clamped(&need, fraction)).sum::<f64>();
    // What they have never falls when the fraction rises.
    let (mut low, mut high) = (0.0, 1.0);
    while have(high) < total && high < 1e9 {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if have(middle) < total { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn need(shares: u32, lends: u32, highest: usize, smoothed: f64) -> Need {
        let bounds = Bounds::of(Share { shares, lends, borrows: None }, 600, 245);
        Need { bounds, exempt: false, highest, smoothed }
    }

    /// Figures of a stock server with its default levels.
    #[test]
    fn shares_become_seats() {
        let of = |shares, lends, borrows| Bounds::of(Share { shares, lends, borrows }, 600, 245);
        assert_eq!(of(20, 50, None), Bounds { nominal: 49, least: 24, most: 649 });
        assert_eq!(of(5, 0, None), Bounds { nominal: 13, least: 13, most: 613 });
        assert_eq!(of(40, 25, Some(50)), Bounds { nominal: 98, least: 73, most: 147 });
        assert_eq!(of(20, 50, None).initial(), 37);
        assert_eq!(of(0, 0, None).nominal, 0);
    }

    #[test]
    fn who_needs_more_borrows_from_who_needs_less() {
        let seats = allocate(&[need(100, 90, 300, 300.0), need(100, 90, 0, 0.0)]);
        assert!(seats[0] > 245 && seats[1] < 245, "{seats:?}");
        let all = allocate(&[need(100, 90, 300, 300.0), need(100, 90, 300, 300.0)]);
        assert_eq!(all, [245, 245], "nobody lends what is needed");
        let mut exempt = need(0, 0, 400, 400.0);
        exempt.exempt = true;
        let beside = allocate(&[exempt, need(100, 90, 245, 245.0), need(100, 90, 0, 0.0)]);
        assert_eq!(beside[0], 400);
        assert!(beside[1] < 245 && beside[1] >= 25, "{beside:?}");
    }

    proptest! {
        #[test]
        fn nobody_has_less_than_its_least_nor_more_than_its_most(
            levels in proptest::collection::vec((1u32..200, 0u32..=100, proptest::option::of(0u32..300), 0usize..900, 0.0f64..900.0), 1..9)
        ) {
            let sum = levels.iter().map(|level| level.0).sum();
            let needs: Vec<Need> = levels.iter().map(|(shares, lends, borrows, highest, smoothed)| {
                let bounds = Bounds::of(Share { shares: *shares, lends: *lends, borrows: *borrows }, 600, sum);
                Need { bounds, exempt: false, highest: *highest, smoothed: *smoothed }
            }).collect();
            for (need, seats) in needs.iter().zip(allocate(&needs)) {
                prop_assert!(seats >= need.bounds.least && seats <= need.bounds.most, "{need:?} {seats}");
            }
        }
    }
}
