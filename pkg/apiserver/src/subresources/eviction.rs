//! Evictions: a delete of a pod that disruption budgets may refuse.

use http::{Response, StatusCode};
use kedge_meta::{Status, labels};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, convert, verbs};
use kedge_storage::Matcher;
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::chain::Admitted;
use crate::respond;
use crate::server::ApiServer;
use crate::verbs::{message, registry_request, stored};

pub(crate) async fn create(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let bytes = body::read(admitted.request.body().take()).await?;
    let eviction = message(admitted.request.headers(), &bytes, ("policy", "v1", "Eviction"))?;
    if !eviction.name().is_empty() && eviction.name() != admitted.info.name {
        return Err(Status::bad_request(format!(
            "name in URL does not match name in Eviction object: {} {}",
            admitted.info.name,
            eviction.name()
        )));
    }
    let options = eviction.get("deleteOptions").cloned().unwrap_or_else(|| json!({}));
    let options: verbs::DeleteOptions = serde_json::from_value(options)
        .map_err(|e| Status::bad_request(format!("error decoding DeleteOptions: {e}")))?;
    check_budgets(server, &admitted, served)?;
    let mut request = registry_request(server, &admitted, served)?;
    request.subresource = "";
    request.dry_run |= options.dry_run.iter().any(|d| d == "All");
    verbs::delete(&request, &options).await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::object(StatusCode::CREATED, &success, crate::negotiate::Format::Json)
}

/// A pod that a budget covers may go only while that budget allows a disruption.
fn check_budgets(server: &ApiServer, admitted: &Admitted, served: &Served) -> Result<(), Status> {
    let info = &admitted.info;
    let pod = stored(served, &served.key(&info.namespace, &info.name), &info.name)?;
    let pod = convert::read(served, &pod)?;
    let finished = matches!(pod.text(&["status", "phase"]), "Succeeded" | "Failed" | "Pending");
    let Some(budgets) = server.registry.get("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    if finished || !pod.text(&["metadata", "deletionTimestamp"]).is_empty() {
        return Ok(());
    }
    let pod_labels = pod.map(&["metadata", "labels"]);
    let label = |key: &str| pod_labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let all =
        budgets.store.list(&budgets.scope(&info.namespace), &Matcher::default(), 0).map_err(verbs::store_failure)?;
    for (_, object) in all.objects {
        let budget = convert::read(budgets, &object)?;
        let selector = budget.at(&["spec", "selector"]).cloned().unwrap_or_default();
        let selector = labels::Selector::from_label_selector(&selector).map_err(|e| Status::internal(e.to_string()))?;
        let allowed = budget.int(&["status", "disruptionsAllowed"]).unwrap_or_default();
        if selector.matches_with(label) && allowed <= 0 {
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            return Err(Status::too_many_requests(message, 10));
        }
    }
    Ok(())
}
