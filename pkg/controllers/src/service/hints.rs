//! For which zones endpoints are meant, where a service asks for it: `service.kubernetes.io/topology-mode: Auto`.
//!
//! Each zone gets about as many endpoints as it has of the CPU of all nodes. Invariant: either all endpoints of a family that are ready
//! have a hint, or none does; and what is well distributed stays as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_client::EventType;
use kedge_meta::StringMap;
use kedge_meta::quantity::Quantity;

use super::slices::{Endpoint, EndpointSlice, Hints, Named};
use crate::objects::{Node, condition};

/// How much less than its share of endpoints a zone may have.
const OVERLOAD: f64 = 0.2;
const MODE: &str = "service.kubernetes.io/topology-mode";
const FORMER_MODE: &str = "service.kubernetes.io/topology-aware-hints";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Nodes that have no part in it.
const EXCLUDED: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

const DISABLED: &str = "TopologyAwareHintsDisabled";

/// Each zone's share of the CPU.
pub type Shares = BTreeMap<String, f64>;

/// What is to be said of it: type, reason and message.
pub type Said = (EventType, &'static str, String);

/// Whether a service with these annotations asks for it.
pub fn are_wanted(annotations: &StringMap) -> bool {
    let mode = annotations.get(FORMER_MODE).or_else(|| annotations.get(MODE));
    matches!(mode, Some("Auto" | "auto"))
}

/// What a node is for it; none if it has no part in it.
pub fn part(node: &Node) -> Option<(&str, i64)> {
    let labels = &node.metadata.labels;
    let ready = condition(&node.status.conditions, "Ready").is_some_and(|c| c.is_true());
    if !ready || EXCLUDED.iter().any(|label| labels.contains_key(label)) {
        return None;
    }
    let cpu = Quantity::parse(&node.status.allocatable.cpu).map(|q| q.milli_value()).unwrap_or_default();
    Some((labels.get(ZONE).unwrap_or_default(), cpu))
}

/// The shares of all zones. None when it is not known of every node, or there is no choice.
pub fn shares<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) -> Option<Shares> {
    let mut by_zone: BTreeMap<String, i64> = BTreeMap::new();
    for (zone, cpu) in nodes.filter_map(|node| part(node)) {
        if zone.is_empty() || cpu == 0 {
            return None;
        }
        let sum = by_zone.entry(zone.to_owned()).or_default();
        *sum = sum.saturating_add(cpu);
    }
    let all: f64 = by_zone.values().map(|cpu| *cpu as f64).sum();
    (by_zone.len() > 1 && all > 0.0).then(|| by_zone.into_iter().map(|(zone, cpu)| (zone, cpu as f64 / all)).collect())
}

/// How many endpoints a zone may have.
#[derive(Debug, Clone, Copy)]
struct Allocation {
    most: usize,
    wanted: f64,
}

/// What is written anyway, and what would stay as it is.
pub struct Slices<'a> {
    pub create: &'a mut Vec<EndpointSlice>,
    pub update: &'a mut Vec<EndpointSlice>,
    pub unchanged: Vec<Arc<EndpointSlice>>,
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready == Some(true)
}

fn zone_of(endpoint: &Endpoint) -> &str {
    endpoint.zone.as_deref().unwrap_or_default()
}

fn hint(zone: &str) -> Option<Hints> {
    Some(Hints { for_zones: vec![Named { name: zone.to_owned() }], for_nodes: Vec::new() })
}

/// Gives the endpoints of one family of addresses their hints, or takes all away.
///
/// # Errors
/// Why they have none.
pub fn distribute(slices: &mut Slices<'_>, shares: Option<&Shares>) -> Result<(), String> {
    let written = slices.update.len();
    let outcome = try_distribute(slices, shares);
    if outcome.is_err() {
        // Slices that were to get other hints stay as they are, unless they have some.
        slices.update.truncate(written);
        clear(slices);
    }
    outcome
}

