//! What one metric proposes: it is read, and weighed against its target.

use std::sync::Arc;

use kedge_client::Error;
use kedge_meta::labels::Selector;
use kedge_meta::quantity::Quantity;
use serde_json::{Value, json};

use super::calculator::{Workload, by_share};
use super::metrics::Metrics;
use super::types::{Aim, Metric, Source};
use crate::objects::{Pod, printed_selector};
use crate::scales;

/// What a metric proposes.
#[derive(Debug, PartialEq)]
pub struct Proposal {
    pub replicas: i32,
    /// What it is called where it is the reason.
    pub name: String,
    /// What is seen, as the status has it.
    pub status: Value,
}

/// A metric that proposes nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    pub reason: &'static str,
    /// Of the event and the condition.
    pub cause: String,
    /// Of the whole.
    pub message: String,
    /// Whether what is asked for is wrong.
    pub spec: bool,
}

/// What proposals are made from.
pub struct Basis<'a> {
    pub metrics: Metrics<'a>,
    pub workload: Workload<'a>,
    /// As the scale says there are.
    pub status_replicas: i32,
    /// That of the pods, as the scale says it.
    pub selector: &'a str,
}

const NO_RESOURCE_TARGET: &str =
    "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
const NO_OBJECT_TARGET: &str =
    "invalid object metric source: neither a value target nor an average value target was set";
const NO_EXTERNAL_TARGET: &str =
    "invalid external metric source: neither a value target nor an average value target was set";

fn millis(text: &str) -> i64 {
    Quantity::parse(text).map(|q| q.milli_value()).unwrap_or_default()
}

fn decimal(millis: i64) -> String {
    Quantity::from_millis(millis).to_string()
}

/// Memory is shown in bytes by powers of two, where they are whole.
fn amount(resource: &str, millis: i64) -> String {
    if resource == "memory" && millis % 1000 == 0 && millis.unsigned_abs() >= 1_024_000 {
        return Quantity::from_bytes(millis / 1000).to_string();
    }
    decimal(millis)
}

/// The query form of a metric's selector; empty when there is none.
fn selected(selector: &Value) -> Result<String, String> {
    Selector::from_label_selector(selector).map(|s| s.to_string()).map_err(|err| err.to_string())
}

