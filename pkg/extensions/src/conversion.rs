//! How the versions of a custom resource become each other: by their names alone, or by asking a webhook.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::SharedClock;
use kedge_meta::{GroupVersion, Reason, Status, Text};
use kedge_registry::convert::{Conversed, Conversion};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{ConversionFailure, Conversions, Registry};
use kedge_schema::structural::Structural;
use kedge_webhook::{Caller, ClientConfig};
use serde_json::{Map, Value, json};

use crate::definition::Crd;

/// How long a webhook may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The versions of reviews that are spoken here.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// The schemas of a kind, by version.
type Schemas = Arc<[(String, Arc<Structural>)]>;

/// What webhooks are asked with.
#[derive(Clone)]
pub(crate) struct Asking {
    caller: Arc<Caller>,
    counted: Arc<Conversions>,
    clock: SharedClock,
}

impl Asking {
    pub(crate) fn new(caller: Arc<Caller>, registry: &Registry) -> Self {
        Self { caller, counted: registry.conversions.clone(), clock: registry.clock.clone() }
    }
}

/// The conversion that a definition asks for.
pub(crate) fn of(crd: &Crd, schemas: &[(Text, Arc<Structural>)], asking: &Asking) -> Arc<dyn Conversion> {
    let version = |(name, schema): &(Text, Arc<Structural>)| {
        (GroupVersion::new(&crd.spec.group, name).to_string(), schema.clone())
    };
    let schemas: Schemas = schemas.iter().map(version).collect();
    let webhook = crd.spec.conversion.as_ref().filter(|conversion| conversion.strategy == "Webhook");
    let Some(conversion) = webhook else { return Arc::new(Renamed(schemas)) };
    let webhook = conversion.webhook.clone().unwrap_or_default();
    let understood = webhook.list(&["conversionReviewVersions"]).iter().filter_map(Value::as_str);
    let review = understood.filter_map(|version| REVIEWS.into_iter().find(|known| *known == version)).next();
    Arc::new(Asked {
        definition: crd.metadata.name.as_str().into(),
        schemas,
        asking: asking.clone(),
        config: ClientConfig::from_value(&webhook["clientConfig"]).map_err(|err| err.to_string()),
        review,
    })
}

/// Drops what the version `to` does not know.
fn prune(schemas: &Schemas, object: &mut Value, to: &str) -> Result<(), Status> {
    let schema = schemas.iter().find(|(version, _)| version == to).map(|(_, schema)| schema);
    schema.map_or(Ok(()), |schema| schema.prune(object, &mut Vec::new()).map_err(|err| Status::internal(err.message)))
}

/// Versions have other names, and each knows its own fields.
struct Renamed(Schemas);

impl Conversion for Renamed {
    fn convert<'a>(&'a self, objects: &'a mut [Value], to: &'a str) -> Conversed<'a> {
        let mut others = objects.iter_mut().filter(|object| object["apiVersion"] != to);
        Conversed::Done(others.try_for_each(|object| {
            object["apiVersion"] = to.into();
            prune(&self.0, object, to)
        }))
    }
}

/// A webhook converts.
struct Asked {
    definition: Box<str>,
    schemas: Schemas,
    asking: Asking,
    config: Result<ClientConfig, String>,
    /// The version of reviews that it understands.
    review: Option<&'static str>,
}

impl Conversion for Asked {
    fn convert<'a>(&'a self, objects: &'a mut [Value], to: &'a str) -> Conversed<'a> {
        if objects.iter().all(|object| object["apiVersion"] == to) {
            return Conversed::Done(Ok(()));
        }
        Conversed::Waits(Box::pin(async move {
            self.ask(objects, to).await.map_err(|(_, text)| Status::failure(500, Reason::Unknown, text))?;
            objects.iter_mut().try_for_each(|object| prune(&self.schemas, object, to))
        }))
    }

    fn waits(&self) -> bool {
        true
    }
}

/// Why a webhook did not convert, and what is said of it.
type Failed = (ConversionFailure, String);

impl Asked {
    async fn ask(&self, objects: &mut [Value], to: &str) -> Result<(), Failed> {
        let mut others: Vec<&mut Value> = objects.iter_mut().filter(|object| object["apiVersion"] != to).collect();
        let Some(first) = others.first() else { return Ok(()) };
        let version = |api_version: &str| api_version.rsplit('/').next().unwrap_or_default().to_owned();
        let (from, kind, began) = (version(first.text(&["apiVersion"])), kind_of(first), self.asking.clock.monotonic());
        let asked = self.convert_all(&mut others, &kind, to).await;
        let took = self.asking.clock.monotonic().saturating_sub(began);
        let failure = asked.as_ref().err().map(|(failure, _)| *failure);
        self.asking.counted.observe(&self.definition, [&from, &version(to)], failure, took);
        asked
    }

    async fn convert_all(&self, others: &mut [&mut Value], kind: &str, to: &str) -> Result<(), Failed> {
        let failed = |why: &dyn std::fmt::Display| format!("conversion webhook for {kind} failed: {why}");
        let call = |why: &dyn std::fmt::Display| (ConversionFailure::Call, failed(why));
        let config = self.config.as_ref().map_err(|err| call(&err))?;
        let review = self
            .review
            .ok_or_else(|| (ConversionFailure::Call, "no supported conversion review versions".to_owned()))?;
        let uid = kedge_base::random::uuid();
        let body = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("apiextensions.k8s.io/{review}"),
            "request": {"uid": uid, "desiredAPIVersion": to, "objects": others},
        });
        let answer =
            self.asking.caller.post(config, body.to_string().into(), TIMEOUT).await.map_err(|err| call(&err))?;
        let mut answer: Value = serde_json::from_slice(&answer).map_err(|err| call(&err))?;
        let converted = answered(&mut answer, review, &uid);
        let converted = converted.map_err(|why| (ConversionFailure::Malformed, failed(&why)))?;
        if converted.len() != others.len() {
            let (got, wanted) = (converted.len(), others.len());
            let why = format!("conversion webhook for {kind} returned {got} objects, expected {wanted}");
            return Err((ConversionFailure::Partial, why));
        }
        for (at, (object, mut converted)) in others.iter_mut().zip(converted).enumerate() {
            let invalid = |what: &str, why: String| {
                let why = format!("conversion webhook for {kind} returned invalid {what} at index {at}: {why}");
                (ConversionFailure::Invalid, why)
            };
            check(object, &converted, to).map_err(|why| invalid("converted object", why))?;
            restore_metadata(object, &mut converted).map_err(|why| invalid("metadata in object", why))?;
            **object = converted;
        }
        Ok(())
    }
}

