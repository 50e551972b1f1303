//! RuntimeClass: what a class of runtime needs, and where it is, become the pod's.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_quota::amounts;
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Attributes, Registry};
use serde_json::{Value, json};

use crate::{Plugin, creates, forbidden, read, tolerations};

pub(crate) struct RuntimeClass;

/// The class that a pod names, if it names one.
async fn class_of(registry: &Registry, attributes: &Attributes<'_>) -> Result<Option<Value>, Status> {
    let name = match attributes.object.at(&["spec", "runtimeClassName"]) {
        None | Some(Value::Null) => return Ok(None),
        Some(name) => name.as_str().unwrap_or_default(),
    };
    let find = || read(registry, ("node.k8s.io", "runtimeclasses"), "", name);
    if let Some(class) = find()? {
        return Ok(Some(class));
    }
    // Another server may just have made it.
    registry.fresh().await.map_err(store_failure)?;
    match find()? {
        Some(class) => Ok(Some(class)),
        None => Err(forbidden(attributes, &format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

/// What every pod of the class needs; none where the class does not say.
fn overhead(class: Option<&Value>) -> Option<&Value> {
    let overhead = class?.get("overhead").filter(|overhead| !overhead.is_null())?;
    Some(overhead.get("podFixed").unwrap_or(&Value::Null))
}

fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    amounts::of(a) == amounts::of(b)
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        self.validates(attributes) && attributes.object.at(&["spec", "runtimeClassName"]).is_some()
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let says = |field: &str| attributes.object.at(&["spec", field]).is_some_and(|value| !value.is_null());
        creates(attributes, "", "pods") && (says("runtimeClassName") || says("overhead"))
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(class) = class_of(registry, attributes).await? else { return Ok(()) };
        if let Some(needed) = overhead(Some(&class)) {
            let own = attributes.object.at(&["spec", "overhead"]);
            if own.is_some_and(|own| own.as_object().is_some_and(|own| !own.is_empty())) && !same(own, Some(needed)) {
                return Err(forbidden(attributes, MISMATCH));
            }
            let needed = Some(needed.clone()).filter(|needed| !needed.is_null());
            attributes.object["spec"].set_or_remove("overhead", needed);
        }
        schedule(attributes, &class)
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let class = class_of(registry, attributes).await?;
        let own = attributes.object.at(&["spec", "overhead"]).filter(|own| !own.is_null());
        match overhead(class.as_ref()) {
            Some(needed) if !same(own, Some(needed)) => Err(forbidden(attributes, MISMATCH)),
            Some(_) => Ok(()),
            None if own.is_some() => {
                let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                Err(forbidden(attributes, why))
            }
            None => Ok(()),
        }
    }
}

/// Pods of the class run where it is to be found.
fn schedule(attributes: &mut Attributes<'_>, class: &Value) -> Result<(), Status> {
    let Some(scheduling) = class.get("scheduling").filter(|scheduling| !scheduling.is_null()) else { return Ok(()) };
    let wanted = scheduling.map(&["nodeSelector"]);
    for (key, value) in wanted.into_iter().flatten() {
        let own = attributes.object.at(&["spec", "nodeSelector", key]);
        if let Some(own) = own.filter(|own| *own != value) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (value, own) = (text(value), text(own));
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            );
            return Err(forbidden(attributes, &why));
        }
    }
    let merged =
        tolerations::merge(attributes.object.list(&["spec", "tolerations"]), scheduling.list(&["tolerations"]));
    let spec = attributes.object.entry("spec");
    for (key, value) in wanted.into_iter().flatten() {
        spec.entry("nodeSelector").or_insert_with(|| json!({})).set(key, value.clone());
    }
    if !merged.is_empty() {
        spec.insert("tolerations".into(), merged.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;

    async fn admitted(class: Value, spec: Value) -> Result<Value, String> {
        let (registry, _) = testing::registry().await;
        let mut stored =
            json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "c"}, "handler": "h"});
        stored.as_object_mut().unwrap().extend(class.as_object().unwrap().clone());
        testing::put(&registry, stored).await;
        let user = testing::user();
        let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
        (attributes.namespace, attributes.object) = ("a", json!({"metadata": {"name": "p"}, "spec": spec}));
        if RuntimeClass.mutates(&attributes) {
            RuntimeClass.admit(&registry, &mut attributes).await.map_err(|status| status.message)?;
        }
        if RuntimeClass.validates(&attributes) {
            RuntimeClass.validate(&registry, &attributes).await.map_err(|status| status.message)?;
        }
        Ok(attributes.object["spec"].clone())
    }

    fn refused(why: &str) -> Result<Value, String> {
        Err(format!("pods \"p\" is forbidden: {why}"))
    }

    #[tokio::test]
    async fn overhead_is_the_classs() {
        let class = || json!({"overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}}});
        let spec = admitted(class(), json!({"runtimeClassName": "c"})).await.unwrap();
        assert_eq!(spec["overhead"], json!({"cpu": "10m", "memory": "1Mi"}));
        let same = json!({"runtimeClassName": "c", "overhead": {"cpu": "0.01", "memory": "1024Ki"}});
        assert!(admitted(class(), same).await.is_ok());
        let other = json!({"runtimeClassName": "c", "overhead": {"cpu": "1"}});
        assert_eq!(admitted(class(), other).await, refused(MISMATCH));
        let none = refused("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead");
        assert_eq!(admitted(class(), json!({"overhead": {"cpu": "1"}})).await, none);
        assert_eq!(admitted(json!({}), json!({"runtimeClassName": "c", "overhead": {"cpu": "1"}})).await, none);
        let unknown = refused("pod rejected: RuntimeClass \"x\" not found");
        assert_eq!(admitted(json!({}), json!({"runtimeClassName": "x"})).await, unknown);
    }

    #[tokio::test]
    async fn pods_go_where_the_class_is() {
        let toleration = json!({"key": "k", "operator": "Exists"});
        let class = || json!({"scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [toleration]}});
        let spec = admitted(class(), json!({"runtimeClassName": "c", "nodeSelector": {"x": "y"}})).await.unwrap();
        assert_eq!((&spec["nodeSelector"], &spec["tolerations"]), (&json!({"a": "b", "x": "y"}), &json!([toleration])));
        let conflict = refused("conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = z");
        assert_eq!(admitted(class(), json!({"runtimeClassName": "c", "nodeSelector": {"a": "z"}})).await, conflict);
    }
}
