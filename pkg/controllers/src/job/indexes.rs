//! Sets of completion indexes and their text form, such as `0-2,5,7-9`.

use std::collections::BTreeSet;
use std::fmt;

/// Completion indexes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Indexes(pub BTreeSet<i64>);

impl Indexes {
    /// Reads the text form up to `below`; what cannot be read is left out.
    pub fn parse(text: &str, below: i64) -> Self {
        let mut out = BTreeSet::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
                out.extend(first.max(0)..=last.min(below - 1));
            }
        }
        Self(out)
    }

    pub fn len(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for i in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *i => *last = *i,
                _ => ranges.push((*i, *i)),
            }
        }
        let one = |(first, last): &(i64, i64)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        };
        f.write_str(&ranges.iter().map(one).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_upstreams() {
        let indexes = Indexes(BTreeSet::from([0, 1, 2, 4, 6, 7]));
        assert_eq!(indexes.to_string(), "0-2,4,6,7");
        assert_eq!(Indexes::parse("0-2,4,6,7", 100), indexes);
        assert_eq!(Indexes::parse("0-1000000000000", 2).len(), 2, "bounded by the number of completions");
        assert_eq!(Indexes::parse("x,-1,", 5), Indexes::default());
    }
}
