//! Priority: the class of a pod becomes its number.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Attributes, Operation, Registry, convert};
use kedge_storage::Matcher;
use serde_json::Value;

use crate::{Plugin, forbidden, is};

pub(crate) struct Priority;

/// Name, value and preemption policy of the class of a pod: the named one, or the default.
fn class_of(registry: &Registry, name: &str) -> Result<Option<Value>, Status> {
    let Some(classes) = registry.builtin("scheduling.k8s.io", "v1", "priorityclasses") else { return Ok(None) };
    if !name.is_empty() {
        return classes.store.get(name).map_err(store_failure)?.map(|o| convert::read(classes, &o)).transpose();
    }
    let mut default: Option<Value> = None;
    for (_, object) in classes.store.list("", &Matcher::default(), 0).map_err(store_failure)?.objects {
        let class = convert::read(classes, &object)?;
        let lower = |other: &Value| class.int(&["value"]) < other.int(&["value"]);
        if class.flag(&["globalDefault"]) == Some(true) && default.as_ref().is_none_or(lower) {
            default = Some(class);
        }
    }
    Ok(default)
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update) && is(attributes, "", "pods")
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && is(attributes, "scheduling.k8s.io", "priorityclasses")
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.operation == Operation::Update {
            keep(attributes);
            return Ok(());
        }
        let name = attributes.object.text(&["spec", "priorityClassName"]).to_owned();
        let class = class_of(registry, &name)?;
        if class.is_none() && !name.is_empty() {
            return Err(forbidden(attributes, &format!("no PriorityClass with name {name} was found")));
        }
        let value = class.as_ref().and_then(|c| c.int(&["value"])).unwrap_or_default();
        let policy = class.as_ref().map(|c| c.text(&["preemptionPolicy"])).filter(|p| !p.is_empty());
        let policy = policy.unwrap_or("PreemptLowerPriority").to_owned();
        let given = attributes.object.int(&["spec", "priority"]);
        if given.is_some_and(|given| given != value) {
            let why = format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
                given.unwrap_or_default()
            );
            return Err(forbidden(attributes, &why));
        }
        let wanted = attributes.object.text(&["spec", "preemptionPolicy"]);
        if !wanted.is_empty() && wanted != policy {
            let why = format!(
                "the string value of PreemptionPolicy ({wanted}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            );
            return Err(forbidden(attributes, &why));
        }
        let spec = attributes.object.entry("spec");
        if let Some(class) = class.filter(|_| name.is_empty()) {
            spec.insert("priorityClassName".into(), class.name().into());
        }
        spec.insert("priority".into(), value.into());
        spec.entry("preemptionPolicy").or_insert_with(|| policy.into());
        Ok(())
    }

    /// There is one default at most.
    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        if attributes.object.flag(&["globalDefault"]) != Some(true) {
            return Ok(());
        }
        match class_of(registry, "")? {
            Some(other) if attributes.operation == Operation::Create || other.name() != attributes.object.name() => {
                let name = other.name();
                let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
                Err(forbidden(attributes, &why))
            }
            _ => Ok(()),
        }
    }
}

/// An update that leaves out what was worked out at creation keeps it. Whatever else it says is for validation to refuse.
fn keep(attributes: &mut Attributes<'_>) {
    let Some(old) = attributes.old else { return };
    for field in ["priority", "preemptionPolicy"] {
        let left_out = attributes.object.at(&["spec", field]).is_none_or(Value::is_null);
        if let (true, Some(was)) = (left_out, old.at(&["spec", field])) {
            attributes.object.entry("spec").insert(field.into(), was.clone());
        }
    }
}
