//! What is to be done about the migrations of one resource, and what of a definition matters for them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Migration;

/// A step.
#[derive(Debug)]
pub(super) enum Action<'a> {
    /// It is over, and does not say yet that it runs no more.
    CleanUp(&'a Migration),
    Begin(&'a Migration),
    /// It runs, and needs the version up to which objects are migrated.
    Mark(&'a Migration),
    Migrate(&'a Migration),
}

/// One migration of a resource runs at a time: the oldest.
pub(super) fn plan(all: &[Arc<Migration>]) -> Vec<Action<'_>> {
    let over = all.iter().filter(|m| m.is("Running") && m.is_over());
    let mut actions: Vec<Action<'_>> = over.map(|m| Action::CleanUp(m)).collect();
    let age = |m: &&Arc<Migration>| (m.metadata.creation_timestamp.clone(), m.metadata.name.clone());
    let running = all.iter().filter(|m| m.is("Running") && !m.is_over()).min_by_key(age);
    let next = || all.iter().filter(|m| !m.is("Running") && !m.is_over()).min_by_key(age);
    actions.extend(match running {
        Some(migration) if migration.status.resource_version.is_empty() => Some(Action::Mark(migration)),
        Some(migration) => Some(Action::Migrate(migration)),
        None => next().map(|migration| Action::Begin(migration)),
    });
    actions
}

/// Whether a definition is of the generation that its migration began with, and the version that it stores.
pub(super) fn stored(definition: &Value) -> (bool, Value) {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    let migrating = conditions.into_iter().find(|condition| condition["type"] == "StorageMigrating");
    let same = migrating.is_some_and(|condition| {
        condition["observedGeneration"].is_i64()
            && condition["observedGeneration"] == definition["metadata"]["generation"]
    });
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let stored = versions.into_iter().find(|version| version["storage"] == true);
    (same, stored.map(|version| version["name"].clone()).unwrap_or_default())
}

/// Puts a condition in the place of the one of its type.
pub(super) fn put(object: &mut Value, mut said: Value, now: &str) {
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let was = conditions.iter_mut().find(|condition| condition["type"] == said["type"]);
    let since = was.as_ref().filter(|was| was["status"] == said["status"]).map(|was| was["lastTransitionTime"].clone());
    said["lastTransitionTime"] = since.unwrap_or_else(|| now.into());
    match was {
        Some(slot) => *slot = said,
        None => conditions.push(said),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn migration(name: &str, minute: u32, conditions: &[(&str, &str)], version: &str) -> Arc<Migration> {
        let conditions: Vec<Value> =
            conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")},
                "spec": {"resource": {"group": "example.com", "resource": "crontabs"}},
                "status": {"conditions": conditions, "resourceVersion": version},
            }))
            .unwrap(),
        )
    }

    fn steps(all: &[Arc<Migration>]) -> Vec<String> {
        let step = |action: Action<'_>| match action {
            Action::CleanUp(m) => format!("clean up {}", m.metadata.name),
            Action::Begin(m) => format!("begin {}", m.metadata.name),
            Action::Mark(m) => format!("mark {}", m.metadata.name),
            Action::Migrate(m) => format!("migrate {}", m.metadata.name),
        };
        plan(all).into_iter().map(step).collect()
    }

    #[test]
    fn one_migration_of_a_resource_runs_at_a_time() {
        let (new, old) = (migration("a", 2, &[], ""), migration("b", 1, &[], ""));
        assert_eq!(steps(&[new.clone(), old]), ["begin b"]);
        let running = [("Running", "True")];
        assert_eq!(steps(&[new.clone(), migration("b", 1, &running, "")]), ["mark b"]);
        assert_eq!(steps(&[new.clone(), migration("b", 1, &running, "7")]), ["migrate b"]);
        let over = migration("b", 1, &[("Running", "True"), ("Succeeded", "True")], "7");
        assert_eq!(steps(&[new.clone(), over]), ["clean up b", "begin a"]);
        let done = migration("b", 1, &[("Running", "False"), ("Failed", "True")], "7");
        assert_eq!(steps(std::slice::from_ref(&done)), [""; 0]);
    }

    #[test]
    fn versions_are_forgotten_when_nothing_has_happened_meanwhile() {
        let mut definition = json!({"metadata": {"generation": 3},
            "spec": {"versions": [{"name": "v1", "storage": false}, {"name": "v2", "storage": true}]}});
        assert_eq!(stored(&definition), (false, json!("v2")));
        put(&mut definition, json!({"type": "StorageMigrating", "status": "True", "observedGeneration": 3}), "now");
        assert_eq!(stored(&definition), (true, json!("v2")));
        definition["metadata"]["generation"] = json!(4);
        assert!(!stored(&definition).0);
        put(&mut definition, json!({"type": "StorageMigrating", "status": "True"}), "later");
        let conditions = definition["status"]["conditions"].as_array().unwrap();
        assert_eq!((conditions.len(), &conditions[0]["lastTransitionTime"]), (1, &json!("now")));
    }
}
