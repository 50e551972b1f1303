//! Which number of a range is given out: state in, number out.

/// The numbers of a range that are given out: addresses or ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) first: u128,
    pub(super) last: u128,
    /// Numbers below this are given out unasked only when those above are all taken: they are left to those that are asked for
    /// by name.
    pub(super) dynamic_from: u128,
}

/// How much of a range is left to numbers that are asked for by name: a part of it, no less than 16 and no more than `most`; of
/// a range that has no more than 16, nothing.
pub(super) fn band(size: u128, part: u128, most: u128) -> u128 {
    const LEAST: u128 = 16;
    if size <= LEAST { 0 } else { (size / part).clamp(LEAST, most) }
}

impl Numbers {
    /// From `first` to `last`, of which the lower `band` numbers are left to those that are asked for by name.
    pub(super) fn new(first: u128, last: u128, band: u128) -> Self {
        Self { first, last, dynamic_from: first.saturating_add(band).min(last) }
    }

    pub(super) fn contains(&self, number: u128) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// A free number: from `draw` on in the upper band, and when that is full in the lower one.
    pub(super) fn pick(&self, draw: u64, mut is_free: impl FnMut(u128) -> bool) -> Option<u128> {
        let lower = self.dynamic_from.checked_sub(1).map(|last| (self.first, last));
        for (from, to) in [Some((self.dynamic_from, self.last)), lower].into_iter().flatten().filter(|(a, b)| a <= b) {
            // A whole family has 2^128 numbers: the size of a band of it would not fit.
            let start = match (to - from).checked_add(1) {
                Some(size) => from + u128::from(draw) % size,
                None => u128::from(draw),
            };
            let rest = from..start;
            if let Some(number) = (start..=to).chain(rest).find(|n| is_free(*n)) {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn bands_are_upstreams() {
        // As of addresses: /28, /27, /24, /20, /16, /112.
        let addresses = [(16, 0), (32, 16), (256, 16), (4096, 256), (65_536, 256), (1 << 64, 256)];
        for (size, lower) in addresses {
            assert_eq!(band(size, 16, 256), lower, "{size}");
        }
        // As of ports.
        for (size, lower) in [(16, 0), (17, 16), (100, 16), (2768, 86), (40_000, 128)] {
            assert_eq!(band(size, 32, 128), lower, "{size}");
        }
    }

    proptest! {
        /// Whatever is taken by name in between: each number is given out once, none is outside, the upper band goes first, and
        /// none is refused while one is free.
        #[test]
        fn each_number_is_given_out_once(
            first in 0_u128..1_000, size in 1_u128..80, lower in 0_u128..40,
            draws in proptest::collection::vec(any::<u64>(), 100), asked in proptest::collection::btree_set(0_u128..80, 0..20),
        ) {
            let numbers = Numbers::new(first, first + size - 1, lower.min(size - 1));
            let mut taken: BTreeSet<u128> = asked.iter().map(|n| first + n).filter(|n| numbers.contains(*n)).collect();
            for draw in draws {
                let picked = numbers.pick(draw, |n| !taken.contains(&n));
                let upper_is_full = (numbers.dynamic_from..=numbers.last).all(|n| taken.contains(&n));
                match picked {
                    None => prop_assert_eq!(taken.len() as u128, size),
                    Some(n) => {
                        prop_assert!(numbers.contains(n));
                        prop_assert!(n >= numbers.dynamic_from || upper_is_full);
                        prop_assert!(taken.insert(n));
                    }
                }
            }
        }
    }

    #[test]
    fn a_range_may_be_as_large_as_its_family() {
        let all = Numbers::new(0, u128::MAX, 256);
        assert_eq!(all.pick(u64::MAX, |_| true).map(|n| n > 256), Some(true));
        let one = Numbers::new(7, 7, 0);
        assert_eq!((one.pick(3, |_| true), one.pick(3, |_| false)), (Some(7), None));
    }
}
