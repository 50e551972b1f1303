//! Evictions: a delete of a pod that disruption budgets may refuse.

use kedge_base::time;
use kedge_meta::field::{Error as FieldError, Path};
use kedge_meta::{GroupKind, GroupResource, Reason, Status};
use serde_json::{Value, json};

use super::budget::{self, Guard};
use crate::value::ValueExt as _;
use crate::value::set_condition;
use crate::verbs::{self, DeleteOptions, Preconditions, Request, UpdateOptions};

/// How often a delete that lost a race is tried again.
const ATTEMPTS: usize = 20;

/// The options of the delete that an `Eviction` is. A dry run may be asked for in the query or in them; both must agree.
///
/// # Errors
/// 400 for another name than that of the path, 422 and 500 for options that make no sense.
pub fn delete_options(eviction: &Value, name: &str, dry_run: bool) -> Result<DeleteOptions, Status> {
    if eviction.name() != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let written = eviction.get("deleteOptions").filter(|options| !options.is_null());
    if written.is_some_and(|o| o.flag(&["ignoreStoreReadErrorWithClusterBreakingPotential"]) == Some(true)) {
        let path = Path::new("deleteOptions").child("ignoreStoreReadErrorWithClusterBreakingPotential");
        let why = "can not be set for pod eviction, try after removing the option";
        let errors = vec![FieldError::invalid(&path, true, why)];
        return Err(Status::invalid(&GroupKind::new("policy", "Eviction"), name, &errors));
    }
    let options = written.cloned().unwrap_or_else(|| json!({}));
    let mut options: DeleteOptions = serde_json::from_value(options)
        .map_err(|e| Status::bad_request(format!("error decoding DeleteOptions: {e}")))?;
    verbs::check_options(&options)?;
    if dry_run && options.dry_run.len() > 1 {
        let message =
            format!("Non-matching dry-run options in request and content: [All] and [{}]", options.dry_run.join(" "));
        return Err(Status::failure(500, Reason::Unknown, message));
    }
    if dry_run {
        options.dry_run = vec!["All".to_owned()];
    }
    Ok(options)
}

/// Evicts the pod that a request of the server's own names: who may evict need not be allowed to delete.
///
/// # Errors
/// 429 when a budget does not allow it, 404 and 409 as for a delete.
pub async fn evict(request: &Request<'_>, options: DeleteOptions) -> Result<(), Status> {
    Eviction { request, options }.run().await
}

struct Eviction<'a> {
    request: &'a Request<'a>,
    options: DeleteOptions,
}

