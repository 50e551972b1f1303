//! Defaults as upstream computes them. The walk is driven by the table: every structure of a type for which a group's
//! file has a rule gets it, wherever it is nested; declared defaults of single fields come from the table itself.
//!
//! Invariants: idempotent; parents come before their children, so that what a parent fills in is completed in turn;
//! afterwards rules restore what upstream's internal version keeps equal (`podIP` and `podIPs`, …).
//! Not here: `DeviceTaint.timeAdded`, which needs a clock and is the strategy's.

mod admissionregistration;
mod apiextensions;
mod apps;
mod authentication;
mod autoscaling;
mod batch;
mod core;
mod discovery;
mod flowcontrol;
mod networking;
mod object;
mod pod;
mod rbac;
mod resource;
mod scheduling;
mod storage;
mod volume;

use crate::table::{FieldDef, FieldType, TABLE, TypeId, kind as kind_of};
use object::Object;
use serde_json::Value;
use std::sync::LazyLock;

/// What a rule does to one object.
type Rule = fn(&mut Object);

/// A rule for a type, named by its definition without the leading `io.k8s.`.
pub(crate) enum Hook {
    /// Before the fields are visited.
    Before(&'static str, Rule),
    /// After the fields were visited.
    After(&'static str, Rule),
}

const GROUPS: &[&[Hook]] = &[
    core::HOOKS,
    pod::HOOKS,
    volume::HOOKS,
    apps::HOOKS,
    batch::HOOKS,
    networking::HOOKS,
    rbac::HOOKS,
    autoscaling::HOOKS,
    storage::HOOKS,
    admissionregistration::HOOKS,
    apiextensions::HOOKS,
    authentication::HOOKS,
    discovery::HOOKS,
    flowcontrol::HOOKS,
    resource::HOOKS,
    scheduling::HOOKS,
];

#[derive(Clone, Copy, Default)]
struct Rules {
    before: Option<Rule>,
    after: Option<Rule>,
}

static RULES: LazyLock<Vec<Rules>> = LazyLock::new(|| {
    let mut rules = vec![Rules::default(); TABLE.types.len()];
    for hook in GROUPS.iter().copied().flatten() {
        let (Hook::Before(name, rule) | Hook::After(name, rule)) = hook;
        let Some(id) = crate::table::type_by_name(&format!("io.k8s.{name}")) else { continue };
        let Some(slot) = rules.get_mut(usize::from(id.0)) else { continue };
        match hook {
            Hook::Before(..) => slot.before = Some(*rule),
            Hook::After(..) => slot.after = Some(*rule),
        }
    }
    rules
});

/// Applies all defaults to an object of a built-in kind; other kinds are left alone.
pub fn apply(group: &str, version: &str, kind: &str, value: &mut Value) {
    if let Some(ty) = kind_of(group, version, kind) {
        apply_type(ty, value);
    }
}

/// Applies all defaults to a value of type `ty`.
pub fn apply_type(ty: TypeId, value: &mut Value) {
    let Value::Object(object) = value else { return };
    let rules = RULES.get(usize::from(ty.0)).copied().unwrap_or_default();
    if let Some(rule) = rules.before {
        rule(object);
    }
    for field in &ty.def().fields {
        declared(field, object);
        if let Some(value) = object.get_mut(field.name) {
            visit(field.ty, Some(field), value);
        }
    }
    if let Some(rule) = rules.after {
        rule(object);
    }
}

/// A default that upstream declares at the field. For what is no pointer, zero values mean nothing new.
fn declared(field: &FieldDef, object: &mut Object) {
    let Some(default) = field.default_json() else { return };
    let idle = matches!(default, "{}" | "\"\"" | "0" | "false") && !field.is_pointer();
    if idle || !object::is_unset(field, object.get(field.name)) {
        return;
    }
    if let Ok(value) = serde_json::from_str(default) {
        object.insert(field.name.to_string(), value);
    }
}

fn visit(ty: FieldType, field: Option<&FieldDef>, value: &mut Value) {
    match (ty, value) {
        (FieldType::Object(id), value) => apply_type(id, value),
        (FieldType::List(inner), Value::Array(items)) if inner.object().is_some() => {
            items.iter_mut().for_each(|item| visit(*inner, None, item));
        }
        (FieldType::Map(FieldType::Quantity), Value::Object(map))
            if field.is_some_and(|field| field.go_type() == "v1.ResourceList") =>
        {
            core::resource_list(map);
        }
        (FieldType::Map(inner), Value::Object(map)) if inner.object().is_some() => {
            map.values_mut().for_each(|item| visit(*inner, None, item));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_rule_finds_its_type() {
        for hook in GROUPS.iter().copied().flatten() {
            let (Hook::Before(name, _) | Hook::After(name, _)) = hook;
            assert!(crate::table::type_by_name(&format!("io.k8s.{name}")).is_some(), "{name}");
        }
    }

    #[test]
    fn defaults_are_idempotent_on_bare_objects() {
        for info in crate::resources() {
            let ty = info.schema.builtin().unwrap();
            let mut once = serde_json::json!({});
            crate::normalize(ty, &mut once);
            apply_type(ty, &mut once);
            let mut twice = once.clone();
            apply_type(ty, &mut twice);
            assert_eq!(once, twice, "{}", info.plural);
        }
    }

    #[test]
    fn unknown_kinds_are_left_alone() {
        let mut value = serde_json::json!({"spec": {}});
        apply("example.com", "v1", "Thing", &mut value);
        assert_eq!(value, serde_json::json!({"spec": {}}));
    }
}
