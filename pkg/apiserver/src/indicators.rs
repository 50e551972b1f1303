//! How the checks of the server's health went: what service level indicators are made of.

use std::collections::BTreeMap;

use kedge_base::exposition::Exposition;
use parking_lot::Mutex;

/// By check and endpoint, of which there are as many as are declared.
#[derive(Default)]
pub(crate) struct Indicators(Mutex<BTreeMap<(&'static str, &'static str), Count>>);

#[derive(Default, Clone, Copy)]
struct Count {
    well: bool,
    failures: u64,
    successes: u64,
}

impl Indicators {
    /// Counts a check of an endpoint.
    pub(crate) fn count(&self, check: &'static str, endpoint: &'static str, well: bool) {
        let mut counts = self.0.lock();
        let count = counts.entry((check, endpoint)).or_default();
        count.well = well;
        *if well { &mut count.successes } else { &mut count.failures } += 1;
    }

    /// The metrics, by upstream's names.
    pub(crate) fn show(&self, out: &mut Exposition) {
        let counts = self.0.lock().clone();
        let name = "kubernetes_healthcheck";
        out.family(name, "gauge", "[STABLE] This metric records the result of a single healthcheck.");
        for ((check, endpoint), count) in &counts {
            out.sample(name, &[("name", check), ("type", endpoint)], f64::from(u8::from(count.well)));
        }
        let name = "kubernetes_healthchecks_total";
        out.family(name, "counter", "[STABLE] This metric records the results of all healthcheck.");
        let totals: BTreeMap<_, _> = counts
            .iter()
            .flat_map(|((check, endpoint), count)| {
                [((check, "error", endpoint), count.failures), ((check, "success", endpoint), count.successes)]
            })
            .filter(|(_, times)| *times > 0)
            .collect();
        for ((check, status, endpoint), times) in totals {
            out.sample(name, &[("name", check), ("status", status), ("type", endpoint)], times as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_by_check_and_endpoint() {
        let indicators = Indicators::default();
        indicators.count("etcd", "readyz", false);
        indicators.count("etcd", "readyz", true);
        indicators.count("etcd", "livez", true);
        let mut out = Exposition::default();
        indicators.show(&mut out);
        let text = out.into_text();
        for line in [
            "kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1",
            "kubernetes_healthchecks_total{name=\"etcd\",status=\"error\",type=\"readyz\"} 1",
            "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"livez\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
