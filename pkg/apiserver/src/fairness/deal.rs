//! Shuffle sharding: each flow is dealt a hand of queues, the same each time, and those of two flows are rarely all the same. So who
//! floods the queues of a hand leaves others at least one.

use ring::digest::{Context, SHA256};

/// What tells one flow of a schema from others, as a number.
pub(super) fn hash(schema: &str, distinguisher: &str) -> u64 {
    let mut context = Context::new(&SHA256);
    context.update(schema.as_bytes());
    context.update(&[0]);
    context.update(distinguisher.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&context.finish().as_ref()[..8]);
    u64::from_le_bytes(first)
}

/// The hand of a flow: `size` different numbers below `deck`. Upstream deals the same.
pub(super) fn hand(mut hash: u64, deck: usize, size: usize) -> Vec<usize> {
    let size = size.clamp(1, deck.max(1));
    let mut hand: Vec<usize> = Vec::with_capacity(size);
    // Each card is drawn from what is left of the deck: the n-th of the cards that were not drawn yet.
    let mut drawn: Vec<usize> = Vec::with_capacity(size);
    for left in (deck.saturating_sub(size) + 1..=deck.max(1)).rev() {
        let nth = (hash % left as u64) as usize;
        hash /= left as u64;
        let card = drawn.iter().rev().fold(nth, |card, before| if card >= *before { card + 1 } else { card });
        drawn.push(nth);
        hand.push(card);
    }
    hand
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hand_has_different_queues_of_the_deck(hash: u64, deck in 1usize..600, size in 1usize..12) {
            let hand = hand(hash, deck, size);
            let different: BTreeSet<_> = hand.iter().collect();
            prop_assert_eq!(different.len(), size.min(deck));
            prop_assert!(hand.iter().all(|queue| *queue < deck));
        }
    }

    /// What a stock server deals.
    #[test]
    fn the_hand_is_upstreams() {
        assert_eq!(hand(0, 8, 3), [0, 1, 2]);
        assert_eq!(hand(8 * 7 * 6 - 1, 8, 3), [7, 6, 5]);
        assert_eq!(hand(1 + 8 * (2 + 7 * 3), 8, 3), [1, 3, 5]);
    }

    #[test]
    fn flows_differ_by_schema_and_by_what_distinguishes_them() {
        assert_ne!(hash("a", "bc"), hash("ab", "c"));
        assert_eq!(hash("a", "b"), hash("a", "b"));
    }
}
