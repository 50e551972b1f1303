//! Jobs: their selector is made for them.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use serde_json::{Map, Value, json};

use super::super::validation::{At, Report, selector, template};
use super::job_policies;
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const MAX_INDEXED_PARALLELISM: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
/// Above so many completions the rules for indexed jobs are stricter.
const MANY_COMPLETIONS: i64 = 100_000;
const PARALLELISM_OF_MANY: i64 = 10_000;

pub(crate) struct Job;

impl Strategy for Job {
    fn prepare_for_create(&self, _ctx: &Context<'_>, job: &mut Value) {
        if job.flag(&["spec", "manualSelector"]) != Some(true) {
            generate_selector(job);
        }
        // A job without labels has those of its pods, the ones made just now included.
        let labels = job.at(&["spec", "template", "metadata", "labels"]).cloned();
        if let (None, Some(labels)) = (job.map(&["metadata", "labels"]), labels) {
            job.entry("metadata").insert("labels".into(), labels);
        }
    }

    fn warning_of_deletion(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set \
             propagationPolicy=Orphan to suppress this warning",
        )
    }

    /// As upstream's `batch/v1`: the pods of a job that is deleted without a word stay.
    fn orphans_by_default(&self) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, job: &Value) -> ErrorList {
        let mut errors = generated(job);
        let at = At::field(job, "spec");
        selected_spec(&at, &mut errors);
        let completions = at.child("completions").int().unwrap_or_default();
        if at.child("completionMode").text() == "Indexed" && completions > 0 {
            let last = format!("{}-{}", job.name(), completions - 1);
            if !names::is_dns1123_label(&last).is_empty() {
                let detail = format!("will not able to create pod with invalid DNS label: {last}");
                errors.push(Error::invalid(&Path::new("metadata").child("name"), job.name(), detail));
            }
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
        let (now, before) = (spec.child("completions"), was.child("completions"));
        if spec.child("completionMode").text() != "Indexed" {
            errors.immutable(&now, &before);
        } else if now.value != before.value && now.is_set() && now.value != spec.child("parallelism").value {
            errors.push(now.invalid("can only be modified in tandem with spec.parallelism"));
        }
        errors.immutable(&spec.child("selector"), &was.child("selector"));
        template_changes(&spec, &was, old, &mut errors);
        for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
            errors.immutable(&spec.child(field), &was.child(field));
        }
        errors
    }
}

fn generate_selector(job: &mut Value) {
    let (name, uid) = (job.name().to_owned(), job.text(&["metadata", "uid"]).to_owned());
    let spec = job.entry("spec");
    let template = spec.entry("template").or_insert_with(|| json!({}));
    let metadata = template.entry("metadata");
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if labels.is_null() {
        *labels = json!({});
    }
    for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
        for key in keys {
            // A label that is there already is judged by validation.
            if labels.get(key).is_none() {
                labels.set(key, value.as_str());
            }
        }
    }
    let selector = spec.entry("selector").or_insert_with(|| json!({}));
    let matching = selector.entry("matchLabels");
    matching.entry(UID_LABELS[1]).or_insert_with(|| uid.into());
}

/// What a selector that was made by the server looks like.
fn generated(job: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    if job.flag(&["spec", "manualSelector"]) == Some(true) {
        return errors;
    }
    let spec = At::field(job, "spec");
    if !spec.child("selector").is_set() {
        return errors;
    }
    let metadata = spec.child("template").child("metadata");
    let wanted = [(NAME_LABELS, job.name()), (UID_LABELS, job.text(&["metadata", "uid"]))];
    for (keys, value) in wanted {
        for key in keys {
            let label = metadata.child("labels").child(key);
            if label.text() != value {
                let path = metadata.path.child("labels").key(key);
                errors.push(match label.is_set() {
                    true => Error::invalid(&path, metadata.child("labels").value, format!("must be '{value}'")),
                    false => Error::required(&path, format!("must be '{value}'")),
                });
            }
        }
    }
    let expected: Map<String, Value> =
        wanted.iter().flat_map(|(keys, value)| keys.iter().map(|key| ((*key).to_owned(), (*value).into()))).collect();
    if !selector::matches(spec.child("selector").value, Some(&expected)) {
        errors.push(spec.child("selector").invalid("`selector` not auto-generated"));
    }
    errors
}

fn selected_spec(at: &At<'_>, errors: &mut ErrorList) {
    spec(at, errors);
    let chosen = at.child("selector");
    if chosen.is_set() {
        selector::label_selector(&chosen, errors);
    } else {
        errors.push(chosen.required(""));
    }
    template::matching(at, errors);
}

