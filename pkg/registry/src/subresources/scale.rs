//! `scale`: replicas of a workload as `autoscaling/v1` Scale.

use kedge_meta::field::{Error, Path};
use kedge_meta::{GroupKind, GroupResource, Status, labels};
use serde_json::{Value, json};

use crate::ownership::{Writer, scale_owners};
use crate::served::{ScalePaths, Served};
use crate::strategies::custom_resource::nested;
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
///
/// # Errors
/// When an object of a kind that came at run time has no replicas where they should be.
pub fn scale_of(served: &Served, object: &Value) -> Result<Value, Status> {
    match served.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
        None => Ok(built_in(object)),
        Some(paths) => {
            let (scale, found) = custom(paths, object)?;
            let missing = || format!("the spec replicas field {:?} does not exist", &*paths.spec_replicas);
            if found { Ok(scale) } else { Err(Status::internal(missing())) }
        }
    }
}

fn scale(object: &Value, spec: i64, status: i64, selector: &str) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    let mut meta = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        meta.set_or_remove(field, metadata.get(field).cloned());
    }
    let mut replicas = json!({});
    if spec > 0 {
        replicas.set("replicas", spec);
    }
    let mut state = json!({ "replicas": status });
    if !selector.is_empty() {
        state.set("selector", selector);
    }
    json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": replicas, "status": state })
}

fn built_in(object: &Value) -> Value {
    let selector = object.at(&["spec", "selector"]).cloned().unwrap_or_default();
    // Replication controllers have a plain map.
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let selector = if structured { selector } else { json!({ "matchLabels": selector }) };
    let selector = labels::Selector::from_label_selector(&selector).map(|s| s.to_string()).unwrap_or_default();
    let count = |field: &str| object.int(&[field, "replicas"]).unwrap_or_default();
    scale(object, count("spec"), count("status"), &selector)
}

/// The scale of an object that says where it is, and whether it has replicas.
fn custom(paths: &ScalePaths, object: &Value) -> Result<(Value, bool), Status> {
    let count = |path: &str| nested(object, path, "int64", Value::as_i64).map_err(Status::internal);
    let (spec, status) = (count(&paths.spec_replicas)?, count(&paths.status_replicas)?.unwrap_or_default());
    let selector = paths.label_selector.as_ref().map(|path| nested(object, path, "string", Value::as_str));
    let selector = selector.transpose().map_err(Status::internal)?.flatten().unwrap_or_default();
    Ok((scale(object, spec.unwrap_or_default(), status, selector), spec.is_some()))
}

/// What `scale` shows of a workload.
struct ScaleView<'a> {
    served: &'a Served,
    name: &'a str,
    owners: &'a verbs::ScaleOwners<'a>,
}

impl ScaleView<'_> {
    fn paths(&self) -> Option<&ScalePaths> {
        self.served.custom.as_ref()?.scale.as_ref()
    }
}

/// Puts a count at a place, with the objects on the way.
fn put(object: &mut Value, path: &str, count: i64) -> Result<(), Status> {
    let mut place = object;
    for step in ScalePaths::steps(path) {
        if place.is_null() {
            *place = json!({});
        }
        let Value::Object(fields) = place else {
            return Err(Status::internal(format!("value cannot be set because {path} is not a map")));
        };
        place = fields.entry(step).or_insert(Value::Null);
    }
    *place = count.into();
    Ok(())
}

impl verbs::View for ScaleView<'_> {
    fn show(&self, object: &Value) -> Result<Value, Status> {
        let mut scale = match self.paths() {
            None => built_in(object),
            // What has no replicas yet may be given some.
            Some(paths) => custom(paths, object)?.0,
        };
        self.owners.show(object, &mut scale)?;
        Ok(scale)
    }

    fn apply(&self, scale: &Value, old: &Value) -> Result<Value, Status> {
        let mut object = old.clone();
        let count = replicas(scale, self.name, self.paths().is_some())?;
        match self.paths() {
            None => {
                object.entry("spec").insert("replicas".into(), count.into());
            }
            Some(paths) => {
                if scale.at(&["spec", "replicas"]).is_none() && custom(paths, old).is_ok_and(|(_, found)| !found) {
                    let why = format!("the spec replicas field {:?} cannot be empty", &*paths.spec_replicas);
                    return Err(Status::bad_request(why));
                }
                put(&mut object, &paths.spec_replicas, count)?;
            }
        }
        check_uid(self.served, scale, &object)?;
        // A scale without a version is meant for whatever there is, also where objects may not be written so.
        let unbound = matches!(scale.text(&["metadata", "resourceVersion"]), "" | "0");
        if !unbound || self.paths().is_none() {
            object["metadata"].set_or_remove("resourceVersion", scale.at(&["metadata", "resourceVersion"]).cloned());
        }
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

/// The replicas that a scale asks for. What objects of other kinds may have they are asked themselves.
fn replicas(scale: &Value, name: &str, any: bool) -> Result<i64, Status> {
    let path = Path::new("spec").child("replicas");
    let error = match scale.at(&["spec", "replicas"]) {
        None | Some(Value::Null) => return Ok(0),
        Some(value) => match value.as_i64() {
            Some(n) if any || (0..=i64::from(i32::MAX)).contains(&n) => return Ok(n),
            Some(n) => Error::invalid(&path, n, "must be greater than or equal to 0"),
            None => return Err(Status::bad_request(format!("spec.replicas: {value} is no number"))),
        },
    };
    Err(Status::invalid(&GroupKind::new("autoscaling", "Scale"), name, &vec![error]))
}
