//! LimitRanger: containers without requests and limits get those of their namespace, and pods and claims stay within its bounds.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_meta::quantity::Quantity;
use kedge_quota::{Amounts, Container, Pod, amounts};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::{Value, json};

use crate::{Plugin, aggregate, creates, forbidden, is_sub, list, writes};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(crate) struct LimitRanger;

/// Containers cannot change but by resizing, and so an update of a pod has nothing to be limited.
fn concerns(attributes: &Attributes<'_>) -> bool {
    let resizes = attributes.operation == Operation::Update && is_sub(attributes, "", "pods", "resize");
    let leaving = |old: &Value| !old.text(&["metadata", "deletionTimestamp"]).is_empty();
    let limited = creates(attributes, "", "pods") || writes(attributes, "", "persistentvolumeclaims") || resizes;
    limited && !attributes.old.is_some_and(leaving)
}

/// What the ranges of a namespace say, each on its own.
fn ranges(registry: &Registry, attributes: &Attributes<'_>) -> Result<Vec<Value>, Status> {
    list(registry, ("", "limitranges"), attributes.namespace)
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        attributes.resource.plural == "pods" && concerns(attributes)
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        concerns(attributes)
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        for range in ranges(registry, attributes)? {
            let limits = range.list(&["spec", "limits"]);
            let mut requests = Amounts::new();
            let mut most = Amounts::new();
            for limit in limits.iter().filter(|limit| limit.text(&["type"]) == "Container") {
                requests.extend(amounts::of(limit.get("defaultRequest")));
                most.extend(amounts::of(limit.get("default")));
            }
            fill(&mut attributes.object, &requests, &most);
        }
        Ok(())
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        for range in ranges(registry, attributes)? {
            let mut complaints = Vec::new();
            for limit in range.list(&["spec", "limits"]) {
                let bounds = Bounds::of(limit);
                if attributes.resource.plural == "pods" {
                    bounds.check_pod(&attributes.object, &mut complaints);
                } else {
                    bounds.check_claim(&attributes.object, &mut complaints);
                }
            }
            if let Some(why) = aggregate(&complaints) {
                return Err(forbidden(attributes, &why));
            }
        }
        Ok(())
    }
}