/// Group, version and kind as Go prints them.
fn kind_of(object: &Value) -> String {
    format!("{}, Kind={}", object.text(&["apiVersion"]), object.text(&["kind"]))
}

/// The objects of an answer.
///
/// # Errors
/// Why it is none.
fn answered(answer: &mut Value, review: &str, uid: &str) -> Result<Vec<Value>, String> {
    let wanted = format!("apiextensions.k8s.io/{review}, Kind=ConversionReview");
    let is = kind_of(answer);
    if review == "v1" && is != wanted {
        return Err(format!("expected webhook response of {wanted}, got {is}"));
    }
    let response = &mut answer["response"];
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    if review == "v1" && response.text(&["uid"]) != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", response.text(&["uid"])));
    }
    let (status, message) = (response.text(&["result", "status"]), response.text(&["result", "message"]));
    match (status, message) {
        ("Success", _) => {}
        (status, "") => return Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => return Err(message.to_owned()),
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// What a webhook may not change.
fn check(object: &Value, converted: &Value, to: &str) -> Result<(), String> {
    let is = converted.text(&["apiVersion"]);
    if is != to {
        return Err(format!("invalid groupVersion (expected {to}, received {is})"));
    }
    let (kind, is) = (object.text(&["kind"]), converted.text(&["kind"]));
    if kind != is {
        return Err(format!("invalid kind (expected {kind}, received {is})"));
    }
    for (name, field) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (was, is) = (object.text(&["metadata", field]), converted.text(&["metadata", field]));
        if was != is {
            return Err(format!("must have the same {name}: {was} != {is}"));
        }
    }
    Ok(())
}

/// Of metadata a webhook may change labels and annotations alone.
fn restore_metadata(object: &Value, converted: &mut Value) -> Result<(), String> {
    let Some(answered) = converted.get("metadata") else {
        return Err("missing metadata in converted object".to_owned());
    };
    let Value::Object(answered) = answered else {
        return Err("invalid metadata of type that is no object in converted object".to_owned());
    };
    let mut metadata = object.map(&["metadata"]).cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match answered.get(field) {
            None | Some(Value::Null) => {
                metadata.remove(field);
            }
            Some(Value::Object(own)) => {
                check_texts(field, own)?;
                metadata.insert(field.to_owned(), Value::Object(own.clone()));
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object: it is no object")),
        }
    }
    converted.set("metadata", metadata);
    Ok(())
}

fn check_texts(field: &str, own: &Map<String, Value>) -> Result<(), String> {
    for (key, value) in own {
        let Some(text) = value.as_str() else {
            return Err(format!("metadata.{field}[{key}] must be a string in converted object"));
        };
        let mut complaints = kedge_meta::names::is_qualified_name(&key.to_lowercase());
        if field == "labels" {
            complaints.extend(kedge_meta::names::is_valid_label_value(text));
        }
        if let Some(why) = complaints.first() {
            return Err(format!("metadata.{field}: Invalid value: {key:?}: {why}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_are_looked_at() {
        let answer = |change: &dyn Fn(&mut Value)| {
            let mut answer = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
                "response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{"a": 1}]}});
            change(&mut answer);
            answered(&mut answer, "v1", "u")
        };
        assert_eq!(answer(&|_| {}).unwrap(), [json!({"a": 1})]);
        assert_eq!(
            answer(&|a| a["response"]["uid"] = json!("v")).unwrap_err(),
            r#"expected response.uid="u", got "v""#
        );
        assert_eq!(answer(&|a| a["response"] = Value::Null).unwrap_err(), "no response provided");
        let refused = json!({"status": "Failure", "message": "no"});
        assert_eq!(answer(&|a| a["response"]["result"] = refused.clone()).unwrap_err(), "no");
        assert!(answer(&|a| a["kind"] = json!("Other")).unwrap_err().starts_with("expected webhook response of"));
    }

    #[test]
    fn metadata_stays_but_for_labels_and_annotations() {
        let object =
            json!({"kind": "K", "metadata": {"name": "a", "uid": "u", "labels": {"a": "b"}, "finalizers": ["x/y"]}});
        let mut converted = json!({"apiVersion": "g/v2", "kind": "K",
            "metadata": {"name": "a", "uid": "u", "annotations": {"c": "d"}, "finalizers": []}});
        check(&object, &converted, "g/v2").unwrap();
        restore_metadata(&object, &mut converted).unwrap();
        let wanted = json!({"name": "a", "uid": "u", "annotations": {"c": "d"}, "finalizers": ["x/y"]});
        assert_eq!(converted["metadata"], wanted);
        converted["metadata"]["labels"] = json!({"a": "not a value"});
        assert!(restore_metadata(&object, &mut converted).is_err());
        converted["metadata"]["name"] = json!("b");
        assert_eq!(check(&object, &converted, "g/v2").unwrap_err(), "must have the same name: a != b");
    }
}