/// The spec of a job, of its own or in a cron job.
pub(super) fn spec(at: &At<'_>, errors: &mut ErrorList) {
    let fields = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    fields.iter().for_each(|field| errors.non_negative(&at.child(field)));
    if at.child("maxFailedIndexes").is_set() && !at.child("backoffLimitPerIndex").is_set() {
        errors.push(at.child("backoffLimitPerIndex").required("when maxFailedIndexes is specified"));
    }
    let manager = at.child("managedBy");
    if manager.is_set() && (!manager.text().contains('/') || !names::is_qualified_name(manager.text()).is_empty()) {
        errors.push(manager.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"));
    }
    errors.one_of(&at.child("completionMode"), &["NonIndexed", "Indexed"]);
    if at.child("completionMode").text() == "Indexed" {
        indexed(at, errors);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if at.child(field).is_set() {
                errors.push(at.child(field).invalid("requires indexed completion mode"));
            }
        }
    }
    job_policies::failure(at, errors);
    job_policies::success(at, errors);
    job_policies::replacement(at, errors);
    template::pod_template(&at.child("template"), errors);
    let policy = at.child("template").child("spec").child("restartPolicy");
    match policy.text() {
        "" | "Always" => errors.push(policy.required("valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if at.child("podFailurePolicy").is_set() => {
            errors.push(policy.invalid("only \"Never\" is supported when podFailurePolicy is specified"));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(policy.not_supported(&["Never", "OnFailure"])),
    }
}

fn indexed(at: &At<'_>, errors: &mut ErrorList) {
    let (completions, parallelism, failed) =
        (at.child("completions"), at.child("parallelism"), at.child("maxFailedIndexes"));
    if !completions.is_set() {
        errors.push(completions.required("when completion mode is Indexed"));
    }
    let above = |field: &At<'_>, limit: i64| field.int().is_some_and(|number| number > limit);
    if above(&parallelism, MAX_INDEXED_PARALLELISM) {
        let detail = format!("must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed");
        errors.push(parallelism.invalid(detail));
    }
    if completions.int().is_some_and(|all| above(&failed, all)) {
        errors.push(failed.invalid("must be less than or equal to completions"));
    }
    if above(&failed, MAX_FAILED_INDEXES) {
        errors.push(failed.invalid(format!("must be less than or equal to {MAX_FAILED_INDEXES}")));
    }
    if above(&completions, MANY_COMPLETIONS) && at.child("backoffLimitPerIndex").is_set() {
        if !failed.is_set() {
            errors.push(failed.required(&format!("must be specified when completions is above {MANY_COMPLETIONS}")));
        }
        for field in [&parallelism, &failed] {
            if above(field, PARALLELISM_OF_MANY) {
                errors.push(field.invalid(format!(
                    "must be less than or equal to {PARALLELISM_OF_MANY} when completions are above {MANY_COMPLETIONS} \
                     and used with backoff limit per index"
                )));
            }
        }
    }
}

/// The template stays, but for where its pods run as long as none has.
fn template_changes(spec: &At<'_>, was: &At<'_>, old: &Value, errors: &mut ErrorList) {
    // While it is suspended and none of its pods is left, where they go and what they get may change.
    let suspended =
        |condition: &Value| condition.text(&["type"]) == "Suspended" && condition.text(&["status"]) == "True";
    let at_rest =
        old.text(&["status", "startTime"]).is_empty() || old.list(&["status", "conditions"]).iter().any(suspended);
    let mutable = was.child("suspend").is_true() && at_rest && old.int(&["status", "active"]).unwrap_or_default() == 0;
    let (now, mut before) = (spec.child("template"), was.child("template").value.clone());
    if mutable {
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            before["spec"].set_or_remove(field, now.value.at(&["spec", field]).cloned());
        }
        for field in ["labels", "annotations"] {
            before.entry("metadata");
            before["metadata"].set_or_remove(field, now.value.at(&["metadata", field]).cloned());
        }
        let affinity = now.value.at(&["spec", "affinity", "nodeAffinity"]).cloned();
        if affinity.is_some() || before.at(&["spec", "affinity"]).is_some() {
            before.entry("spec").entry("affinity").or_insert_with(|| json!({})).set_or_remove("nodeAffinity", affinity);
            let empty = before.map(&["spec", "affinity"]).is_some_and(serde_json::Map::is_empty);
            if empty && now.value.at(&["spec", "affinity"]).is_none() {
                before["spec"].set_or_remove("affinity", None);
            }
        }
    }
    if !mutable {
        if *now.value != before {
            errors.push(now.invalid("field is immutable"));
        }
        return;
    }
    let (spec, mut before) = (now.child("spec"), before.at(&["spec"]).cloned().unwrap_or_default());
    for list in ["containers", "initContainers"] {
        let new = spec.child(list);
        let Some(old) = before.get_mut(list).and_then(Value::as_array_mut).filter(|old| old.len() == new.len()) else {
            continue;
        };
        for (old, new) in
            old.iter_mut().zip(new.items()).filter(|(old, new)| old.text(&["name"]) == new.child("name").text())
        {
            old.set_or_remove("resources", new.value.get("resources").cloned());
        }
    }
    if *spec.value != before {
        errors.push(spec.invalid("field is immutable"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Value {
        json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"completionMode": "NonIndexed",
            "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": false,
            "template": {"metadata": {}, "spec": {"terminationGracePeriodSeconds": 30,
                "restartPolicy": "Never", "dnsPolicy": "ClusterFirst", "containers": [{"name": "c", "image": "x",
                    "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]}}}})
    }

    fn texts(job: &Value) -> Vec<String> {
        let mut errors = generated(job);
        selected_spec(&At::field(job, "spec"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_selector_is_made() {
        let mut job = job();
        generate_selector(&mut job);
        assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}));
        assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
        assert!(texts(&job).is_empty(), "{:?}", texts(&job));
    }

    #[test]
    fn pods_of_a_job_end() {
        let mut job = job();
        generate_selector(&mut job);
        job["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
        assert_eq!(
            texts(&job),
            ["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""]
        );
    }

    #[test]
    fn a_template_stays() {
        let check = |suspended: bool| {
            let mut old = job();
            old["spec"]["suspend"] = json!(suspended);
            let mut new = old.clone();
            new["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
            let mut errors = ErrorList::new();
            template_changes(&At::field(&new, "spec"), &At::field(&old, "spec"), &old, &mut errors);
            errors.len()
        };
        assert_eq!((check(true), check(false)), (0, 1));
    }
}
