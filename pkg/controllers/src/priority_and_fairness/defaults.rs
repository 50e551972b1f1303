//! Default objects: made when they are missing; brought up to date unless somebody has taken them over, which an annotation
//! says, or their generation where there is no annotation.

use futures::{StreamExt as _, TryStreamExt as _};
use kedge_base::BoxFuture;
use kedge_client::{Client, Error, Patch};
use kedge_meta::{Resource, resources};
use serde_json::{Value, json};
use tracing::info;

const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Who owns what is made, as upstream.
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
/// Nobody can take these over.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// Brings all of `defaults` up to date: priority levels and flow schemas.
///
/// # Errors
/// When one of them cannot be read or written.
pub async fn ensure(client: &Client, defaults: &[Value]) -> Result<(), Error> {
    // In a box each: whether a closure over references may go to another thread is more than the compiler sees.
    let each: Vec<BoxFuture<'_, _>> = defaults.iter().map(|wanted| Box::pin(ensure_one(client, wanted)) as _).collect();
    // All of them share a write to the disk or two.
    futures::stream::iter(each).buffer_unordered(defaults.len().max(1)).try_collect().await
}

pub(super) async fn ensure_one(client: &Client, wanted: &Value) -> Result<(), Error> {
    let resource = resource_of(wanted);
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let found = match client.get::<Value>(resource, "", name).await {
        Ok(found) => found,
        Err(err) if err.is_not_found() => {
            return match client.create_as::<Value>(resource, "", wanted, PRODUCER).await {
                Err(err) if err.is_already_exists() => Ok(()),
                created => created.map(|_| info!(kind = resource.kind.as_str(), name, "created")),
            };
        }
        Err(err) => return Err(err),
    };
    let Some(patch) = update(&found, wanted) else { return Ok(()) };
    info!(kind = resource.kind.as_str(), name, "brought up to date");
    client.patch::<Value>(resource, "", name, Patch::Merge(patch), None).await.map(drop)
}

fn resource_of(object: &Value) -> &'static Resource {
    if object["kind"] == *resources::FLOW_SCHEMAS.kind {
        &resources::FLOW_SCHEMAS
    } else {
        &resources::PRIORITY_LEVEL_CONFIGURATIONS
    }
}

/// What an object lacks to be up to date.
fn update(found: &Value, wanted: &Value) -> Option<Value> {
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let said = found["metadata"]["annotations"][AUTOUPDATE].as_str().and_then(go_bool);
    let is_ours = MANDATORY.contains(&name) || said.unwrap_or_else(|| found["metadata"]["generation"] == 1);
    let mut patch = json!({});
    if said != Some(is_ours) {
        patch["metadata"]["annotations"][AUTOUPDATE] = is_ours.to_string().into();
    }
    // How much of the server others may borrow from those who are exempt is the administrator's to say.
    let spec = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(spec) = spec.as_object_mut().filter(|spec| spec.get("type").is_some_and(|kind| kind == "Exempt")) {
            spec.remove("exempt");
        }
        spec
    };
    if is_ours && spec(found) != spec(wanted) {
        patch["spec"] = replacing(&found["spec"], &wanted["spec"]);
    }
    (patch != json!({})).then_some(patch)
}

/// A merge patch that leaves nothing of `old` that `new` lacks.
fn replacing(old: &Value, new: &Value) -> Value {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else { return new.clone() };
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let kept = after
        .iter()
        .map(|(key, value)| (key.clone(), before.get(key).map_or(value.clone(), |old| replacing(old, value))));
    gone.chain(kept).collect()
}

/// What Go's parser of booleans reads.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, annotation: Option<&str>, generation: i64, spec: Value) -> Value {
        let annotations = annotation.map_or(json!(null), |value| json!({ AUTOUPDATE: value }));
        json!({"metadata": {"name": name, "generation": generation, "annotations": annotations}, "spec": spec})
    }

    #[test]
    fn what_somebody_has_taken_over_is_left_to_them() {
        let (old, new) = (json!({"a": {"x": 1, "y": 2}, "b": 1}), json!({"a": {"x": 3}}));
        let patch = json!({"a": {"x": 3, "y": null}, "b": null});
        let update = |annotation, generation, name: &str| {
            update(&object(name, annotation, generation, old.clone()), &object(name, Some("true"), 1, new.clone()))
        };
        assert_eq!(update(Some("true"), 5, "s"), Some(json!({"spec": patch})));
        assert_eq!(update(Some("false"), 1, "s"), None);
        let annotated = |value: &str| json!({"annotations": { AUTOUPDATE: value }});
        assert_eq!(update(None, 1, "s"), Some(json!({"metadata": annotated("true"), "spec": patch})));
        assert_eq!(update(Some("maybe"), 2, "s"), Some(json!({"metadata": annotated("false")})));
        assert_eq!(update(Some("false"), 2, "exempt"), Some(json!({"metadata": annotated("true"), "spec": patch})));
    }

    #[test]
    fn who_is_up_to_date_and_what_is_lent_of_the_exempt_is_left_alone() {
        let level = |percent: i64| json!({"type": "Exempt", "exempt": {"lendablePercent": percent}});
        let (found, wanted) =
            (object("exempt", Some("true"), 2, level(50)), object("exempt", Some("true"), 1, level(0)));
        assert_eq!(update(&found, &wanted), None);
    }
}
