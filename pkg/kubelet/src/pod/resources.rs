//! Requests and limits: of a container, and of a whole pod with its init containers, sidecars and overhead.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kedge_meta::quantity::Quantity;

use super::{PodExt, is_sidecar};

/// A parsed quantity; what the API server admitted always parses, anything else counts as nothing.
pub(crate) type Amount = Quantity;
type List = BTreeMap<String, Amount>;
type ApiList = BTreeMap<String, ApiQuantity>;

/// Reads one quantity of the API.
pub(crate) fn amount(quantity: &ApiQuantity) -> Amount {
    Quantity::parse(&quantity.0).unwrap_or_else(|_| Quantity::from_value(0))
}

fn parse(list: Option<&ApiList>) -> List {
    list.into_iter().flatten().map(|(name, q)| (name.clone(), amount(q))).collect()
}

/// Back to the API's form.
pub(crate) fn resource_list(list: &List) -> ApiList {
    list.iter().map(|(name, q)| (name.clone(), ApiQuantity(q.to_string()))).collect()
}

/// What a container asks for of one resource.
pub(crate) fn request_of(container: &Container, resource: &str) -> Option<Amount> {
    container.resources.as_ref()?.requests.as_ref()?.get(resource).map(amount)
}

/// What a container may use of one resource.
pub(crate) fn limit_of(container: &Container, resource: &str) -> Option<Amount> {
    container.resources.as_ref()?.limits.as_ref()?.get(resource).map(amount)
}

fn add(into: &mut List, more: &List) {
    for (name, q) in more {
        let sum = into.get(name).map_or(*q, |have| have.add(q));
        into.insert(name.clone(), sum);
    }
}

fn max(into: &mut List, other: &List) {
    for (name, q) in other {
        if into.get(name).is_none_or(|have| have < q) {
            into.insert(name.clone(), *q);
        }
    }
}

/// Containers run together, init containers one after the other beside the sidecars started before them.
fn aggregate(pod: &Pod, of: impl Fn(&Container) -> List) -> List {
    let mut total = List::new();
    for container in &PodExt::spec(pod).containers {
        add(&mut total, &of(container));
    }
    let mut sidecars = List::new();
    let mut init = List::new();
    for container in pod.init_containers() {
        let own = of(container);
        if is_sidecar(container) {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            max(&mut init, &sidecars);
        } else {
            let mut beside = own;
            add(&mut beside, &sidecars);
            max(&mut init, &beside);
        }
    }
    max(&mut total, &init);
    total
}

/// The pod's requests as the scheduler counts them.
pub(crate) fn pod_requests(pod: &Pod) -> List {
    let mut total = aggregate(pod, |c| parse(c.resources.as_ref().and_then(|r| r.requests.as_ref())));
    let spec = PodExt::spec(pod);
    if let Some(own) = &spec.resources {
        total.extend(parse(own.requests.as_ref()));
    }
    add(&mut total, &parse(spec.overhead.as_ref()));
    total
}

/// The pod's limits; overhead only counts for resources that are limited at all.
pub(crate) fn pod_limits(pod: &Pod) -> List {
    let mut total = aggregate(pod, |c| parse(c.resources.as_ref().and_then(|r| r.limits.as_ref())));
    let spec = PodExt::spec(pod);
    if let Some(own) = &spec.resources {
        total.extend(parse(own.limits.as_ref()));
    }
    let overhead = parse(spec.overhead.as_ref());
    let limited = overhead.into_iter().filter(|(name, _)| total.contains_key(name)).collect();
    add(&mut total, &limited);
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    fn with_cpu(name: &str, cpu: &str) -> serde_json::Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn init_containers_overlap_and_sidecars_add() {
        let mut sidecar = with_cpu("s", "100m");
        sidecar["restartPolicy"] = json!("Always");
        let pod = pod(json!({
            "initContainers": [sidecar, with_cpu("i", "500m")],
            "containers": [with_cpu("a", "100m"), with_cpu("b", "200m")],
            "overhead": {"cpu": "10m"},
        }));
        assert_eq!(pod_requests(&pod)["cpu"].milli_value(), 610);
    }

    #[test]
    fn limits_take_overhead_only_where_limited() {
        let pod = pod(json!({"containers": [{"name": "a"}], "overhead": {"cpu": "10m"}}));
        assert!(pod_limits(&pod).is_empty());
    }
}
