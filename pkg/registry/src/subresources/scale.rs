//! `scale`: replicas of a workload as `autoscaling/v1` Scale.

use kedge_meta::field::{Error, Path};
use kedge_meta::{GroupKind, GroupResource, Status, labels};
use serde_json::{Value, json};

use crate::ownership::{Writer, scale_owners};
use crate::served::Served;
use crate::value::ValueExt as _;
use crate::verbs::{self, Request, ScaleOwners, UpdateOptions, Written};

/// Makes the wanted scale of the current one, and settles its owners.
pub type Transform<'a> = dyn Fn(&Value, &ScaleOwners<'_>) -> Result<Value, Status> + Send + Sync + 'a;

/// Scales the workload of a request.
///
/// # Errors
/// As for an update.
pub async fn update(request: &Request<'_>, transform: &Transform<'_>) -> Result<Written, Status> {
    let request = Request { subresource: "scale", writer: Writer::Settled, ..request.clone() };
    let owners = scale_owners(&request)?;
    let transform = |shown: Option<&Value>| transform(shown.unwrap_or(&Value::Null), &owners);
    let view = ScaleView { served: request.served, name: request.name, owners: &owners };
    verbs::update(&request, &transform, UpdateOptions { view: Some(&view), ..UpdateOptions::default() }).await
}

/// The scale of a workload.
pub fn scale_of(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    let copy = |field: &str| metadata.get(field).cloned().unwrap_or(Value::Null);
    let mut meta = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        meta.set(field, copy(field));
    }
    let selector = object.at(&["spec", "selector"]).cloned().unwrap_or_default();
    // Replication controllers have a plain map.
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let selector = if structured { selector } else { json!({ "matchLabels": selector }) };
    let selector = labels::Selector::from_label_selector(&selector).map(|s| s.to_string()).unwrap_or_default();
    let mut spec = json!({});
    if let Some(replicas) = object.int(&["spec", "replicas"]).filter(|r| *r > 0) {
        spec.set("replicas", replicas);
    }
    let replicas = object.int(&["status", "replicas"]).unwrap_or_default();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": spec,
        "status": { "replicas": replicas, "selector": selector },
    })
}

/// What `scale` shows of a workload.
struct ScaleView<'a> {
    served: &'a Served,
    name: &'a str,
    owners: &'a verbs::ScaleOwners<'a>,
}

impl verbs::View for ScaleView<'_> {
    fn show(&self, object: &Value) -> Result<Value, Status> {
        let mut scale = scale_of(object);
        self.owners.show(object, &mut scale)?;
        Ok(scale)
    }

    fn apply(&self, scale: &Value, old: &Value) -> Result<Value, Status> {
        let mut object = old.clone();
        object.entry("spec").insert("replicas".into(), replicas(scale, self.name)?.into());
        check_uid(self.served, scale, &object)?;
        object["metadata"].set_or_remove("resourceVersion", scale.at(&["metadata", "resourceVersion"]).cloned());
        self.owners.settle(scale, &mut object)?;
        Ok(object)
    }
}

/// A scale that is meant for one life of an object must not hit another.
fn check_uid(served: &Served, scale: &Value, object: &Value) -> Result<(), Status> {
    let (wanted, is) = (scale.text(&["metadata", "uid"]), object.text(&["metadata", "uid"]));
    if wanted.is_empty() || wanted == is {
        return Ok(());
    }
    let resource = GroupResource::new(&served.info.group, format!("{}/scale", served.info.plural));
    let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}");
    Err(Status::conflict(&resource, object.name(), &why))
}

fn replicas(scale: &Value, name: &str) -> Result<i64, Status> {
    let path = Path::new("spec").child("replicas");
    let error = match scale.at(&["spec", "replicas"]) {
        None | Some(Value::Null) => return Ok(0),
        Some(value) => match value.as_i64() {
            Some(n) if (0..=i64::from(i32::MAX)).contains(&n) => return Ok(n),
            Some(n) => Error::invalid(&path, n, "must be greater than or equal to 0"),
            None => return Err(Status::bad_request(format!("spec.replicas: {value} is no number"))),
        },
    };
    Err(Status::invalid(&GroupKind::new("autoscaling", "Scale"), name, &vec![error]))
}
