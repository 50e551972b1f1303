//! Eviction thresholds as they are given: how little may be left of a resource before the node is short of it.

use std::collections::BTreeMap;
use std::time::Duration;

use kedge_meta::quantity::Quantity;

use super::signals::Signal;

/// Small boards: with less memory than twice the default, a tenth of it is enough.
const MEMORY: i64 = 100 << 20;
/// Process ids that must stay free for the node itself.
const PIDS: Limit = Limit::Share(5 * PERCENT);
/// Shares are kept in thousandths of a percent.
const PERCENT: i64 = 1_000;
const WHOLE: i64 = 100 * PERCENT;

/// How much must be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Bytes, files or process ids.
    Amount(i64),
    /// Thousandths of a percent of all there is.
    Share(i64),
    /// So much, but no more than a tenth where there is less than twice of it.
    Modest(i64),
}

impl Limit {
    /// What must be left of so much.
    pub(crate) fn of(self, total: i64) -> i64 {
        match self {
            Self::Amount(amount) => amount,
            Self::Share(share) => {
                let part = i128::from(total) * i128::from(share) / i128::from(WHOLE);
                i64::try_from(part).unwrap_or(i64::MAX)
            }
            Self::Modest(amount) if total < amount.saturating_mul(2) => total / 10,
            Self::Modest(amount) => amount,
        }
    }
}

/// Below what the node is short of something; `None` is never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub(crate) memory: Option<Limit>,
    pub(crate) nodefs: Option<Limit>,
    pub(crate) nodefs_inodes: Option<Limit>,
    pub(crate) imagefs: Option<Limit>,
    pub(crate) imagefs_inodes: Option<Limit>,
    pub(crate) pids: Option<Limit>,
}

impl Default for Thresholds {
    /// 5% of disks, as on other small distributions: a tenth of a large disk is much to leave unused.
    fn default() -> Self {
        let disk = Some(Limit::Share(5 * PERCENT));
        Self {
            memory: Some(Limit::Modest(MEMORY)),
            nodefs: disk,
            nodefs_inodes: disk,
            imagefs: disk,
            imagefs_inodes: disk,
            pids: Some(PIDS),
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Amount(amount) | Self::Modest(amount) => f.write_str(&Quantity::from_bytes(*amount).to_string()),
            Self::Share(share) => write!(f, "{}%", *share as f64 / PERCENT as f64),
        }
    }
}

impl Thresholds {
    /// By the names of the signals.
    pub(crate) fn document(&self) -> serde_json::Value {
        let all = [
            ("memory.available", self.memory),
            ("nodefs.available", self.nodefs),
            ("nodefs.inodesFree", self.nodefs_inodes),
            ("imagefs.available", self.imagefs),
            ("imagefs.inodesFree", self.imagefs_inodes),
            ("pid.available", self.pids),
        ];
        all.into_iter()
            .filter_map(|(signal, limit)| Some((signal.to_owned(), serde_json::Value::from(limit?.to_string()))))
            .collect()
    }

    /// Reads `signal<value,…`. What is not named has no threshold.
    ///
    /// # Errors
    /// What is wrong, naming the part.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text, '<', limit)
    }

    /// Reads `signal=value,…`: how much more than the threshold is reclaimed.
    ///
    /// # Errors
    /// What is wrong, naming the part.
    pub(crate) fn parse_reclaim(text: &str) -> Result<Self, String> {
        Self::read(text, '=', reclaim)
    }

    /// No thresholds at all.
    pub(crate) fn none() -> Self {
        Self { memory: None, nodefs: None, nodefs_inodes: None, imagefs: None, imagefs_inodes: None, pids: None }
    }

    fn read(text: &str, sign: char, limit: fn(&str) -> Result<Option<Limit>, String>) -> Result<Self, String> {
        let mut all = Self::none();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((signal, value)) = part.split_once(sign) else {
                return Err(format!("{part:?} is not of the form signal{sign}value, such as nodefs.available{sign}5%"));
            };
            let limit = limit(value.trim()).map_err(|why| format!("{part:?}: {why}"))?;
            let place = match signal.trim() {
                "memory.available" => &mut all.memory,
                "nodefs.available" => &mut all.nodefs,
                "nodefs.inodesFree" => &mut all.nodefs_inodes,
                // Containers' own files are on the disk of their images.
                "imagefs.available" | "containerfs.available" => &mut all.imagefs,
                "imagefs.inodesFree" | "containerfs.inodesFree" => &mut all.imagefs_inodes,
                "pid.available" => &mut all.pids,
                other => {
                    return Err(format!(
                        "unknown signal {other:?}; known are memory.available, nodefs.available, nodefs.inodesFree, \
                         imagefs.available, imagefs.inodesFree, containerfs.available, containerfs.inodesFree and \
                         pid.available"
                    ));
                }
            };
            *place = limit;
        }
        Ok(all)
    }
}