/// Takes all hints away.
pub fn clear(slices: &mut Slices<'_>) {
    for slice in slices.unchanged.iter().filter(|slice| slice.endpoints.iter().any(|e| e.hints.is_some())) {
        slices.update.push((**slice).clone());
    }
    let written = slices.create.iter_mut().chain(slices.update.iter_mut());
    written.flat_map(|slice| &mut slice.endpoints).for_each(|endpoint| endpoint.hints = None);
}

fn try_distribute(slices: &mut Slices<'_>, shares: Option<&Shares>) -> Result<(), String> {
    let all = slices.create.iter().chain(slices.update.iter()).chain(slices.unchanged.iter().map(|s| &**s));
    let count = all.flat_map(|slice| &slice.endpoints).filter(|e| is_ready(e)).count();
    let allocations = allocate(shares, count)?;
    let mut given: BTreeMap<String, usize> = BTreeMap::new();
    for slice in &slices.unchanged {
        match hinted(slice, &given, &allocations) {
            Some(hinted) => hinted.into_iter().for_each(|(zone, count)| *given.entry(zone).or_default() += count),
            None => slices.update.push((**slice).clone()),
        }
    }
    let mut free: Vec<&mut Endpoint> =
        slices.create.iter_mut().chain(slices.update.iter_mut()).flat_map(|slice| &mut slice.endpoints).collect();
    free.iter_mut().filter(|e| !is_ready(e)).for_each(|endpoint| endpoint.hints = None);
    free.retain(|endpoint| is_ready(endpoint));
    // At first each endpoint is for its own zone.
    for endpoint in &mut free {
        let zone = zone_of(endpoint).to_owned();
        if zone.is_empty() {
            return Err("One or more endpoints do not have a zone specified".to_owned());
        }
        endpoint.hints = hint(&zone);
        *given.entry(zone).or_default() += 1;
    }
    let (mut giving, mut receiving) = exchange(&allocations, &given);
    for endpoint in &mut free {
        let zone = zone_of(endpoint).to_owned();
        let Some(left) = giving.get_mut(&zone).filter(|left| **left > 0) else { continue };
        let Some((other, needed)) = receiving.iter_mut().find(|(_, needed)| **needed > 0) else { break };
        endpoint.hints = hint(other);
        (*left, *needed) = (*left - 1, *needed - 1);
    }
    if given.is_empty() { Err("No hints allocated for zones".to_owned()) } else { Ok(()) }
}

/// How many endpoints each zone is to have.
fn allocate(shares: Option<&Shares>, count: usize) -> Result<BTreeMap<&str, Allocation>, String> {
    let Some(shares) = shares else {
        return Err(
            "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes".to_owned()
        );
    };
    let zones = shares.len();
    let numbers = format!("({count} endpoints, {zones} zones)");
    if zones > count {
        return Err(format!("Insufficient number of endpoints {numbers}"));
    }
    let least = |share: f64| (share * count as f64 / (1.0 + OVERLOAD)).ceil() as usize;
    let together: usize = shares.values().map(|share| least(*share)).sum();
    let Some(spare) = count.checked_sub(together) else {
        return Err(format!(
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold {numbers}"
        ));
    };
    let allocation = |(zone, share): (&'_ String, &f64)| {
        let least = least(*share);
        (zone.clone(), Allocation { most: least + spare, wanted: (share * count as f64).max(least as f64) })
    };
    let all: BTreeMap<String, Allocation> = shares.iter().map(allocation).collect();
    Ok(shares.keys().map(|zone| (zone.as_str(), all[zone])).collect())
}

