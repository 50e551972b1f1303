//! The metrics APIs: those of resources, of objects and of things outside, wherever they are served.

use std::time::Duration;

use jiff::Timestamp;
use kedge_client::{Client, Discovery, Error, ListParams};
use kedge_meta::quantity::Quantity;
use serde::{Deserialize, Deserializer};

use super::calculator::{PodMetric, PodMetrics};
use super::types::Target;
use crate::objects::parse_time;
use crate::scales;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// The versions of metrics of objects that are understood.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
/// What a metric of an object is about when it does not say.
const WINDOW: Duration = Duration::from_secs(60);

/// Reads metrics.
pub struct Metrics<'a> {
    pub client: &'a Client,
    pub discovery: &'a Discovery,
    pub namespace: &'a str,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodUsage {
    metadata: kedge_meta::ObjectMeta,
    timestamp: Option<String>,
    window: String,
    containers: Vec<ContainerUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerUsage {
    name: String,
    usage: std::collections::BTreeMap<String, Amount>,
}

/// A quantity in thousandths. An answer in which one cannot be read says nothing: it is not taken for zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Amount(i64);

impl<'de> Deserialize<'de> for Amount {
    /// A quantity may be written as a number, too; `null` is zero.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Null => return Ok(Self::default()),
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        Quantity::parse(text.trim()).map(|q| Self(q.milli_value())).map_err(serde::de::Error::custom)
    }
}