/// Gives containers the requests and limits that they lack, and notes which in an annotation.
fn fill(pod: &mut Value, requests: &Amounts, limits: &Amounts) {
    let mut notes = Vec::new();
    for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(Value::Array(containers)) = pod.entry("spec").get_mut(field) else { continue };
        for container in containers {
            let name = container.text(&["name"]).to_owned();
            let set_limits = fill_side(container, "limits", limits);
            let set_requests = fill_side(container, "requests", requests);
            for (names, side) in [(set_requests, "request"), (set_limits, "limit")] {
                if !names.is_empty() {
                    notes.push(format!("{} {side} for {what} {name}", names.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let annotations = pod.entry("metadata").entry("annotations").or_insert_with(|| json!({}));
        annotations.set(ANNOTATION, format!("LimitRanger plugin set: {}", notes.join("; ")));
    }
}

/// Gives a container what it lacks, and says what that was.
fn fill_side(container: &mut Value, side: &str, defaults: &Amounts) -> Vec<String> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let resources = container.entry("resources").entry(side).or_insert_with(|| json!({}));
    let lacking: Vec<String> = defaults.keys().filter(|name| resources.get(name.as_str()).is_none()).cloned().collect();
    for name in &lacking {
        resources.set(name, defaults[name].to_string());
    }
    lacking
}

/// The bounds of a kind of thing.
struct Bounds<'a> {
    kind: &'a str,
    min: Amounts,
    max: Amounts,
    ratio: Amounts,
}

impl<'a> Bounds<'a> {
    fn of(limit: &'a Value) -> Self {
        let field = |name: &str| amounts::of(limit.get(name));
        let kind = limit.text(&["type"]);
        Self { kind, min: field("min"), max: field("max"), ratio: field("maxLimitRequestRatio") }
    }

    fn check_pod(&self, pod: &Value, complaints: &mut Vec<String>) {
        match self.kind {
            "Container" => {
                let all = ["containers", "initContainers"].into_iter().flat_map(|field| pod.list(&["spec", field]));
                for container in all.map(Container::of) {
                    self.check(&container.requests, &container.limits, complaints);
                }
            }
            "Pod" => {
                let (requests, limits) = Pod::of(pod).own();
                self.check(&requests, &limits, complaints);
            }
            _ => {}
        }
    }

    fn check(&self, requests: &Amounts, limits: &Amounts, complaints: &mut Vec<String>) {
        let kind = self.kind;
        let of = |name: &str| (requests.get(name), limits.get(name));
        for (name, least) in &self.min {
            let what = format!("minimum {name} usage per {kind} is {least}");
            complaints.extend(match of(name) {
                (None, _) => Some(format!("{what}.  No request is specified")),
                (Some(request), _) if request < least => Some(format!("{what}, but request is {request}")),
                (_, Some(limit)) if limit < least => Some(format!("{what}, but limit is {limit}")),
                _ => None,
            });
        }
        for (name, most) in &self.max {
            let what = format!("maximum {name} usage per {kind} is {most}");
            complaints.extend(match of(name) {
                (_, None) => Some(format!("{what}.  No limit is specified")),
                (_, Some(limit)) if limit > most => Some(format!("{what}, but limit is {limit}")),
                (Some(request), _) if request > most => Some(format!("{what}, but request is {request}")),
                _ => None,
            });
        }
        for (name, most) in &self.ratio {
            let what = format!("{name} max limit to request ratio per {kind} is {most}");
            let (request, limit) = of(name);
            let given = |amount: Option<&'_ Quantity>| amount.filter(|amount| !amount.is_zero()).copied();
            complaints.extend(match (given(request), given(limit)) {
                (None, _) => Some(format!("{what}, but no request is specified or request is 0")),
                (_, None) => Some(format!("{what}, but no limit is specified or limit is 0")),
                (Some(request), Some(limit)) => {
                    let ratio = ratio(&limit, &request);
                    let within = ratio * 1000.0 <= milli(most);
                    (!within).then(|| format!("{what}, but provided ratio is {ratio:.6}"))
                }
            });
        }
    }

    fn check_claim(&self, claim: &Value, complaints: &mut Vec<String>) {
        if self.kind != "PersistentVolumeClaim" {
            return;
        }
        let kind = self.kind;
        let requests = amounts::of(claim.at(&["spec", "resources", "requests"]));
        for (name, least) in &self.min {
            let what = format!("minimum {name} usage per {kind} is {least}");
            complaints.extend(match requests.get(name) {
                None => Some(format!("{what}.  No request is specified")),
                Some(request) if request < least => Some(format!("{what}, but request is {request}")),
                Some(_) => None,
            });
        }
        for (name, most) in &self.max {
            let what = format!("maximum {name} usage per {kind} is {most}");
            complaints.extend(match requests.get(name) {
                None => Some(format!("{what}.  No request is specified")),
                Some(request) if request > most => Some(format!("{what}, but request is {request}")),
                Some(_) => None,
            });
        }
    }
}

/// Thousandths, as a number that may be compared with a ratio.
#[allow(clippy::cast_precision_loss)]
fn milli(amount: &Quantity) -> f64 {
    amount.milli_value() as f64
}

/// Whole units where thousandths would not fit a number, as upstream.
#[allow(clippy::cast_precision_loss)]
fn ratio(limit: &Quantity, request: &Quantity) -> f64 {
    const LARGEST: i64 = i64::MAX / 1000;
    if limit.value() <= LARGEST && request.value() <= LARGEST {
        return milli(limit) / milli(request);
    }
    limit.value() as f64 / request.value() as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;

    fn range(limits: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r", "namespace": "a"},
            "spec": {"limits": limits}})
    }

    async fn admitted(limits: Value, plural: &str, object: Value) -> Result<Value, String> {
        let (registry, _) = testing::registry().await;
        testing::put(&registry, range(limits)).await;
        let user = testing::user();
        let mut attributes = Attributes::new(Operation::Create, testing::resource("", plural), &user);
        (attributes.namespace, attributes.object) = ("a", object);
        if LimitRanger.mutates(&attributes) {
            LimitRanger.admit(&registry, &mut attributes).await.unwrap();
        }
        assert!(LimitRanger.validates(&attributes));
        LimitRanger.validate(&registry, &attributes).await.map_err(|status| status.message)?;
        Ok(attributes.object)
    }

    #[tokio::test]
    async fn containers_get_what_they_do_not_say() {
        let limits = json!([{"type": "Container", "default": {"cpu": "500m", "memory": "500Mi"},
            "defaultRequest": {"cpu": "100m", "memory": "200Mi"}}]);
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "1m"}, "limits": {"cpu": "2m"}}}],
            "initContainers": [{"name": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
        }});
        let pod = admitted(limits, "pods", pod).await.unwrap();
        let all = json!({"requests": {"cpu": "100m", "memory": "200Mi"}, "limits": {"cpu": "500m", "memory": "500Mi"}});
        assert_eq!(pod["spec"]["containers"][0]["resources"], all);
        let some = json!({"requests": {"cpu": "1m", "memory": "200Mi"}, "limits": {"cpu": "2m", "memory": "500Mi"}});
        assert_eq!(pod["spec"]["containers"][1]["resources"], some);
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; \
             memory request for container b; memory limit for container b; cpu, memory request for init container i"
        );
    }

    #[tokio::test]
    async fn what_is_outside_is_refused_with_all_reasons() {
        let pod = |requests: Value, limits: Value| {
            json!({"metadata": {"name": "p"}, "spec": {"containers": [
                {"name": "c", "resources": {"requests": requests, "limits": limits}}]}})
        };
        let container = |bounds: Value| {
            let mut limit = bounds;
            limit["type"] = "Container".into();
            json!([limit])
        };
        let refused = |why: &str| Err(format!("pods \"p\" is forbidden: {why}"));
        for (bounds, requests, limits, said) in [
            (
                json!({"min": {"cpu": "50m"}}),
                json!({}),
                json!({}),
                "minimum cpu usage per Container is 50m.  No request is specified",
            ),
            (
                json!({"min": {"cpu": "50m"}}),
                json!({"cpu": "10m"}),
                json!({}),
                "minimum cpu usage per Container is 50m, but request is 10m",
            ),
            (
                json!({"max": {"cpu": "1"}}),
                json!({}),
                json!({}),
                "maximum cpu usage per Container is 1.  No limit is specified",
            ),
            (
                json!({"max": {"cpu": "1"}}),
                json!({}),
                json!({"cpu": "2"}),
                "maximum cpu usage per Container is 1, but limit is 2",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "1.5"}}),
                json!({"cpu": "1"}),
                json!({"cpu": "2"}),
                "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({}),
                json!({"cpu": "2"}),
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
            (
                json!({"min": {"cpu": "50m"}, "max": {"memory": "1Gi"}}),
                json!({}),
                json!({}),
                "[minimum cpu usage per Container is 50m.  No request is specified, maximum memory usage per Container is 1Gi.  No limit is specified]",
            ),
        ] {
            let seen = admitted(container(bounds), "pods", pod(requests, limits)).await;
            assert_eq!(seen.map(drop), refused(said));
        }
        let fits =
            container(json!({"min": {"cpu": "50m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "10"}}));
        assert!(admitted(fits, "pods", pod(json!({"cpu": "100m"}), json!({"cpu": "1"}))).await.is_ok());
    }

    #[tokio::test]
    async fn pods_count_as_a_whole_and_claims_by_their_request() {
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "a", "resources": {"limits": {"cpu": "1"}}}, {"name": "b", "resources": {"limits": {"cpu": "1"}}}]}});
        let most = json!([{"type": "Pod", "max": {"cpu": "1500m"}}]);
        let said = admitted(most, "pods", two).await.unwrap_err();
        assert_eq!(said, "pods \"p\" is forbidden: maximum cpu usage per Pod is 1500m, but limit is 2");
        let claim = |storage: &str| json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": storage}}}});
        let bounds =
            || json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]);
        let refused = |why: &str| Err(format!("persistentvolumeclaims \"c\" is forbidden: {why}"));
        let of = async |storage: &str| admitted(bounds(), "persistentvolumeclaims", claim(storage)).await.map(drop);
        assert_eq!(
            of("3Gi").await,
            refused("maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi")
        );
        assert_eq!(
            of("1Mi").await,
            refused("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi")
        );
        assert_eq!(of("2Gi").await, Ok(()));
    }

    #[tokio::test]
    async fn only_what_can_change_is_looked_at() {
        let user = testing::user();
        let (pod, gone) = (json!({}), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let asked = |operation, plural, subresource, old| {
            let mut attributes = Attributes::new(operation, testing::resource("", plural), &user);
            (attributes.subresource, attributes.old) = (subresource, Some(old));
            LimitRanger.validates(&attributes)
        };
        assert!(!asked(Operation::Update, "pods", "", &pod));
        assert!(asked(Operation::Update, "pods", "resize", &pod));
        assert!(asked(Operation::Update, "persistentvolumeclaims", "", &pod));
        assert!(!asked(Operation::Update, "persistentvolumeclaims", "", &gone));
        assert!(!asked(Operation::Update, "persistentvolumeclaims", "status", &pod));
        assert!(!asked(Operation::Create, "configmaps", "", &pod));
    }
}