/// The hints of a slice by zone; none when it has to be written anew.
fn hinted(
    slice: &EndpointSlice,
    given: &BTreeMap<String, usize>,
    allocations: &BTreeMap<&str, Allocation>,
) -> Option<BTreeMap<String, usize>> {
    let mut hinted: BTreeMap<String, usize> = BTreeMap::new();
    for endpoint in slice.endpoints.iter().filter(|e| is_ready(e)) {
        let hints = endpoint.hints.as_ref().filter(|hints| !hints.for_zones.is_empty())?;
        for zone in &hints.for_zones {
            allocations.get(zone.name.as_str())?;
            *hinted.entry(zone.name.clone()).or_default() += 1;
        }
    }
    let fits = |(zone, count): (&String, &usize)| {
        let already = given.get(zone).copied().unwrap_or_default();
        allocations.get(zone.as_str()).is_some_and(|allocation| count + already <= allocation.most)
    };
    hinted.iter().all(fits).then_some(hinted)
}

/// How many endpoints zones give to others, and how many those get.
fn exchange(
    allocations: &BTreeMap<&str, Allocation>,
    given: &BTreeMap<String, usize>,
) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let (mut surplus, mut lack) = (BTreeMap::new(), BTreeMap::new());
    for (zone, allocation) in allocations {
        let has = given.get(*zone).copied().unwrap_or_default() as f64;
        if has > allocation.wanted {
            surplus.insert((*zone).to_owned(), has - allocation.wanted);
        } else if has < allocation.wanted {
            lack.insert((*zone).to_owned(), allocation.wanted - has);
        }
    }
    let most = |zones: &BTreeMap<String, f64>| {
        let most = zones.iter().filter(|(_, left)| **left > 0.0).max_by(|a, b| a.1.total_cmp(b.1));
        most.map(|(zone, left)| (zone.clone(), *left))
    };
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    while let (Some((from, more)), Some((to, less))) = (most(&surplus), most(&lack)) {
        if (more < 1.0 && less < 1.0) || more < 0.5 || less < 0.5 {
            break;
        }
        *giving.entry(from.clone()).or_default() += 1;
        *receiving.entry(to.clone()).or_default() += 1;
        surplus.insert(from, more - 1.0);
        lack.insert(to, less - 1.0);
    }
    (giving, receiving)
}

/// What is said when hints were given or taken away, `before` being whether there were some.
pub fn say(outcome: &Result<(), String>, before: bool, address_type: &str) -> Option<Said> {
    match outcome {
        Ok(()) if before => None,
        Ok(()) => {
            let message = format!("Topology Aware Hints has been enabled, addressType: {address_type}");
            Some((EventType::Normal, "TopologyAwareHintsEnabled", message))
        }
        Err(why) => Some((EventType::Warning, DISABLED, format!("{why}, addressType: {address_type}"))),
    }
}

