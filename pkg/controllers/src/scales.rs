//! Where kinds are served, and the scale of their objects.
//!
//! Whatever has a `scale` is scaled in the same way, a custom resource too. The scale is kept as it was read, so that all that its
//! server says of it is written back.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::SharedClock;
use kedge_client::{Client, Discovery, Error};
use kedge_meta::{Resource, Text};
use serde_json::{Value, json};
use tracing::warn;

/// How often a scale that others change is written, and how long after each other.
const TRIES: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(10);

/// A resource that is not known when this is built.
pub fn resource(group: &str, version: &str, plural: &str, kind: &str) -> Resource {
    Resource {
        group: Text::from(group.to_owned()),
        version: Text::from(version.to_owned()),
        plural: Text::from(plural.to_owned()),
        kind: Text::from(kind.to_owned()),
        namespaced: true,
    }
}

/// The group of an `apiVersion`.
///
/// # Errors
/// When it is none.
pub fn group_of(api_version: &str) -> Result<&str, String> {
    match api_version.split_once('/') {
        None => Ok(""),
        Some((group, version)) if !version.contains('/') => Ok(group),
        Some(_) => Err(format!("unexpected GroupVersion string: {api_version}")),
    }
}

/// What is served of that kind.
///
/// # Errors
/// When there is nothing, in upstream's words.
pub async fn find(discovery: &Discovery, group: &str, kind: &str) -> Result<Vec<Arc<Resource>>, String> {
    let of_kind = |found: &kedge_client::Found| {
        let all = found.resources.iter().map(|d| &d.resource);
        all.filter(|r| r.group == group && r.kind == kind).cloned().collect::<Vec<_>>()
    };
    let mut found = discovery.current().map(|found| of_kind(&found)).unwrap_or_default();
    if found.is_empty() {
        // It may have come just now.
        found = of_kind(&*discovery.refresh().await.map_err(|err| reason(&err))?);
    }
    if found.is_empty() { Err(format!("no matches for kind {kind:?} in group {group:?}")) } else { Ok(found) }
}

/// What went wrong, with the cause.
pub fn reason(err: &Error) -> String {
    match (err.status(), std::error::Error::source(err)) {
        (None, Some(cause)) => format!("{err}: {cause}"),
        _ => err.to_string(),
    }
}

/// The scale of an object.
pub struct Scale {
    resource: Arc<Resource>,
    namespace: String,
    name: String,
    object: Value,
}

impl Scale {
    /// Reads it from the first of `resources` that has one.
    ///
    /// # Errors
    /// What the first of them says.
    pub async fn read(
        client: &Client,
        resources: &[Arc<Resource>],
        namespace: &str,
        name: &str,
    ) -> Result<Self, Error> {
        let mut first = None;
        for resource in resources {
            match client.get_with(resource, namespace, name, "scale", &[]).await {
                Ok(object) => {
                    let (namespace, name) = (namespace.to_owned(), name.to_owned());
                    return Ok(Self { resource: resource.clone(), namespace, name, object });
                }
                Err(err) => first = first.or(Some(err)),
            }
        }
        Err(first.unwrap_or_else(|| Error::Request("unrecognized resource".to_owned())))
    }

    fn count(&self, part: &str) -> i32 {
        let count = self.object.pointer(part).and_then(Value::as_i64).unwrap_or_default();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    /// That of the object.
    pub fn uid(&self) -> &str {
        self.object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
    }

    /// How many pods it should have.
    pub fn wanted(&self) -> i32 {
        self.count("/spec/replicas")
    }

    /// How many pods it has.
    pub fn current(&self) -> i32 {
        self.count("/status/replicas")
    }

    /// Which pods are its own.
    pub fn selector(&self) -> &str {
        self.object.pointer("/status/selector").and_then(Value::as_str).unwrap_or_default()
    }

    /// Writes how many pods it should have, over what others write meanwhile.
    ///
    /// # Errors
    /// When it is refused, or changes all the time.
    pub async fn write(&mut self, client: &Client, clock: &SharedClock, replicas: i32) -> Result<(), Error> {
        let (resource, namespace, name) = (self.resource.clone(), &self.namespace, &self.name);
        let mut tries = 1;
        loop {
            match self.object.get_mut("spec").and_then(Value::as_object_mut) {
                Some(spec) => drop(spec.insert("replicas".to_owned(), replicas.into())),
                None => self.object["spec"] = json!({"replicas": replicas}),
            }
            let written: Result<Value, Error> =
                client.update_subresource(&resource, namespace, name, "scale", &self.object).await;
            let Err(err) = written else { return Ok(()) };
            if !err.is_conflict() || tries == TRIES {
                return Err(err);
            }
            tries += 1;
            clock.sleep(BETWEEN).await;
            match client.get_with(&resource, namespace, name, "scale", &[]).await {
                Ok(latest) => self.object = latest,
                Err(err) => warn!(namespace, name, error = %err, "a scale that has changed cannot be read"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_that_of_a_version() {
        assert_eq!(group_of("apps/v1"), Ok("apps"));
        assert_eq!((group_of("v1"), group_of("")), (Ok(""), Ok("")));
        assert_eq!(group_of("a/b/c"), Err("unexpected GroupVersion string: a/b/c".to_owned()));
    }
}