/// Reads `signal=duration,…`: how long soft thresholds may be crossed.
///
/// # Errors
/// What is wrong, naming the part.
pub(crate) fn periods(text: &str) -> Result<BTreeMap<&'static str, Duration>, String> {
    let mut all = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (signal, value) = part
            .split_once('=')
            .ok_or_else(|| format!("{part:?} is not of the form signal=duration, such as memory.available=1m30s"))?;
        let known = Signal::ALL.into_iter().map(Signal::as_str).find(|known| *known == signal.trim());
        let signal = known.ok_or_else(|| format!("unknown signal {:?}", signal.trim()))?;
        let period = kedge_base::time::go_duration(value.trim());
        all.insert(signal, period.ok_or_else(|| format!("{part:?}: expected a duration such as 5m or 1m30s"))?);
    }
    Ok(all)
}

/// Of what is reclaimed nothing at all is something, too.
fn reclaim(text: &str) -> Result<Option<Limit>, String> {
    if matches!(text, "0" | "0%") { Ok(None) } else { limit(text) }
}

/// A percentage or a quantity. As upstream has it, 0% and 100% are no threshold at all.
fn limit(text: &str) -> Result<Option<Limit>, String> {
    let quantity = |text: &str| {
        let found =
            Quantity::parse(text).map_err(|_| "expected a quantity such as 100Mi, or a percentage such as 5%")?;
        if found.is_negative() { Err("it must not be negative") } else { Ok(found) }
    };
    let Some(percent) = text.strip_suffix('%') else {
        let amount = quantity(text)?.value();
        return if amount == 0 { Err("it must be more than 0".into()) } else { Ok(Some(Limit::Amount(amount))) };
    };
    match quantity(percent)?.milli_value() {
        0 | WHOLE => Ok(None),
        share if share > WHOLE => Err("it must not be more than 100%".into()),
        share => Ok(Some(Limit::Share(share))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn amounts_and_shares() {
        let all = Thresholds::parse("memory.available<1Mi, nodefs.available<0.1%,imagefs.inodesFree<100%").unwrap();
        assert_eq!(all.memory.unwrap().of(1 << 40), 1 << 20);
        assert_eq!(all.nodefs.unwrap().of(1_000_000), 1_000);
        assert_eq!((all.imagefs_inodes, all.pids), (None, None));
        assert_eq!(Thresholds::parse("").unwrap().memory, None);
    }

    #[test]
    fn periods_and_what_is_reclaimed_are_read() {
        let periods = periods("memory.available=1m30s, nodefs.inodesFree=5s").unwrap();
        assert_eq!(periods.get("memory.available"), Some(&Duration::from_secs(90)));
        assert_eq!(periods.len(), 2);
        assert!(super::periods("memory=1m").is_err() && super::periods("memory.available=soon").is_err());
        let more = Thresholds::parse_reclaim("memory.available=0,nodefs.available=1Gi,imagefs.available=2%").unwrap();
        assert_eq!((more.memory, more.nodefs), (None, Some(Limit::Amount(1 << 30))));
        assert!(Thresholds::parse_reclaim("nodefs.available<1").is_err());
    }

    #[test]
    fn a_small_board_keeps_a_tenth_of_its_memory() {
        let memory = Thresholds::default().memory.unwrap();
        assert_eq!((memory.of(100 << 20), memory.of(1 << 30)), (10 << 20, 100 << 20));
        assert_eq!(Thresholds::default().nodefs.unwrap().of(1_000), 50);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("nodefs.available", "signal<value"),
            ("disk<5%", "unknown signal \"disk\""),
            ("nodefs.available<five", "such as 100Mi"),
            ("nodefs.available<-5%", "must not be negative"),
            ("nodefs.available<101%", "more than 100%"),
            ("memory.available<0", "more than 0"),
            ("memory.available=0", "signal<value"),
        ] {
            let err = Thresholds::parse(text).unwrap_err();
            assert!(err.contains(named), "{text}: {err}");
        }
    }
}
