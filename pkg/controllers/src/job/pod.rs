//! The pods that a Job makes from its template.

use kedge_meta::resources;
use serde_json::{Value, json};

use super::count::{Count, FAILURES, FINALIZER, IGNORED, INDEX, failures_before};
use super::policy::{Failure, of_failure};
use crate::objects::Job;
use crate::workload::controller_ref;
use crate::workload::pod_control::{from_template, template};

const VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Names are made of this many characters and a suffix.
const MAX_PREFIX: usize = 58;

/// The pod for an index, or for none.
pub fn pod(job: &Job, count: &Count, index: Option<i64>) -> Value {
    let owner = controller_ref(&resources::JOBS, &job.metadata);
    let mut pod = from_template(&template(&job.spec.template), &job.metadata.namespace, &owner);
    let metadata = &mut pod["metadata"];
    let mut finalizers = metadata["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    metadata["finalizers"] = finalizers.into();
    let name = &job.metadata.name;
    let Some(index) = index else {
        metadata["generateName"] = format!("{name}-").into();
        return pod;
    };
    let suffix = format!("-{index}-");
    let cut = name.len().min(MAX_PREFIX.saturating_sub(suffix.len()));
    metadata["generateName"] = format!("{}{suffix}", &name[..cut]).into();
    metadata["labels"][INDEX] = index.to_string().into();
    metadata["annotations"][INDEX] = index.to_string().into();
    if job.spec.backoff_limit_per_index.is_some() {
        let failed = count.to_replace.get(&index);
        let before = failed.map_or(0, |p| failures_before(p));
        let ignored = failed.is_some_and(|p| of_failure(job, p) == Failure::Ignore);
        let more = i64::from(failed.is_some() && !ignored);
        metadata["annotations"][FAILURES] = (before + more).to_string().into();
        if let Some(failed) = failed.filter(|_| ignored) {
            let before = failed.metadata.annotations.get(IGNORED).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
            metadata["annotations"][IGNORED] = (before + 1).to_string().into();
        }
    }
    pod["spec"]["hostname"] = format!("{name}-{index}").into();
    for list in ["initContainers", "containers"] {
        pod["spec"][list].as_array_mut().into_iter().flatten().for_each(add_variable);
    }
    pod
}

fn add_variable(container: &mut Value) {
    let mut variables = container["env"].as_array().cloned().unwrap_or_default();
    if !variables.iter().any(|v| v["name"] == VARIABLE) {
        let path = format!("metadata.labels['{INDEX}']");
        variables.push(json!({ "name": VARIABLE, "valueFrom": { "fieldRef": { "fieldPath": path } } }));
        container["env"] = variables.into();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": "j", "namespace": "ns", "uid": "u"},
            "spec": {"completionMode": "Indexed", "template": {"spec": {"containers": [{"name": "c"}]}}},
        }))
        .unwrap();
        let pod = pod(&job, &Count::default(), Some(3));
        assert_eq!(pod["metadata"]["generateName"], "j-3-");
        assert_eq!(pod["metadata"]["labels"][INDEX], "3");
        assert_eq!(pod["metadata"]["finalizers"], json!([FINALIZER]));
        assert_eq!(pod["spec"]["hostname"], "j-3");
        assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], VARIABLE);
        assert!(pod["spec"].get("initContainers").is_none_or(Value::is_null));
    }
}
