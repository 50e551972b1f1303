//! Which ServiceCIDRs have to do with each other, and with an address.

use std::net::IpAddr;
use std::sync::Arc;

use kedge_meta::{Cidr, ObjectKey};

use super::ServiceCidr;

/// The ranges of one ServiceCIDR or several.
pub(super) struct Ranges(Vec<Cidr>);

impl Ranges {
    pub(super) fn of<'a>(texts: impl IntoIterator<Item = &'a String>) -> Self {
        Self(texts.into_iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// Whether a service can have the address because of them.
    pub(super) fn have(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|range| range.has_service_address(ip))
    }

    /// Whether each of the others lies in one of these: then no address depends on the others.
    pub(super) fn cover(&self, others: &Self) -> bool {
        others.0.iter().all(|other| self.0.iter().any(|range| range.covers(other) && usable(range, other)))
    }

    fn overlap(&self, others: &Self) -> bool {
        self.0.iter().any(|range| others.0.iter().any(|other| range.overlaps(other)))
    }
}

/// Whether all addresses that services have of the smaller range they can have of the larger one.
fn usable(larger: &Cidr, smaller: &Cidr) -> bool {
    let ends = smaller.usable().map(|(first, last)| [first, last].map(|number| smaller.address(number)));
    ends.is_none_or(|ends| ends.into_iter().all(|ip| larger.has_service_address(ip)))
}

/// Those that share addresses with a range.
pub(super) fn overlapping(ranges: &Ranges, all: &[Arc<ServiceCidr>]) -> Vec<ObjectKey> {
    let shares = |cidr: &&Arc<ServiceCidr>| ranges.overlap(&Ranges::of(&cidr.spec.cidrs));
    all.iter().filter(shares).map(|cidr| cidr.metadata.key()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ranges(texts: &[&str]) -> Ranges {
        Ranges(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn who_is_covered_by_others_is_not_needed() {
        let both = ranges(&["10.0.0.0/24", "fd00::/112"]);
        assert!(ranges(&["10.0.0.0/16", "fd00::/64"]).cover(&both));
        assert!(!ranges(&["10.0.0.0/16"]).cover(&both) && !ranges(&["10.0.0.0/25", "fd00::/64"]).cover(&both));
        assert!(ranges(&["10.0.0.0/24"]).cover(&ranges(&["10.0.0.0/24"])));
    }

    #[test]
    fn the_ends_of_ranges_belong_to_no_service() {
        let (one, ip) = (ranges(&["10.0.0.0/24"]), |text: &str| text.parse().unwrap());
        assert!(one.have(ip("10.0.0.1")) && !one.have(ip("10.0.0.0")) && !one.have(ip("10.0.0.255")));
        assert!(ranges(&["10.0.0.0/23"]).have(ip("10.0.0.255")));
    }

    #[test]
    fn neighbours_do_not_overlap() {
        let cidr = |name: &str, cidrs: &str| -> Arc<ServiceCidr> {
            let object = serde_json::json!({"metadata": {"name": name}, "spec": {"cidrs": [cidrs]}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let all = [cidr("a", "10.0.0.0/16"), cidr("b", "10.1.0.0/16"), cidr("c", "10.0.7.0/24")];
        let names: Vec<String> = overlapping(&ranges(&["10.0.7.0/25"]), &all).into_iter().map(|key| key.name).collect();
        assert_eq!(names, ["a", "c"]);
    }
}
