//! The quality-of-service class of a pod.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use super::{Amount, PodExt, amount};

const COUNTED: [&str; 2] = ["cpu", "memory"];

fn get(resources: &ResourceRequirements, limits: bool, name: &str) -> Option<Amount> {
    let list = if limits { &resources.limits } else { &resources.requests };
    list.as_ref()?.get(name).map(amount).filter(|q| !q.is_zero())
}

/// `Guaranteed`, `Burstable` or `BestEffort`. What the status already says holds: the class never changes.
pub(crate) fn qos_class(pod: &Pod) -> &str {
    match pod.status().qos_class.as_deref() {
        Some(class) if !class.is_empty() => class,
        _ => compute(pod),
    }
}

fn compute(pod: &Pod) -> &'static str {
    let spec = PodExt::spec(pod);
    let own = spec.resources.iter().filter(|r| {
        r.requests.as_ref().is_some_and(|l| !l.is_empty()) || r.limits.as_ref().is_some_and(|l| !l.is_empty())
    });
    let whole: Vec<&ResourceRequirements> = own.collect();
    let none = ResourceRequirements::default();
    let parts: Vec<&ResourceRequirements> = if whole.is_empty() {
        let all = spec.containers.iter().chain(pod.init_containers());
        all.map(|c| c.resources.as_ref().unwrap_or(&none)).collect()
    } else {
        whole
    };
    let mut any = false;
    let mut guaranteed = true;
    for part in parts {
        for name in COUNTED {
            let (request, limit) = (get(part, false, name), get(part, true, name));
            any |= request.is_some() || limit.is_some();
            // A limit without a request is a request of the same size.
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn classes() {
        let class = |resources: serde_json::Value| {
            let pod = pod(json!({"containers": [{"name": "a", "resources": resources}]}));
            qos_class(&pod).to_string()
        };
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        let equal = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(json!({"requests": equal, "limits": equal})), "Guaranteed");
        assert_eq!(class(json!({"limits": {"cpu": "1"}})), "Burstable");
    }
}