impl Basis<'_> {
    /// What `metric` proposes.
    ///
    /// # Errors
    /// Why it proposes nothing.
    pub async fn propose(&self, metric: &Metric) -> Result<Proposal, Failed> {
        let missing = |kind: &str| Failed::plain(format!("unknown metric source type {kind:?}"));
        let source = match metric.kind.as_str() {
            "Object" => &metric.object,
            "Pods" => &metric.pods,
            "Resource" => &metric.resource,
            "ContainerResource" => &metric.container_resource,
            "External" => &metric.external,
            other => return Err(missing(other)),
        };
        let source = source.as_deref().ok_or_else(|| missing(&metric.kind))?;
        match metric.kind.as_str() {
            "Object" => self.object(source).await,
            "Pods" => self.pods(source).await,
            "External" => self.external(source).await,
            _ => self.resource(source).await,
        }
    }

    async fn resource(&self, source: &Source) -> Result<Proposal, Failed> {
        let Source { name, container, .. } = source;
        let whole = container.is_empty();
        let found = self.resource_usage(source).await.map_err(|cause| {
            let (reason, message) = if whole {
                ("FailedGetResourceMetric", format!("failed to get {name} resource metric value: {cause}"))
            } else {
                (
                    "FailedGetContainerResourceMetric",
                    format!("failed to get {container} container metric value: {cause}"),
                )
            };
            Failed { reason, cause, message, spec: false }
        });
        let (replicas, called, current) = found?;
        let status = if whole {
            json!({"type": "Resource", "resource": {"name": name, "current": current}})
        } else {
            let seen = json!({"name": name, "container": container, "current": current});
            json!({"type": "ContainerResource", "containerResource": seen})
        };
        Ok(Proposal { replicas, name: called, status })
    }

    /// The pods, what the metric is called, and what is seen.
    async fn resource_usage(&self, source: &Source) -> Result<(i32, String, Value), String> {
        let Source { name, container, target, .. } = source;
        if let Some(average) = &target.average_value {
            let fails = |why: String| format!("failed to get {name} usage: {why}");
            let seen = self.metrics.resource(name, self.selector, container).await.map_err(fails)?;
            let (replicas, usage) = self.workload.by_average(seen, name, millis(average)).map_err(fails)?;
            return Ok((replicas, format!("{name} resource"), json!({"averageValue": amount(name, usage)})));
        }
        let share = target.average_utilization.ok_or(NO_RESOURCE_TARGET)?;
        let fails = |why: String| format!("failed to get {name} utilization: {why}");
        let seen = self.metrics.resource(name, self.selector, container).await.map_err(fails)?;
        let found = self.workload.by_utilization(seen, (name, container), share).map_err(fails)?;
        let of = if container.is_empty() { "resource" } else { "container resource" };
        let current = json!({"averageUtilization": found.utilization, "averageValue": amount(name, found.raw)});
        Ok((found.replicas, format!("{name} {of} utilization (percentage of request)"), current))
    }

    async fn pods(&self, source: &Source) -> Result<Proposal, Failed> {
        let name = &source.metric.name;
        let found = async {
            let selector = selected(&source.metric.selector)?;
            let seen = self.metrics.pods(name, self.selector, &selector).await?;
            let target = source.target.average_value.as_deref().map(millis).unwrap_or_default();
            self.workload.by_average(seen, "", target)
        };
        let (replicas, usage) = found.await.map_err(|cause| {
            let message = format!("failed to get pods metric value: {cause}");
            Failed { reason: "FailedGetPodsMetric", cause, message, spec: false }
        })?;
        let seen = json!({"metric": source.metric.written(), "current": {"averageValue": decimal(usage)}});
        Ok(Proposal { replicas, name: format!("pods metric {name}"), status: json!({"type": "Pods", "pods": seen}) })
    }

    async fn object(&self, source: &Source) -> Result<Proposal, Failed> {
        let name = &source.metric.name;
        let wrap = |cause: String, inner: String| {
            let message = format!("failed to get object metric value: {inner}");
            Failed { reason: "FailedGetObjectMetric", cause, message, spec: false }
        };
        let same = |cause: String| wrap(cause.clone(), cause);
        let selector = selected(&source.metric.selector).map_err(same)?;
        let read = || self.metrics.object(name, &source.described_object, &selector);
        let (replicas, called, current) = match &source.target {
            Aim { kind, value: Some(value), .. } if kind == "Value" => {
                let usage = read().await.map_err(same)?;
                let replicas = self.workload.by_ratio(usage as f64 / millis(value) as f64).map_err(same)?;
                let called = format!("{} metric {name}", source.described_object.kind);
                (replicas, called, json!({"value": decimal(usage)}))
            }
            Aim { kind, average_value: Some(value), .. } if kind == "AverageValue" => {
                let usage = read().await.map_err(|cause| {
                    let inner = format!("failed to get {name} object metric: {cause}");
                    wrap(cause, inner)
                })?;
                let (replicas, share) = self.share(usage, value);
                (replicas, outside(source), json!({"averageValue": decimal(share)}))
            }
            _ => return Err(same(NO_OBJECT_TARGET.to_owned())),
        };
        let described = source.described_object.written();
        let seen = json!({"describedObject": described, "metric": source.metric.written(), "current": current});
        Ok(Proposal { replicas, name: called, status: json!({"type": "Object", "object": seen}) })
    }

    async fn external(&self, source: &Source) -> Result<Proposal, Failed> {
        let name = &source.metric.name;
        let wrap = |cause: String, inner: String| {
            let message = format!("failed to get {name} external metric value: {inner}");
            Failed { reason: "FailedGetExternalMetric", cause, message, spec: false }
        };
        let sum = async {
            let selector = selected(&source.metric.selector)?;
            let values = self.metrics.external(name, &selector).await.map_err(|why| {
                let of = printed_selector(&source.metric.selector);
                format!("unable to get external metric {}/{name}/{of}: {why}", self.metrics.namespace)
            })?;
            Ok::<_, String>(values.into_iter().fold(0_i64, i64::saturating_add))
        };
        let (replicas, current) = match &source.target {
            Aim { average_value: Some(value), .. } => {
                let usage = sum.await.map_err(|cause| {
                    let inner = format!("failed to get {name} external metric: {cause}");
                    wrap(cause, inner)
                })?;
                let (replicas, share) = self.share(usage, value);
                (replicas, json!({"averageValue": decimal(share)}))
            }
            Aim { value: Some(value), .. } => {
                let found = async {
                    let usage = sum.await?;
                    Ok((self.workload.by_ratio(usage as f64 / millis(value) as f64)?, usage))
                };
                let (replicas, usage) = found.await.map_err(|cause: String| {
                    let inner = format!("failed to get external metric {name}: {cause}");
                    wrap(cause, inner)
                })?;
                (replicas, json!({"value": decimal(usage)}))
            }
            _ => return Err(wrap(NO_EXTERNAL_TARGET.to_owned(), NO_EXTERNAL_TARGET.to_owned())),
        };
        let seen = json!({"metric": source.metric.written(), "current": current});
        Ok(Proposal { replicas, name: outside(source), status: json!({"type": "External", "external": seen}) })
    }

    fn share(&self, usage: i64, target: &str) -> (i32, i64) {
        by_share(usage, millis(target), self.status_replicas, self.workload.tolerances)
    }
}

/// What a metric that is shared among the pods is called.
fn outside(source: &Source) -> String {
    format!("external metric {}({})", source.metric.name, printed_selector(&source.metric.selector))
}

impl Failed {
    /// What is asked for is wrong.
    pub fn plain(cause: String) -> Self {
        Self { reason: "InvalidMetricSourceType", message: cause.clone(), cause, spec: true }
    }
}

/// What an autoscaler could not do, and whether what it asks for is to blame.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub message: String,
    pub spec: bool,
}

impl Failure {
    /// Nobody's fault, or that of a server.
    pub fn internal(message: String) -> Self {
        Self { message, spec: false }
    }
}

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        Self::internal(scales::reason(&err))
    }
}

/// The pods of a namespace that a selector matches.
pub fn matching(pods: Vec<Arc<Pod>>, selector: &Selector) -> Vec<Arc<Pod>> {
    pods.into_iter().filter(|pod| selector.matches(&pod.metadata.labels)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shown_as_the_metrics_server_does() {
        assert_eq!(amount("memory", 1_048_576_000), "1Mi");
        assert_eq!(amount("memory", 1_500_500), "1500500m");
        assert_eq!(amount("memory", 1_000_000), "1k");
        assert_eq!(amount("memory", 512_000), "512");
        assert_eq!((amount("cpu", 1_048_576_000), amount("cpu", 250)), ("1048576".to_owned(), "250m".to_owned()));
    }
}
