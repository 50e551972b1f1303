//! Zones of nodes: how well each is, and how fast its unwell nodes may be emptied.
//!
//! When many nodes seem to be lost at once, it is more likely that something between them and the control plane is. So an unhealthy zone
//! is emptied slowly, or not at all when it is small; and when all nodes of all zones are lost, none is.
//! Invariant: of each zone one node at a time has its turn, the one that has waited longest.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kedge_meta::StringMap;

use crate::settings::NodeSettings;

/// What a node says of where it is.
const REGION: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
/// Nodes that say nothing about their zone's health.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
/// So many unwell nodes make no zone unhealthy.
const FEW: usize = 2;

/// The zone of a node with these labels, as metrics call it; empty when it says nothing.
pub fn zone_of(labels: &StringMap) -> String {
    let of = |keys: [&str; 2]| keys.iter().find_map(|key| labels.get(key)).unwrap_or_default();
    let (region, zone) = (of(REGION), of(ZONE));
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
}

/// Whether a node with these labels counts.
pub fn counts(labels: &StringMap) -> bool {
    !labels.contains_key(EXCLUDED)
}

/// How well a zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Initial,
    Normal,
    Partial,
    Full,
}

/// How well it is with so many nodes of each kind.
pub fn state(ready: usize, unready: usize, settings: &NodeSettings) -> State {
    let share = unready as f64 / (ready + unready).max(1) as f64;
    match (ready, unready) {
        (0, 1..) => State::Full,
        (_, unready) if unready > FEW && share >= settings.unhealthy_zone => State::Partial,
        _ => State::Normal,
    }
}

/// What changed for all zones together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// Some zone is well, as before.
    Apart,
    /// Now no node is well anywhere.
    AllLost,
    /// Nor was there before.
    StillLost,
    /// Now some node is well again.
    Back,
}

#[derive(Debug, Default)]
struct Zone {
    state: State,
    ready: usize,
    unready: usize,
    /// In a second.
    rate: f64,
    /// When the last node had its turn.
    last: Option<Duration>,
    waiting: VecDeque<String>,
}

/// All zones.
#[derive(Debug, Default)]
pub struct Zones(BTreeMap<String, Zone>);

/// Whether a node is to be emptied now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Now, and this one is next.
    Now(Option<String>),
    After(Duration),
    /// Others are before it, or none is emptied.
    Wait,
}