/// A value in either version of metrics of objects, or of metrics of things outside.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Measured {
    described_object: Described,
    timestamp: Option<String>,
    #[serde(alias = "window")]
    window_seconds: Option<i64>,
    value: Amount,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Described {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MeasuredList {
    items: Option<Vec<Measured>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Group {
    versions: Vec<GroupVersion>,
    preferred_version: GroupVersion,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GroupVersion {
    version: String,
}

fn timestamp(text: Option<&String>) -> Timestamp {
    parse_time(text).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Metrics<'_> {
    /// What pods use of a resource; with `container`, what that one uses.
    ///
    /// # Errors
    /// In upstream's words.
    pub async fn resource(&self, resource: &str, selector: &str, container: &str) -> Result<PodMetrics, String> {
        let kind = scales::resource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics");
        let params = ListParams::labels(selector);
        let list = self.client.list::<PodUsage>(&kind, self.namespace, &params).await.map_err(|err| {
            let said = said(&err, "pods.metrics.k8s.io");
            format!("unable to get metrics for resource {resource}: unable to fetch metrics from resource metrics API: {said}")
        })?;
        if list.items.is_empty() {
            return Err(format!(
                "unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
            ));
        }
        let metric = |usage: &PodUsage| {
            Some((
                usage.metadata.name.clone(),
                PodMetric {
                    value: sum(usage, resource, container)?,
                    timestamp: timestamp(usage.timestamp.as_ref()),
                    window: kedge_base::time::go_duration(&usage.window).unwrap_or_default(),
                },
            ))
        };
        Ok(list.items.iter().filter_map(metric).collect())
    }

    /// A metric of pods.
    ///
    /// # Errors
    /// In upstream's words.
    pub async fn pods(&self, metric: &str, selector: &str, metric_selector: &str) -> Result<PodMetrics, String> {
        let query = [("labelSelector", selector), ("metricLabelSelector", metric_selector)];
        let items = self.of_objects("pods", "*", metric, &query).await;
        let items = items.map_err(|why| format!("unable to fetch metrics from custom metrics API: {why}"));
        let items = items.and_then(|items| match items.is_empty() {
            true => Err("no metrics returned from custom metrics API".to_owned()),
            false => Ok(items),
        });
        let items = items.map_err(|why| format!("unable to get metric {metric}: {why}"))?;
        let window =
            |m: &Measured| m.window_seconds.map_or(WINDOW, |s| Duration::from_secs(s.try_into().unwrap_or_default()));
        let metric = |m: &Measured| {
            let metric = PodMetric { value: m.value.0, timestamp: timestamp(m.timestamp.as_ref()), window: window(m) };
            (m.described_object.name.clone(), metric)
        };
        Ok(items.iter().map(metric).collect())
    }

    /// A metric of one object, in thousandths.
    ///
    /// # Errors
    /// In upstream's words.
    pub async fn object(&self, metric: &str, object: &Target, metric_selector: &str) -> Result<i64, String> {
        let fails = |why: String| {
            let Target { kind, name, .. } = object;
            let why = format!("unable to fetch metrics from custom metrics API: {why}");
            format!("unable to get metric {metric}: {why} on {kind} {}/{name}", self.namespace)
        };
        let group = object.api_version.split_once('/').map(|(group, _)| group).unwrap_or_default();
        let query = [("metricLabelSelector", metric_selector)];
        let items = if group.is_empty() && object.kind == "Namespace" {
            // It is the own one, whatever it says: one does not look into others.
            self.of_objects("metrics", "", metric, &query).await
        } else {
            match scales::find(self.discovery, group, &object.kind).await {
                Err(why) => {
                    let kind = if group.is_empty() { object.kind.clone() } else { format!("{}.{group}", object.kind) };
                    Err(format!("unable to map kind {kind} to resource: {why}"))
                }
                Ok(kinds) => {
                    let plural = kinds.first().map(|r| r.group_resource().to_string()).unwrap_or_default();
                    self.of_objects(&plural, &object.name, metric, &query).await
                }
            }
        };
        let items = items.map_err(fails)?;
        match items.as_slice() {
            [one] => Ok(one.value.0),
            many => Err(fails(format!(
                "the custom metrics API server returned {} results when we asked for exactly one",
                many.len()
            ))),
        }
    }

    /// Values of a metric of something outside, in thousandths.
    ///
    /// # Errors
    /// In upstream's words.
    pub async fn external(&self, metric: &str, selector: &str) -> Result<Vec<i64>, String> {
        let kind = scales::resource(EXTERNAL, "v1beta1", segment(metric)?, "ExternalMetricValueList");
        let list = self.client.list::<Measured>(&kind, self.namespace, &ListParams::labels(selector)).await;
        let list = list.map_err(|err| {
            let said = said(&err, &format!("{metric}.{EXTERNAL}"));
            format!("unable to fetch metrics from external metrics API: {said}")
        })?;
        if list.items.is_empty() {
            return Err("no metrics returned from external metrics API".to_owned());
        }
        Ok(list.items.iter().map(|measured| measured.value.0).collect())
    }

    async fn of_objects(
        &self,
        plural: &str,
        name: &str,
        metric: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<Measured>, String> {
        let version = self.custom_version().await?;
        let kind = scales::resource(CUSTOM, &version, plural, "MetricValueList");
        // That of a namespace has its name in the place of an object's.
        let (name, subresource) = if name.is_empty() { (segment(metric)?, "") } else { (name, segment(metric)?) };
        let list: Result<MeasuredList, Error> =
            self.client.get_with(&kind, self.namespace, name, subresource, query).await;
        let list = list.map_err(|err| said(&err, &format!("{plural}.{CUSTOM} {name}")))?;
        Ok(list.items.unwrap_or_default())
    }

    /// The version in which metrics of objects are served.
    async fn custom_version(&self) -> Result<String, String> {
        let group = match self.client.get_raw(&format!("/apis/{CUSTOM}")).await {
            Ok(bytes) => serde_json::from_slice::<Group>(&bytes).map_err(|err| err.to_string())?,
            Err(err) if err.is_not_found() => return Err(format!("no custom metrics API ({CUSTOM}) registered")),
            Err(err) => return Err(said(&err, "")),
        };
        let mut versions = [&group.preferred_version].into_iter().chain(&group.versions);
        let known = versions.find(|v| CUSTOM_VERSIONS.contains(&v.version.as_str()));
        known.map(|v| v.version.clone()).ok_or_else(|| "no known available metric versions found".to_owned())
    }
}

/// What the containers of a pod use together, or that one does. None when it is not known of one of them.
fn sum(usage: &PodUsage, resource: &str, container: &str) -> Option<i64> {
    let amount = |c: &ContainerUsage| c.usage.get(resource).map(|amount| amount.0);
    if !container.is_empty() {
        return usage.containers.iter().find(|c| c.name == container).and_then(amount);
    }
    let mut all = usage.containers.iter().map(amount).peekable();
    all.peek()?;
    all.try_fold(0_i64, |sum, amount| Some(sum.saturating_add(amount?)))
}

/// A name that stays one segment of a path.
fn segment(name: &str) -> Result<&str, String> {
    let bad = matches!(name, "" | "." | "..") || name.contains(['/', '%']);
    if bad { Err(format!("invalid resource {name:?}")) } else { Ok(name) }
}

/// What the server answered, in the words that clients have for answers which say nothing themselves.
fn said(err: &Error, of: &str) -> String {
    let Some(status) = err.status() else { return scales::reason(err) };
    let silent = status.details.is_none() && status.reason == kedge_meta::Reason::Unknown;
    let what = match status.code {
        404 if silent => "the server could not find the requested resource",
        503 if silent => "the server is currently unable to handle the request",
        504 if silent => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        _ => return status.message.clone(),
    };
    if of.is_empty() { what.to_owned() } else { format!("{what} (get {of})") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_read_in_each_version() {
        let read = |value| serde_json::from_value::<Measured>(value).unwrap();
        let new = read(
            json!({"describedObject": {"name": "a"}, "metric": {"name": "m"}, "windowSeconds": 30, "value": "1500m"}),
        );
        assert_eq!((new.value.0, new.window_seconds, new.described_object.name.as_str()), (1500, Some(30), "a"));
        let old = read(json!({"describedObject": {"name": "a"}, "metricName": "m", "window": 20, "value": 7}));
        assert_eq!((old.value.0, old.window_seconds), (7000, Some(20)));
    }

    #[test]
    fn a_value_that_cannot_be_read_is_not_zero() {
        let read = |value| serde_json::from_value::<Measured>(value).map(|measured| measured.value.0);
        assert_eq!(read(json!({"value": null})).unwrap(), 0);
        assert_eq!(read(json!({})).unwrap(), 0);
        for bad in [json!("many"), json!(""), json!("NaN"), json!("1x"), json!(true), json!([1]), json!({})] {
            assert!(read(json!({"value": bad})).is_err(), "{bad}");
        }
        let why = read(json!({"value": "many"})).unwrap_err().to_string();
        assert!(why.starts_with("quantities must match the regular expression"), "{why}");
        let usage = json!({"containers": [{"name": "a", "usage": {"cpu": "many"}}]});
        assert!(serde_json::from_value::<PodUsage>(usage).is_err());
    }

    #[test]
    fn a_pod_counts_when_all_its_containers_are_known() {
        let usage = |value| serde_json::from_value::<PodUsage>(value).unwrap();
        let both = usage(
            json!({"containers": [{"name": "a", "usage": {"cpu": "100m", "memory": "1Ki"}}, {"name": "b", "usage": {"cpu": "1"}}]}),
        );
        assert_eq!(sum(&both, "cpu", ""), Some(1100));
        assert_eq!(sum(&both, "cpu", "b"), Some(1000));
        assert_eq!(sum(&both, "memory", ""), None);
        assert_eq!(sum(&both, "memory", "a"), Some(1_024_000));
        assert_eq!(sum(&both, "cpu", "c"), None);
        assert_eq!(sum(&usage(json!({"containers": []})), "cpu", ""), None);
    }

    #[test]
    fn names_of_metrics_lead_nowhere_else() {
        assert!(["..", ".", "", "a/b", "a%2Fb"].iter().all(|name| segment(name).is_err()));
        assert_eq!(segment("queue_length"), Ok("queue_length"));
    }
}
