//! `scale`: replicas of a workload as `autoscaling/v1` Scale.

use http::{Response, StatusCode};
use kedge_meta::field::{Error, Path};
use kedge_meta::{GroupKind, GroupResource, Status, labels};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, convert, verbs};
use kedge_schema::SchemaRef;
use serde_json::{Value, json};

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::configuration::Configuration;
use crate::input::decode::posted;
use crate::input::negotiate::{self, Offer};
use crate::input::options::field_manager;
use crate::input::patch::{Patch, Target};
use crate::objects::{registry_request, stored};
use crate::output::respond;
use crate::server::ApiServer;

fn scale_of(object: &Value) -> Value {
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

const GROUP: &str = "autoscaling";

/// The scale that a request asks for.
enum Wanted {
    Scale(Value),
    Patched(Patch),
    Applied(Configuration),
}

impl Wanted {
    async fn read(admitted: &Admitted) -> Result<(Self, Vec<String>), Status> {
        if admitted.info.applies {
            let configuration = Configuration::read(&admitted.request, &admitted.info).await?;
            return Ok((Self::Applied(configuration), Vec::new()));
        }
        if admitted.info.verb == "patch" {
            return Ok((Self::Patched(Patch::read(&admitted.request, &admitted.info).await?), Vec::new()));
        }
        let bytes = admitted.request.body().read().await?;
        let body = posted(admitted.request.headers(), &bytes, &admitted.info, (GROUP, "v1", "Scale"))?;
        Ok((Self::Scale(body.object), body.warnings))
    }

    /// What it is, given what it is now, with its owners.
    fn of(&self, current: &Value, owners: &verbs::ScaleOwners<'_>, manager: &str) -> Result<Value, Status> {
        let mut scale = match self {
            Self::Scale(scale) => scale.clone(),
            Self::Patched(patch) => {
                let schema = SchemaRef::builtin_kind(GROUP, "v1", "Scale");
                let target = Target { group: GROUP, version: "v1", kind: "Scale", schema, resource: None };
                patch.transform(current, &target)?
            }
            Self::Applied(configuration) => {
                let Configuration { value, manager, force, .. } = configuration;
                let scale = owners.apply(current, value, manager, *force)?;
                configuration.warnings()?;
                return Ok(scale);
            }
        };
        owners.written(current, &mut scale, manager);
        Ok(scale)
    }
}

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::ANSWER)?;
    let (namespace, name) = (&admitted.info.namespace, &admitted.info.name);
    if admitted.info.verb == "get" {
        let current = stored(served, &served.key(namespace, name), name)?;
        let current = scale_of(&convert::read(served, &current)?);
        return respond::value(StatusCode::OK, &current, accepted.format);
    }
    let (wanted, mut warnings) = Wanted::read(&admitted).await?;
    let request = registry_request(server, &admitted, served)?;
    let request = verbs::Request { subresource: "scale", writer: verbs::Writer::Settled, ..request };
    let owners = verbs::scale_owners(&request)?;
    let manager = field_manager(&admitted.info, admitted.request.headers());
    let transform = |shown: Option<&Value>| wanted.of(shown.unwrap_or(&Value::Null), &owners, &manager);
    let view = ScaleView { served, name, owners: &owners };
    let options = verbs::UpdateOptions { view: Some(&view), ..verbs::UpdateOptions::default() };
    let written = verbs::update(&request, &transform, options).await?;
    match &wanted {
        Wanted::Scale(_) => {}
        Wanted::Patched(patch) => warnings = patch.warnings(),
        Wanted::Applied(configuration) => warnings = configuration.warnings()?,
    }
    let mut response = respond::value(StatusCode::OK, &scale_of(&written.object), accepted.format)?;
    respond::warn(&mut response, &[warnings, written.warnings].concat());
    Ok(response)
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
