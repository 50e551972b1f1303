//! `metrics.k8s.io`: what nodes and pods use, answered as metrics-server answers.
//!
//! Nodes and pods are those of the caches, with their labels; [`crate::backends::Usages`] asks their kubelets. What a kubelet does not
//! tell is missing from a list, and is not found alone.

use std::collections::HashMap;
use std::sync::Arc;

use http::{Response, StatusCode};
use kedge_base::time::{go_duration_text, rfc3339};
use kedge_meta::quantity::Quantity;
use kedge_meta::{GroupResource, Status, fields, labels};
use kedge_registry::printers;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Served, convert};
use kedge_schema::ResourceInfo;
use kedge_storage::{Matcher, Object};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::debug;

use crate::admitted::Admitted;
use crate::backends::{Backend, NodeUsage, Sample};
use crate::body::Body;
use crate::input::negotiate::{self, Accepted, Offer, Shape};
use crate::input::request_info::RequestInfo;
use crate::kubelets;
use crate::output::table::ListMeta;
use crate::output::{list, object, respond};
use crate::server::ApiServer;

/// The group that is answered here.
pub(crate) const GROUP: &str = "metrics.k8s.io";

/// Answers a request on the use of nodes or pods.
pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    admitted: &Admitted,
    resource: &ResourceInfo,
) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    let nowhere = resource.namespaced && info.namespace.is_empty() && !info.name.is_empty();
    if !info.subresource.is_empty() || nowhere {
        return Err(Status::unknown_path());
    }
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(resource))?;
    let printer = printers::of(&resource.group, &resource.plural);
    match info.verb.as_str() {
        "get" => {
            let found = match resource.namespaced {
                true => pod(server, info).await?,
                false => node(server, &info.name).await?,
            };
            object::shaped(server, info, &printer, &found, StatusCode::OK, accepted)
        }
        "list" => {
            let matcher = matcher(info)?;
            let items = match resource.namespaced {
                true => pods(server, info, matcher).await?,
                false => nodes(server, matcher).await?,
            };
            if items.is_empty() && accepted.shape == Shape::Table {
                return empty_table(accepted);
            }
            list::shaped(server, info, (resource, &printer), items, &ListMeta::default(), accepted)
        }
        "watch" => Err(Status::method_not_supported(&GroupResource::new(GROUP, &resource.plural), "watch")),
        _ => Err(Status::method_not_allowed()),
    }
}

/// The columns are those of what is shown, as metrics-server has it.
fn empty_table(accepted: Accepted) -> Result<Response<Body>, Status> {
    let table = json!({"kind": "Table", "apiVersion": accepted.meta_version(), "metadata": {},
        "columnDefinitions": null, "rows": null});
    respond::value(StatusCode::OK, &table, accepted.format)
}

fn matcher(info: &RequestInfo) -> Result<Matcher, Status> {
    let bad = |text: String| Status::bad_request(text);
    let labels = labels::Selector::parse(info.param("labelSelector")).map_err(|e| bad(e.to_string()))?;
    let fields = fields::Selector::parse(info.param("fieldSelector")).map_err(|e| bad(e.to_string()))?;
    const KNOWN: [&str; 2] = ["metadata.name", "metadata.namespace"];
    if let Some(other) = fields.requirements.iter().find(|r| !KNOWN.contains(&r.field.as_str())) {
        let [name, namespace] = KNOWN;
        let field = &other.field;
        return Err(bad(format!("{field:?} is not a known field selector: only {name:?}, {namespace:?}")));
    }
    Ok(Matcher { labels, fields })
}

fn stored<'a>(server: &'a ApiServer, plural: &str) -> Result<&'a Arc<Served>, Status> {
    server.registry.builtin("", "v1", plural).ok_or_else(Status::unknown_path)
}

async fn node(server: &ApiServer, name: &str) -> Result<Value, Status> {
    let served = stored(server, "nodes")?;
    let object = served.store.get(name).map_err(store_failure)?;
    let object = object.ok_or_else(|| Status::not_found(&GroupResource::new("", "node"), name))?;
    let shown = show_nodes(server, served, vec![object]).await?;
    shown.into_iter().next().ok_or_else(|| Status::not_found(&GroupResource::new(GROUP, "nodemetrics"), name))
}

