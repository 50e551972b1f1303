//! Stateful sets.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::{Value, json};

use super::super::core::persistent_volume_claim;
use super::super::validation::scalar::{at_most_all, number_or_percent};
use super::super::validation::{At, Report, template};
use super::deployment::{counts, is_zero};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const MUTABLE: &[&str] = &[
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

pub(crate) struct StatefulSet;

impl Strategy for StatefulSet {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = spec_rules(object);
        let spec = At::field(object, "spec");
        for claim in spec.child("volumeClaimTemplates").items() {
            errors.name(&claim.child("metadata").child("name"), names::is_dns1123_subdomain);
            persistent_volume_claim::spec(&claim.child("spec"), &mut errors);
        }
        errors.name(&spec.child("serviceName"), names::is_dns1123_label);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = spec_rules(new);
        let fixed = |object: &Value| {
            let mut spec = object["spec"].clone();
            MUTABLE.iter().for_each(|field| spec.set_or_remove(field, None));
            spec
        };
        if fixed(new) != fixed(old) {
            let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                          'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                          'minReadySeconds' are forbidden";
            errors.push(At::field(new, "spec").forbidden(detail));
        }
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        counts(
            new,
            &[
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "observedGeneration",
                "availableReplicas",
            ],
            &[
                ("readyReplicas", "replicas"),
                ("currentReplicas", "replicas"),
                ("updatedReplicas", "replicas"),
                ("availableReplicas", "replicas"),
                ("availableReplicas", "readyReplicas"),
            ],
        )
    }
}

fn spec_rules(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::field(object, "spec");
    let policy = spec.child("podManagementPolicy");
    if errors.need_text(&policy) && !matches!(policy.text(), "OrderedReady" | "Parallel") {
        errors.push(policy.invalid("must be 'OrderedReady' or 'Parallel'"));
    }
    update_strategy(&spec.child("updateStrategy"), &mut errors);
    let retention = spec.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        errors.one_of(&retention.child(field), &["Retain", "Delete"]);
    }
    errors.non_negative(&spec.child("replicas"));
    errors.non_negative(&spec.child("minReadySeconds"));
    let start = spec.child("ordinals").child("start");
    errors.non_negative(&At { value: start.value, path: spec.path.child("ordinals.start") });
    template::selected(&spec, "statefulset", &mut errors);
    pods(object, &mut errors);
    template::always_restarting(&spec, "StatefulSet", &mut errors);
    errors
}

/// The template with the volumes that its claims become, so that mounts find them.
fn pods(object: &Value, errors: &mut ErrorList) {
    let mut copy = object.clone();
    let claims: Vec<String> =
        object.list(&["spec", "volumeClaimTemplates"]).iter().map(|claim| claim.name().to_owned()).collect();
    if let Some(pod) = copy.pointer_mut("/spec/template/spec") {
        let kept = pod.list(&["volumes"]).iter().filter(|v| !claims.iter().any(|claim| claim == v.text(&["name"])));
        let kept: Vec<Value> = kept.cloned().collect();
        let added = claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        let volumes: Vec<Value> = added.chain(kept).collect();
        pod.set("volumes", volumes);
        // The set gives its pods these.
        pod.set_or_remove("hostname", None);
        pod.set_or_remove("subdomain", None);
    }
    template::pod_template(&At::field(&copy, "spec").child("template"), errors);
}

fn update_strategy(at: &At<'_>, errors: &mut ErrorList) {
    let rolling = at.child("rollingUpdate");
    match at.child("type").text() {
        "" => errors.push(at.required("")),
        "OnDelete" if rolling.is_set() => {
            errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            errors.non_negative(&rolling.child("partition"));
            let unavailable = rolling.child("maxUnavailable");
            if unavailable.is_set() {
                number_or_percent(&unavailable, errors);
                if is_zero(&unavailable) {
                    errors.push(unavailable.invalid("cannot be 0"));
                }
                at_most_all(&unavailable, errors);
            }
        }
        _ => errors.push(Error::invalid(&at.path, at.value, "must be 'RollingUpdate' or 'OnDelete'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Value {
        json!({"spec": {"podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate"}, "replicas": 1,
            "selector": {"matchLabels": {"a": "b"}}, "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"terminationGracePeriodSeconds": 30,
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "containers": [{"name": "c", "image": "x",
                    "terminationMessagePolicy": "File", "imagePullPolicy": "Always",
                    "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}}}})
    }

    #[test]
    fn claims_can_be_mounted() {
        let texts: Vec<_> = spec_rules(&set()).iter().map(ToString::to_string).collect();
        assert!(texts.is_empty(), "{texts:?}");
        let mut other = set();
        other["spec"]["selector"]["matchLabels"]["a"] = json!("c");
        let texts: Vec<_> = spec_rules(&other).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`"
            ]
        );
    }
}