impl Eviction<'_> {
    async fn run(&self) -> Result<(), Status> {
        let asked = self.asked_version().is_some();
        for _ in 0..ATTEMPTS {
            let pod = self.pod()?;
            if !budget::may_be_ignored(&pod) {
                return self.guarded(&pod).await;
            }
            // A pod that has not ended may become ready meanwhile, and a budget's.
            let deleted = self.delete((!budget::is_over(&pod) && !asked).then_some(&pod)).await;
            match deleted {
                Err(status) if status.reason == Reason::Conflict && !asked => {
                    self.request.served.store.fresh().await.map_err(verbs::store_failure)?;
                }
                deleted => return deleted,
            }
        }
        Err(Status::stale(&self.request.group_resource(), self.request.name))
    }

    /// The eviction of a pod that a budget may guard.
    async fn guarded(&self, pod: &Value) -> Result<(), Status> {
        let Some(budget) = budget::of(self.request.registry, pod)? else { return self.delete(None).await };
        match budget::guard(&budget, pod) {
            Guard::Stands => {
                budget::take(self.request, &budget).await?;
                self.delete(None).await
            }
            // Only as long as it is the pod that was looked at.
            Guard::Yields => match self.delete(Some(pod)).await {
                Err(status) if status.reason == Reason::Conflict && self.asked_version().is_none() => {
                    Err(budget::not_now(budget.name()))
                }
                deleted => deleted,
            },
        }
    }

    fn pod(&self) -> Result<Value, Status> {
        self.request.served.get(self.request.namespace, self.request.name)
    }

    fn asked_version(&self) -> Option<&str> {
        self.options.preconditions.as_ref()?.resource_version.as_deref()
    }

    /// Says why the pod goes, and deletes it; with `only`, if it still is that version of it.
    async fn delete(&self, only: Option<&Value>) -> Result<(), Status> {
        let mut options = self.options.clone();
        if let Some(pod) = only {
            let version = pod.text(&["metadata", "resourceVersion"]).to_owned();
            options.preconditions.get_or_insert_with(Preconditions::default).resource_version = Some(version);
        }
        let bound = options.preconditions.as_ref().is_some_and(|p| p.resource_version.is_some());
        if !self.request.dry_run {
            let version = self.announce(&options).await?;
            if let Some(preconditions) = options.preconditions.as_mut().filter(|_| bound) {
                preconditions.resource_version = Some(version);
            }
        }
        verbs::delete(self.request, &options).await.map(drop)
    }

    /// Puts the reason into the pod's status; the version that it then has.
    async fn announce(&self, options: &DeleteOptions) -> Result<String, Status> {
        let now = time::rfc3339(self.request.registry.clock.now());
        let transform = |old: Option<&Value>| {
            let mut pod = old.cloned().unwrap_or_default();
            check_preconditions(&pod, options)?;
            set_disrupted(&mut pod, &now);
            Ok(pod)
        };
        let request = Request { subresource: "status", ..self.request.clone() };
        let written = verbs::update(&request, &transform, UpdateOptions::default()).await?;
        Ok(written.object.text(&["metadata", "resourceVersion"]).to_owned())
    }
}

fn check_preconditions(pod: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let Some(preconditions) = &options.preconditions else { return Ok(()) };
    let conflict = |why: &str| Err(Status::conflict(&GroupResource::new("", "Pod"), pod.name(), why));
    let (uid, version) = (pod.text(&["metadata", "uid"]), pod.text(&["metadata", "resourceVersion"]));
    match (preconditions.uid.as_deref(), preconditions.resource_version.as_deref()) {
        (Some(wanted), _) if !wanted.is_empty() && wanted != uid => conflict(&format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )),
        (_, Some(wanted)) if !wanted.is_empty() && wanted != version => conflict(&format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        )),
        _ => Ok(()),
    }
}

fn set_disrupted(pod: &mut Value, now: &str) {
    let condition = json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
    set_condition(pod, condition, now);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_dry_run_is_one_wherever_it_is_asked_for() {
        let eviction = |options: Value| json!({"metadata": {"name": "p"}, "deleteOptions": options});
        let all = json!({"dryRun": ["All"]});
        for (options, query, dry) in [
            (Value::Null, false, 0),
            (Value::Null, true, 1),
            (all.clone(), false, 1),
            (all, true, 1),
            (json!({}), true, 1),
        ] {
            assert_eq!(delete_options(&eviction(options), "p", query).unwrap().dry_run.len(), dry);
        }
        assert_eq!(delete_options(&eviction(json!({"dryRun": ["Some"]})), "p", false).unwrap_err().code, 422);
        assert_eq!(delete_options(&eviction(json!({"dryRun": ["All", "All"]})), "p", true).unwrap_err().code, 500);
        assert_eq!(delete_options(&eviction(json!({})), "q", false).unwrap_err().code, 400);
        let forced = json!({"ignoreStoreReadErrorWithClusterBreakingPotential": true});
        assert_eq!(delete_options(&eviction(forced), "p", false).unwrap_err().code, 422);
    }

    #[test]
    fn the_condition_is_set_once() {
        let mut pod = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        set_disrupted(&mut pod, "1");
        set_disrupted(&mut pod, "2");
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        assert_eq!((conditions.len(), &conditions[1]["lastTransitionTime"]), (2, &json!("1")));
    }
}