async fn nodes(server: &ApiServer, mut matcher: Matcher) -> Result<Vec<Value>, Status> {
    // Nodes are in no namespace.
    let (about_namespace, others) =
        matcher.fields.requirements.into_iter().partition(|r| r.field == "metadata.namespace");
    matcher.fields.requirements = others;
    let about_namespace: Vec<fields::Requirement> = about_namespace;
    if about_namespace.iter().any(|r| r.value.is_empty() != r.equal) {
        return Ok(Vec::new());
    }
    let served = stored(server, "nodes")?;
    let listing = served.store.list("", &matcher, 0).map_err(store_failure)?;
    show_nodes(server, served, listing.objects.into_iter().map(|(_, object)| object).collect()).await
}

async fn show_nodes(server: &ApiServer, served: &Served, objects: Vec<Arc<Object>>) -> Result<Vec<Value>, Status> {
    let mut kubelets = Vec::with_capacity(objects.len());
    let mut metadata = Vec::with_capacity(objects.len());
    for object in objects {
        let mut node = convert::read(served, &object)?;
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        kubelets.extend(kubelet_of(&name, &node));
        metadata.push((name, node["metadata"]["labels"].take()));
    }
    let usages = usages(server, kubelets).await?;
    let now = rfc3339(server.clock.now());
    let shown = metadata.into_iter().filter_map(|(name, labels)| {
        let usage = usages.get(&name)?;
        let sample = usage.node?;
        Some(json!({
            "kind": "NodeMetrics", "apiVersion": format!("{GROUP}/v1beta1"),
            "metadata": metadata_of(None, &name, labels, &now),
            "timestamp": rfc3339(sample.time), "window": window(usage), "usage": amounts(&sample),
        }))
    });
    Ok(shown.collect())
}

/// What of a pod is looked at.
#[derive(Deserialize)]
struct Pod {
    metadata: PodMetadata,
    #[serde(default)]
    spec: PodSpec,
}

#[derive(Deserialize)]
struct PodMetadata {
    name: String,
    namespace: String,
    #[serde(default)]
    labels: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    node_name: String,
}

async fn pod(server: &ApiServer, info: &RequestInfo) -> Result<Value, Status> {
    let (namespace, name) = (&info.namespace, &info.name);
    let exact =
        |field: &str, value: &str| fields::Requirement { field: field.into(), value: value.into(), equal: true };
    let requirements = vec![exact("metadata.name", name)];
    let matcher = Matcher { fields: fields::Selector { requirements }, labels: labels::Selector::default() };
    let found = running(server, namespace, matcher)?;
    if found.is_empty() {
        return Err(Status::not_found(&GroupResource::new("", "pods"), name));
    }
    let missing = || Status::not_found(&GroupResource::new(GROUP, "podmetrics"), &format!("{namespace}/{name}"));
    show_pods(server, found).await?.into_iter().next().ok_or_else(missing)
}

async fn pods(server: &ApiServer, info: &RequestInfo, matcher: Matcher) -> Result<Vec<Value>, Status> {
    show_pods(server, running(server, &info.namespace, matcher)?).await
}

/// Pods that run, by namespace and name; others use nothing.
fn running(server: &ApiServer, namespace: &str, mut matcher: Matcher) -> Result<Vec<Pod>, Status> {
    let served = stored(server, "pods")?;
    let runs = fields::Requirement { field: "status.phase".into(), value: "Running".into(), equal: true };
    matcher.fields.requirements.push(runs);
    let listing = served.store.list(&served.scope(namespace), &matcher, 0).map_err(store_failure)?;
    let read = |(_, object): &(_, Arc<Object>)| serde_json::from_slice(&object.to_json()).map_err(Status::internal);
    listing.objects.iter().map(read).collect()
}

