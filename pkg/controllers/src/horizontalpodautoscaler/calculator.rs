//! How many pods a metric asks for.
//!
//! Pods of which nothing is known yet, or that have only begun, must not make a workload grow or shrink the wrong way: they are
//! counted as if they used nothing when it would grow, and as much as they should when it would shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::pods::{self, Groups};
use crate::objects::Pod;

/// What one pod uses, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodMetric {
    pub value: i64,
    pub timestamp: Timestamp,
    pub window: Duration,
}

/// By the names of pods.
pub type PodMetrics = BTreeMap<String, PodMetric>;

/// How far usage may be off its target before anything is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    pub down: f64,
    pub up: f64,
}

impl Tolerances {
    fn accept(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// The pods, and what is asked of them.
#[derive(Clone, Copy)]
pub struct Workload<'a> {
    pub pods: &'a [Arc<Pod>],
    /// As its scale says it should have.
    pub replicas: i32,
    pub tolerances: Tolerances,
    /// How long after their start pods may use more CPU than later.
    pub cpu_initialization: Duration,
    /// A pod that becomes unready within this time of its start has not been ready.
    pub initial_readiness: Duration,
    pub now: Timestamp,
}

/// What a share of what is requested asks for: the pods, the share, and what a pod uses.
#[derive(Debug, PartialEq, Eq)]
pub struct Utilized {
    pub replicas: i32,
    pub utilization: i32,
    pub raw: i64,
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

impl Workload<'_> {
    /// Sorts the pods and leaves of the metrics those of pods that count.
    fn group(&self, metrics: &mut PodMetrics, resource: &str) -> Result<Groups, String> {
        if self.pods.is_empty() {
            return Err(NO_PODS.to_owned());
        }
        let groups = pods::group(self, metrics, resource);
        metrics.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
        if metrics.is_empty() { Err(NO_METRICS.to_owned()) } else { Ok(groups) }
    }

    /// So that pods use that share of what they request. An empty `container` is all of them.
    ///
    /// # Errors
    /// When nothing is known of the pods or they request nothing.
    pub fn by_utilization(
        &self,
        mut metrics: PodMetrics,
        (resource, container): (&str, &str),
        target: i32,
    ) -> Result<Utilized, String> {
        let groups = self.group(&mut metrics, resource)?;
        let requests = pods::requests(self.pods, container, resource)?;
        let (ratio, utilization, raw) = utilization(&metrics, &requests, target)?;
        let full = i64::from(target.max(100));
        let replicas = self.settle(
            metrics,
            &groups,
            ratio,
            |name| percent(requests.get(name).copied().unwrap_or_default(), full),
            |metrics| utilization_ratio(metrics, &requests, target),
        )?;
        Ok(Utilized { replicas, utilization, raw })
    }

    /// So that pods use `target` on average. Returns what they use, too.
    ///
    /// # Errors
    /// When nothing is known of the pods.
    pub fn by_average(&self, mut metrics: PodMetrics, resource: &str, target: i64) -> Result<(i32, i64), String> {
        let groups = self.group(&mut metrics, resource)?;
        let (ratio, usage) = usage_ratio(&metrics, target);
        let replicas =
            self.settle(metrics, &groups, ratio, |_| target, |metrics| Ok(usage_ratio(metrics, target).0))?;
        Ok((replicas, usage))
    }