impl Zones {
    /// Takes in all nodes that count, each with its zone and whether it is ready.
    pub fn update<'a>(&mut self, nodes: impl Iterator<Item = (&'a str, bool)>, settings: &NodeSettings) -> Turned {
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (zone, ready) in nodes {
            let (well, unwell) = counts.entry(zone).or_default();
            *if ready { well } else { unwell } += 1;
        }
        self.0.retain(|name, zone| counts.contains_key(name.as_str()) || !zone.waiting.is_empty());
        let (counted, others): (Vec<_>, Vec<_>) =
            self.0.iter_mut().partition(|(name, _)| counts.contains_key(name.as_str()));
        let was_lost = !counted.is_empty() && counted.iter().all(|(_, zone)| zone.state == State::Full);
        // Zones of which no node counts say nothing about their health, and are emptied as usual.
        for (_, zone) in others {
            (zone.state, zone.ready, zone.unready) = (State::Initial, 0, 0);
            zone.rate = settings.eviction_rate;
        }
        let states: BTreeMap<&str, State> =
            counts.iter().map(|(name, (ready, unready))| (*name, state(*ready, *unready, settings))).collect();
        let lost = !states.is_empty() && states.values().all(|state| *state == State::Full);
        for (name, (ready, unready)) in &counts {
            let zone = self
                .0
                .entry((*name).to_owned())
                .or_insert_with(|| Zone { rate: settings.eviction_rate, ..Zone::default() });
            (zone.ready, zone.unready) = (*ready, *unready);
            zone.state = states[name];
            zone.rate = match zone.state {
                _ if lost => 0.0,
                State::Initial | State::Normal | State::Full => settings.eviction_rate,
                State::Partial if ready + unready > settings.large_cluster => settings.secondary_eviction_rate,
                State::Partial => 0.0,
            };
        }
        match (was_lost, lost) {
            (false, true) => Turned::AllLost,
            (true, true) => Turned::StillLost,
            (true, false) => Turned::Back,
            (false, false) => Turned::Apart,
        }
    }

    /// Whether it is an unwell node's turn to be emptied. A zone that was not seen yet, because no node of it counts, is emptied at
    /// the usual rate.
    pub fn turn(&mut self, zone: &str, node: &str, now: Duration, usual: f64) -> Turn {
        let zone = self.0.entry(zone.to_owned()).or_insert_with(|| Zone { rate: usual, ..Zone::default() });
        if !zone.waiting.iter().any(|n| n == node) {
            zone.waiting.push_back(node.to_owned());
        }
        if zone.waiting.front().is_none_or(|first| first != node) || zone.rate <= 0.0 {
            return Turn::Wait;
        }
        let between = Duration::try_from_secs_f64(1.0 / zone.rate).unwrap_or(Duration::MAX);
        let left = zone.last.map(|last| last.saturating_add(between).saturating_sub(now)).unwrap_or_default();
        if !left.is_zero() {
            return Turn::After(left);
        }
        zone.last = Some(now);
        zone.waiting.pop_front();
        Turn::Now(zone.waiting.front().cloned())
    }

    /// A node need not be emptied any more, in whichever zone it waits. Returns who is next instead of it.
    pub fn leave(&mut self, node: &str) -> Option<String> {
        let mut next = None;
        for zone in self.0.values_mut() {
            if let Some(at) = zone.waiting.iter().position(|n| n == node) {
                zone.waiting.remove(at);
                next = zone.waiting.front().filter(|_| at == 0).cloned();
            }
        }
        next
    }

    /// The nodes whose turn is next, of all zones.
    pub fn heads(&self) -> impl Iterator<Item = &String> {
        self.0.values().filter_map(|zone| zone.waiting.front())
    }

    /// Name, nodes and unwell nodes of each.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.0.iter().map(|(name, zone)| (name.as_str(), zone.ready + zone.unready, zone.unready))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn zones(nodes: &[(&str, bool)], zones: &mut Zones) -> Turned {
        zones.update(nodes.iter().copied(), &NodeSettings::default())
    }

    fn turn(zones: &mut Zones, zone: &str, node: &str, now: Duration) -> Turn {
        zones.turn(zone, node, now, NodeSettings::default().eviction_rate)
    }

    #[test]
    fn a_zone_is_as_well_as_its_nodes() {
        let settings = NodeSettings::default();
        let of = |ready, unready| state(ready, unready, &settings);
        assert_eq!(of(0, 1), State::Full);
        assert_eq!(of(1, 2), State::Normal, "two are few");
        assert_eq!(of(2, 3), State::Partial);
        assert_eq!(of(3, 3), State::Normal);
        assert_eq!(of(9, 11), State::Partial);
        assert_eq!(of(0, 0), State::Normal);
    }

    #[test]
    fn nodes_are_emptied_one_after_the_other() {
        let mut all = Zones::default();
        assert_eq!(zones(&[("z", true), ("z", true), ("z", false), ("z", false)], &mut all), Turned::Apart);
        assert_eq!(turn(&mut all, "z", "a", SECOND), Turn::Now(None));
        assert_eq!(turn(&mut all, "z", "b", SECOND * 2), Turn::After(SECOND * 9));
        assert_eq!(turn(&mut all, "z", "c", SECOND * 2), Turn::Wait);
        assert_eq!(turn(&mut all, "z", "b", SECOND * 11), Turn::Now(Some("c".into())));
        assert_eq!(turn(&mut all, "z", "c", SECOND * 12), Turn::After(SECOND * 9));
        assert_eq!(turn(&mut all, "z", "d", SECOND * 12), Turn::Wait);
        assert_eq!(all.leave("c"), Some("d".into()));
        assert_eq!(all.leave("e"), None);
    }

    #[test]
    fn unhealthy_zones_are_spared_when_small_and_slow_when_large() {
        let mut all = Zones::default();
        let some = |count: usize| (0..count).map(move |i| ("z", i * 10 < count * 4));
        all.update(some(10), &NodeSettings::default());
        assert_eq!(turn(&mut all, "z", "a", SECOND), Turn::Wait);
        all.update(some(100), &NodeSettings::default());
        assert_eq!(turn(&mut all, "z", "a", SECOND), Turn::Now(None));
        assert_eq!(turn(&mut all, "z", "b", SECOND), Turn::After(SECOND * 100));
    }

    #[test]
    fn nothing_is_emptied_when_all_are_lost() {
        let mut all = Zones::default();
        let one = [("x", false), ("y", true)];
        assert_eq!(zones(&one, &mut all), Turned::Apart);
        assert_eq!(turn(&mut all, "x", "a", SECOND), Turn::Now(None), "a lost zone is emptied");
        let none = [("x", false), ("y", false)];
        assert_eq!(zones(&none, &mut all), Turned::AllLost);
        assert_eq!(turn(&mut all, "y", "b", SECOND * 60), Turn::Wait);
        assert_eq!(zones(&none, &mut all), Turned::StillLost);
        assert_eq!(zones(&one, &mut all), Turned::Back);
        assert_eq!(turn(&mut all, "y", "b", SECOND * 60), Turn::Now(None));
    }

    #[test]
    fn a_zone_whose_nodes_do_not_count_is_emptied_as_usual() {
        let mut all = Zones::default();
        assert_eq!(zones(&[("x", true)], &mut all), Turned::Apart);
        assert_eq!(turn(&mut all, "z", "a", SECOND), Turn::Now(None));
        assert_eq!(turn(&mut all, "z", "b", SECOND * 2), Turn::After(SECOND * 9));
        // Its health is no part of that of all.
        assert_eq!(zones(&[("x", false)], &mut all), Turned::AllLost);
        assert_eq!(zones(&[("x", false)], &mut all), Turned::StillLost);
        assert_eq!(zones(&[("x", true)], &mut all), Turned::Back);
        assert_eq!(turn(&mut all, "z", "b", SECOND * 11), Turn::Now(None));
        // One that was spared is not any more when its nodes do not count any more.
        let spared = [("x", true), ("y", true), ("y", false), ("y", false), ("y", false)];
        assert_eq!(zones(&spared, &mut all), Turned::Apart);
        assert_eq!(turn(&mut all, "y", "c", SECOND), Turn::Wait);
        assert_eq!(zones(&[("x", true)], &mut all), Turned::Apart);
        assert_eq!(turn(&mut all, "y", "c", SECOND), Turn::Now(None));
    }

    #[test]
    fn zones_are_named_as_upstream_names_them() {
        let labels = |entries: &[(&str, &str)]| {
            let mut labels = StringMap::new();
            entries.iter().for_each(|(key, value)| drop(labels.insert(*key, *value)));
            labels
        };
        assert_eq!(zone_of(&labels(&[])), "");
        assert_eq!(zone_of(&labels(&[(REGION[0], "r"), (ZONE[0], "z"), (ZONE[1], "old")])), "r:\0:z");
        assert_eq!(zone_of(&labels(&[(ZONE[1], "old")])), ":\0:old");
        assert!(counts(&labels(&[])) && !counts(&labels(&[(EXCLUDED, "")])));
    }
}
