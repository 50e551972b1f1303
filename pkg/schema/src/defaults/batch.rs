//! Jobs and cron jobs.

use super::Hook::{self, Before};
use super::object::{Object, if_absent, if_empty, is_absent, make};
use serde_json::Value;

pub(super) const HOOKS: &[Hook] = &[
    Before("api.batch.v1.Job", job),
    Before("api.batch.v1.CronJob", cron_job),
    Before("api.batch.v1.PodFailurePolicyOnPodConditionsPattern", |pattern| if_empty(pattern, "status", "True")),
];

fn job(object: &mut Object) {
    let labels = object.get("spec").and_then(|spec| spec.pointer("/template/metadata/labels"));
    let labels = labels.filter(|labels| labels.as_object().is_some_and(|labels| !labels.is_empty())).cloned();
    if let (Some(labels), Some(metadata)) = (labels, make(object, "metadata")) {
        if_empty(metadata, "labels", labels);
    }
    let Some(spec) = make(object, "spec") else { return };
    if is_absent(spec, "completions") && is_absent(spec, "parallelism") {
        spec.insert("completions".into(), 1.into());
    }
    if_absent(spec, "parallelism", 1);
    let limit = if is_absent(spec, "backoffLimitPerIndex") { 6 } else { i32::MAX };
    if_absent(spec, "backoffLimit", limit);
    if_absent(spec, "completionMode", "NonIndexed");
    if_absent(spec, "suspend", false);
    let replacement = if is_absent(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    if_absent(spec, "podReplacementPolicy", replacement);
    if_absent(spec, "manualSelector", Value::Bool(false));
}

fn cron_job(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    if_empty(spec, "concurrencyPolicy", "Allow");
    if_absent(spec, "suspend", false);
    if_absent(spec, "successfulJobsHistoryLimit", 3);
    if_absent(spec, "failedJobsHistoryLimit", 1);
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::json;

    #[test]
    fn a_job_runs_once() {
        let mut job = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
        apply("batch", "v1", "Job", &mut job);
        assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
        for (key, value) in [
            ("completions", json!(1)),
            ("parallelism", json!(1)),
            ("backoffLimit", json!(6)),
            ("completionMode", json!("NonIndexed")),
            ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ] {
            assert_eq!(job["spec"][key], value, "{key}");
        }
        let mut open = json!({"spec": {"parallelism": 3, "backoffLimitPerIndex": 1}});
        apply("batch", "v1", "Job", &mut open);
        assert!(open["spec"].get("completions").is_none());
        assert_eq!(open["spec"]["backoffLimit"], i32::MAX);
    }

    #[test]
    fn a_cron_job_does_not_complete_the_job_inside() {
        let mut cron = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {}}}}}});
        apply("batch", "v1", "CronJob", &mut cron);
        assert!(cron["spec"]["jobTemplate"]["spec"].get("backoffLimit").is_none());
        assert_eq!(cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"], "Always");
        assert_eq!(cron["spec"]["successfulJobsHistoryLimit"], 3);
    }
}