    /// From the ratio of use to target among the pods that are known, to a count of pods.
    fn settle(
        &self,
        mut metrics: PodMetrics,
        groups: &Groups,
        ratio: f64,
        full: impl Fn(&str) -> i64,
        again: impl Fn(&PodMetrics) -> Result<f64, String>,
    ) -> Result<i32, String> {
        let grows_unready = !groups.unready.is_empty() && ratio > 1.0;
        if !grows_unready && groups.missing.is_empty() {
            let kept = self.tolerances.accept(ratio);
            return Ok(if kept { self.replicas } else { (ratio * groups.ready as f64).ceil() as i32 });
        }
        let mut assume = |names: &BTreeSet<String>, value: &dyn Fn(&str) -> i64| {
            let metric =
                |name: &str| PodMetric { value: value(name), timestamp: self.now, window: Duration::default() };
            metrics.extend(names.iter().map(|name| (name.clone(), metric(name))));
        };
        if ratio < 1.0 {
            assume(&groups.missing, &full);
        } else if ratio > 1.0 {
            assume(&groups.missing, &|_| 0);
        }
        if grows_unready {
            assume(&groups.unready, &|_| 0);
        }
        let new = again(&metrics)?;
        if self.tolerances.accept(new) || (ratio < 1.0 && new > 1.0) || (ratio > 1.0 && new < 1.0) {
            return Ok(self.replicas);
        }
        let replicas = (new * metrics.len() as f64).ceil() as i32;
        // Nor may the number of pods that are counted turn it round.
        let turns = (new < 1.0 && replicas > self.replicas) || (new > 1.0 && replicas < self.replicas);
        Ok(if turns { self.replicas } else { replicas })
    }

    /// From the ratio of one value to its target.
    ///
    /// # Errors
    /// When there are no pods though there should be.
    pub fn by_ratio(&self, ratio: f64) -> Result<i32, String> {
        if self.replicas == 0 {
            return Ok(ratio.ceil() as i32);
        }
        if self.tolerances.accept(ratio) {
            return Ok(self.replicas);
        }
        if self.pods.is_empty() {
            return Err(format!("unable to calculate ready pods: {NO_PODS}"));
        }
        let ready = self.pods.iter().filter(|pod| pod.status.phase == "Running" && pod.is_ready()).count();
        Ok((ratio * ready as f64).ceil() as i32)
    }
}

/// So that `usage`, shared among the pods that there are, is `target` for each. Returns what is each one's share, too.
pub fn by_share(usage: i64, target: i64, status_replicas: i32, tolerances: Tolerances) -> (i32, i64) {
    let ratio = usage as f64 / (target as f64 * f64::from(status_replicas));
    let wanted = (usage as f64 / target as f64).ceil() as i32;
    let replicas = if tolerances.accept(ratio) { status_replicas } else { wanted };
    let share = if usage == i64::MAX { usage } else { (usage as f64 / f64::from(status_replicas)).ceil() as i64 };
    (replicas, share)
}

fn percent(of: i64, percent: i64) -> i64 {
    narrow(i128::from(of) * i128::from(percent) / 100)
}

fn narrow(wide: i128) -> i64 {
    i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
}

fn utilization_ratio(metrics: &PodMetrics, requests: &BTreeMap<String, i64>, target: i32) -> Result<f64, String> {
    Ok(utilization(metrics, requests, target)?.0)
}

/// The ratio of use to target, the share of what is requested in percent, and what a pod uses on average.
fn utilization(metrics: &PodMetrics, requests: &BTreeMap<String, i64>, target: i32) -> Result<(f64, i32, i64), String> {
    let known = || metrics.iter().filter_map(|(name, metric)| Some((metric.value, *requests.get(name)?)));
    let used: i128 = known().map(|(value, _)| i128::from(value)).sum();
    let requested: i128 = known().map(|(_, request)| i128::from(request)).sum();
    if requested == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let percent = i32::try_from(used.saturating_mul(100) / requested).unwrap_or(i32::MAX);
    let count = i128::try_from(known().count()).unwrap_or(i128::MAX);
    Ok((f64::from(percent) / f64::from(target), percent, narrow(used / count.max(1))))
}

/// The ratio of use to target, and what a pod uses on average.
fn usage_ratio(metrics: &PodMetrics, target: i64) -> (f64, i64) {
    let used: i128 = metrics.values().map(|metric| i128::from(metric.value)).sum();
    let usage = narrow(used / i128::try_from(metrics.len()).unwrap_or(i128::MAX).max(1));
    (usage as f64 / target as f64, usage)
}

#[cfg(test)]
#[path = "calculator_tests.rs"]
mod tests;