async fn show_pods(server: &ApiServer, pods: Vec<Pod>) -> Result<Vec<Value>, Status> {
    let served = stored(server, "nodes")?;
    let mut kubelets: HashMap<&str, Option<(String, Backend)>> = HashMap::new();
    for pod in &pods {
        let node = pod.spec.node_name.as_str();
        if !kubelets.contains_key(node) {
            let object = served.store.get(node).map_err(store_failure)?;
            let kubelet = object.map(|object| convert::read(served, &object)).transpose()?;
            kubelets.insert(node, kubelet.and_then(|found| kubelet_of(node, &found)));
        }
    }
    let usages = usages(server, kubelets.into_values().flatten().collect()).await?;
    let now = rfc3339(server.clock.now());
    let shown = pods.into_iter().filter_map(|pod| {
        let usage = usages.get(&pod.spec.node_name)?;
        let PodMetadata { name, namespace, labels } = pod.metadata;
        let containers = usage.pod(&namespace, &name)?;
        let earliest = containers.iter().map(|(_, sample)| sample.time).min()?;
        let container = |(name, sample): &(Box<str>, Sample)| json!({"name": name, "usage": amounts(sample)});
        Some(json!({
            "kind": "PodMetrics", "apiVersion": format!("{GROUP}/v1beta1"),
            "metadata": metadata_of(Some(&namespace), &name, labels.into(), &now),
            "timestamp": rfc3339(earliest), "window": window(usage),
            "containers": containers.iter().map(container).collect::<Vec<_>>(),
        }))
    });
    Ok(shown.collect())
}

/// Where a node is asked; none for one that does not say.
fn kubelet_of(name: &str, node: &Value) -> Option<(String, Backend)> {
    match kubelets::of(node) {
        Ok(kubelet) => Some((name.to_owned(), kubelet)),
        Err(status) => {
            debug!(node = name, error = status.message, "a node has no address to ask");
            None
        }
    }
}

async fn usages(
    server: &ApiServer,
    kubelets: Vec<(String, Backend)>,
) -> Result<HashMap<String, Arc<NodeUsage>>, Status> {
    let access = server.kubelets.as_ref();
    let access = access.ok_or_else(|| Status::unavailable("this server reaches no kubelets"))?;
    Ok(server.usages.of(access, kubelets).await)
}

fn metadata_of(namespace: Option<&str>, name: &str, labels: Value, now: &str) -> Value {
    let mut metadata = json!({"name": name, "creationTimestamp": now});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        metadata["labels"] = labels;
    }
    metadata
}

fn window(usage: &NodeUsage) -> String {
    // Milliseconds are all that anybody's clock is good for.
    go_duration_text(i64::try_from(usage.window / 1_000_000 * 1_000_000).unwrap_or(i64::MAX))
}

fn amounts(sample: &Sample) -> Value {
    let number = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    json!({
        "cpu": Quantity::from_nanos(number(sample.cpu)).to_string(),
        "memory": Quantity::from_bytes(number(sample.memory)).to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn amounts_are_written_as_metrics_server_writes_them() {
        let sample = |cpu, memory| Sample { time: jiff::Timestamp::UNIX_EPOCH, cpu, memory };
        for (cpu, memory, shown) in [
            (123_456, 1234 << 10, ["123456n", "1234Ki"]),
            (2_000_000, 64 << 20, ["2m", "64Mi"]),
            (1_500_000_000, 1025, ["1500m", "1025"]),
            (0, 0, ["0", "0"]),
        ] {
            assert_eq!(amounts(&sample(cpu, memory)), json!({"cpu": shown[0], "memory": shown[1]}));
        }
    }

    #[test]
    fn only_names_and_namespaces_select() {
        let parsed = |uri: &str| {
            let uri = format!("/apis/metrics.k8s.io/v1beta1/nodes?{uri}").parse().unwrap();
            matcher(&RequestInfo::parse(&http::Method::GET, &uri).unwrap())
        };
        assert!(parsed("fieldSelector=metadata.name%3Dx&labelSelector=a%3Db").is_ok());
        let refused = parsed("fieldSelector=spec.nodeName%3Dx").unwrap_err();
        let text = r#""spec.nodeName" is not a known field selector: only "metadata.name", "metadata.namespace""#;
        assert_eq!((refused.code, refused.message.as_str()), (400, text));
    }
}