/// What is said when hints are not asked for any more.
pub fn say_ended(address_type: &str) -> Said {
    (EventType::Warning, DISABLED, format!("Topology Aware Hints has been disabled, addressType: {address_type}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn shares_of(zones: &[(&str, i64)]) -> Option<Shares> {
        let node = |(zone, cpu): &(&str, i64)| {
            let node = json!({"metadata": {"labels": {ZONE: zone}}, "status": {"allocatable": {"cpu": format!("{cpu}m")},
                "conditions": [{"type": "Ready", "status": "True"}]}});
            Arc::new(serde_json::from_value::<Node>(node).unwrap())
        };
        let nodes: Vec<Arc<Node>> = zones.iter().map(node).collect();
        shares(nodes.iter())
    }

    /// One endpoint a zone.
    fn slice(zones: &[&str]) -> EndpointSlice {
        let endpoint = |zone: &&str| json!({"addresses": ["a"], "conditions": {"ready": true}, "zone": zone});
        let endpoints: Vec<_> = zones.iter().map(endpoint).collect();
        serde_json::from_value(json!({"metadata": {"name": "s"}, "endpoints": endpoints})).unwrap()
    }

    fn hints(slices: &[EndpointSlice]) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for endpoint in slices.iter().flat_map(|s| &s.endpoints) {
            let hints = endpoint.hints.as_ref().unwrap();
            *all.entry(hints.for_zones[0].name.clone()).or_default() += 1;
        }
        all
    }

    #[test]
    fn zones_get_their_share() {
        let shares = shares_of(&[("a", 1000), ("b", 1000), ("c", 2000)]).unwrap();
        let mut create = vec![slice(&["a", "a", "a", "a", "a", "b", "b", "c"])];
        let mut update = Vec::new();
        let mut slices = Slices { create: &mut create, update: &mut update, unchanged: Vec::new() };
        distribute(&mut slices, Some(&shares)).unwrap();
        assert_eq!(hints(&create), BTreeMap::from([("a".into(), 2), ("b".into(), 2), ("c".into(), 4)]));
        // What is well distributed stays.
        let stored: Vec<Arc<EndpointSlice>> = create.drain(..).map(Arc::new).collect();
        let mut slices = Slices { create: &mut create, update: &mut update, unchanged: stored.clone() };
        distribute(&mut slices, Some(&shares)).unwrap();
        assert!(update.is_empty());
        // When a zone grows it does not.
        let shares = shares_of(&[("a", 9000), ("b", 1000), ("c", 2000)]).unwrap();
        let mut slices = Slices { create: &mut create, update: &mut update, unchanged: stored };
        distribute(&mut slices, Some(&shares)).unwrap();
        assert_eq!(hints(&update)["a"], 5);
    }

    #[test]
    fn without_enough_to_go_round_there_are_none() {
        let why = |zones: &[&str], shares: Option<&Shares>| {
            let (mut create, mut update) = (vec![slice(zones)], Vec::new());
            create[0].endpoints.iter_mut().for_each(|e| e.hints = hint("x"));
            let mut slices = Slices { create: &mut create, update: &mut update, unchanged: Vec::new() };
            let why = distribute(&mut slices, shares).unwrap_err();
            assert!(create[0].endpoints.iter().all(|e| e.hints.is_none()));
            why
        };
        let even = shares_of(&[("a", 1), ("b", 1)]);
        assert!(why(&["a", "b"], None).starts_with("Insufficient Node information"));
        assert_eq!(why(&["a"], even.as_ref()), "Insufficient number of endpoints (1 endpoints, 2 zones)");
        assert_eq!(
            why(&["a", "", "b"], shares_of(&[("a", 1), ("b", 2)]).as_ref()),
            "One or more endpoints do not have a zone specified"
        );
        let three = shares_of(&[("a", 10), ("b", 10), ("c", 10)]);
        assert!(
            why(&["a", "a", "b", "b"], three.as_ref()).starts_with("Unable to allocate minimum required endpoints")
        );
    }

    #[test]
    fn without_hints_each_slice_is_written_once_and_only_if_it_had_some() {
        let shares = shares_of(&[("a", 1), ("b", 1)]);
        let mut hinted = slice(&["a", "", "b"]);
        hinted.endpoints[0].hints = hint("a");
        let (mut create, mut update) = (Vec::new(), vec![slice(&["a"])]);
        let unchanged = vec![Arc::new(hinted), Arc::new(slice(&["a", "", "b"]))];
        let mut slices = Slices { create: &mut create, update: &mut update, unchanged };
        let why = distribute(&mut slices, shares.as_ref()).unwrap_err();
        assert_eq!(why, "One or more endpoints do not have a zone specified");
        assert_eq!(update.iter().map(|s| s.endpoints.len()).collect::<Vec<_>>(), [1, 3]);
        assert!(create.is_empty() && update.iter().flat_map(|s| &s.endpoints).all(|e| e.hints.is_none()));
    }

    #[test]
    fn shares_need_every_node() {
        assert!(shares_of(&[("a", 1)]).is_none() && shares_of(&[("a", 1), ("", 1)]).is_none());
        assert!(shares_of(&[("a", 1), ("b", 0)]).is_none());
        assert!(are_wanted(&[(MODE, "Auto")].into_iter().collect()));
    }
}
