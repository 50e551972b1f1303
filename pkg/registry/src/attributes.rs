//! What admission sees of a request.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use kedge_base::exposition::Exposition;
use kedge_meta::{Status, UserInfo};
use kedge_schema::ResourceInfo;
use kedge_storage::Object;
use serde_json::{Value, json};

use crate::notes::Notes;
use crate::registry::Registry;
use crate::verbs::{DeleteOptions, store_failure};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// Its name in messages and in reviews.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What a write says of itself beside its object. Patches count as updates, as upstream's do.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions<'a> {
    /// As it was asked for; empty when it was not.
    pub field_manager: &'a str,
    /// `Ignore`, `Warn`, `Strict`, or empty.
    pub field_validation: &'a str,
}

/// The options of a request.
#[derive(Debug, Clone, Copy)]
pub enum Options<'a> {
    /// Connections have none.
    None,
    Write(WriteOptions<'a>),
    Delete(&'a DeleteOptions),
}

/// A request on its way through admission.
pub struct Attributes<'a> {
    pub operation: Operation,
    pub resource: &'a ResourceInfo,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// That of the object. A namespace is its own.
    pub namespace: &'a str,
    /// Empty when the name is still to be generated, and for what goes with its whole collection.
    pub name: &'a str,
    /// The new object; null for a delete, and options for a connection.
    pub object: Value,
    pub old: Option<&'a Value>,
    pub options: Options<'a>,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    pub reinvocation: Reinvocation,
    /// What is said about the request beside its answer.
    pub notes: Notes,
    namespace_object: OnceLock<Option<Value>>,
}

/// A second pass through the mutating plugins. There is one at most.
#[derive(Default)]
pub struct Reinvocation {
    second: bool,
    required: bool,
    /// What plugins remember of the first pass.
    kept: Vec<(&'static str, Kept)>,
}

type Kept = Box<dyn Any + Send + Sync>;

impl Reinvocation {
    /// Whether this is the second pass.
    pub fn is_second(&self) -> bool {
        self.second
    }

    /// Asks for a second pass: somebody who is no part of this server changed the object, and others are to see what it is now.
    pub fn require(&mut self) {
        self.required = true;
    }

    /// Begins the second pass if somebody asked for it.
    pub fn begin(&mut self) -> bool {
        let wanted = self.required && !self.second;
        self.second |= wanted;
        wanted
    }

    /// What a plugin remembers from one pass to the other.
    pub fn kept<T: Default + Any + Send + Sync>(&mut self, plugin: &'static str) -> T {
        let known = self.kept.iter().position(|(name, kept)| *name == plugin && kept.is::<T>());
        let kept = known.and_then(|at| self.kept.swap_remove(at).1.downcast().ok());
        kept.map(|kept| *kept).unwrap_or_default()
    }

    /// Has a plugin remember something.
    pub fn keep(&mut self, plugin: &'static str, what: impl Any + Send + Sync) {
        self.kept.push((plugin, Box::new(what)));
    }
}

impl<'a> Attributes<'a> {
    /// A request that carries nothing yet.
    pub fn new(operation: Operation, resource: &'a ResourceInfo, user: &'a UserInfo) -> Self {
        Self {
            operation,
            resource,
            subresource: "",
            namespace: "",
            name: "",
            object: Value::Null,
            old: None,
            options: Options::None,
            user,
            dry_run: false,
            reinvocation: Reinvocation::default(),
            notes: Notes::default(),
            namespace_object: OnceLock::new(),
        }
    }

    /// The same under another name: that of the object may have been generated meanwhile. What it was loses its object to that.
    #[must_use]
    pub fn named<'b>(&mut self, name: &'b str) -> Attributes<'b>
    where
        'a: 'b,
    {
        Attributes {
            name,
            object: std::mem::take(&mut self.object),
            reinvocation: std::mem::take(&mut self.reinvocation),
            notes: self.notes.clone(),
            namespace_object: std::mem::take(&mut self.namespace_object),
            ..*self
        }
    }

    /// Group, version and kind of the object: a subresource may have its own.
    pub fn kind(&self) -> (&str, &str, &str) {
        let of = |info: &'a ResourceInfo| (info.group.as_str(), info.version.as_str(), info.kind.as_str());
        match self.resource.subresource(self.subresource) {
            Some(sub) => (&sub.kind.group, &sub.kind.version, &sub.kind.kind),
            None => of(self.resource),
        }
    }

    /// The options as an object of `meta.k8s.io/v1`; null for a connection.
    pub fn options_object(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut value = match self.options {
            Options::Delete(options) => serde_json::to_value(options).unwrap_or_else(|_| json!({})),
            Options::Write(_) | Options::None => json!({}),
        };
        value["kind"] = kind.into();
        value["apiVersion"] = "meta.k8s.io/v1".into();
        if self.dry_run {
            value["dryRun"] = json!(["All"]);
        }
        if let Options::Write(options) = self.options {
            let fields = [("fieldManager", options.field_manager), ("fieldValidation", options.field_validation)];
            for (field, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
                value[field] = text.into();
            }
        }
        value
    }

    /// The namespace that the request is in, looked up once; none when there is none of that name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn namespace_object(&self, registry: &Registry) -> Result<Option<&Value>, Status> {
        if let Some(known) = self.namespace_object.get() {
            return Ok(known.as_ref());
        }
        let found = stored_namespace(registry, self.namespace)?;
        let found = found.map(|object| object.to_value().map_err(Status::internal)).transpose()?;
        Ok(self.namespace_object.get_or_init(|| found).as_ref())
    }

    /// Warns the client.
    pub fn warn(&self, text: impl Into<String>) {
        self.notes.warn(text);
    }

    /// Notes something for the audit.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        self.notes.annotate(key, value);
    }
}

/// A namespace as it is stored.
///
/// # Errors
/// When the store fails.
pub fn stored_namespace(registry: &Registry, name: &str) -> Result<Option<Arc<Object>>, Status> {
    let Some(namespaces) = registry.builtin("", "v1", "namespaces").filter(|_| !name.is_empty()) else {
        return Ok(None);
    };
    namespaces.store.get(name).map_err(store_failure)
}

/// The admission chain.
#[async_trait]
pub trait Admission: Send + Sync {
    /// May change the object.
    ///
    /// # Errors
    /// The refusal.
    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status>;

    /// Sees the object as it will be stored.
    ///
    /// # Errors
    /// The refusal.
    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status>;

    /// Writes out what it has counted.
    fn show(&self, _metrics: &mut Exposition) {}
}

/// Admits everything.
pub struct NoAdmission;

#[async_trait]
impl Admission for NoAdmission {
    async fn admit(&self, _: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(&self, _: &Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pods() -> &'static ResourceInfo {
        kedge_schema::resource("", "v1", "pods").unwrap()
    }

    #[test]
    fn options_are_those_of_the_operation() {
        let user = UserInfo::new("u", &[]);
        let mut attributes = Attributes::new(Operation::Update, pods(), &user);
        attributes.options = Options::Write(WriteOptions { field_manager: "m", field_validation: "Strict" });
        attributes.dry_run = true;
        let written = json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"],
            "fieldManager": "m", "fieldValidation": "Strict"});
        assert_eq!(attributes.options_object(), written);
        let options = DeleteOptions { grace_period_seconds: Some(5), ..DeleteOptions::default() };
        let mut attributes = Attributes::new(Operation::Delete, pods(), &user);
        attributes.options = Options::Delete(&options);
        let written = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 5});
        assert_eq!(attributes.options_object(), written);
        assert_eq!(Attributes::new(Operation::Connect, pods(), &user).options_object(), Value::Null);
    }

    #[test]
    fn a_subresource_has_its_own_kind() {
        let user = UserInfo::new("u", &[]);
        let mut attributes = Attributes::new(Operation::Connect, pods(), &user);
        assert_eq!(attributes.kind(), ("", "v1", "Pod"));
        attributes.subresource = "exec";
        assert_eq!(attributes.kind(), ("", "v1", "PodExecOptions"));
        attributes.subresource = "eviction";
        assert_eq!(attributes.kind(), ("policy", "v1", "Eviction"));
        attributes.subresource = "status";
        assert_eq!(attributes.kind(), ("", "v1", "Pod"));
    }

    #[test]
    fn what_is_said_twice_is_said_once() {
        let user = UserInfo::new("u", &[]);
        let attributes = Attributes::new(Operation::Create, pods(), &user);
        for _ in 0..2 {
            attributes.warn("w");
        }
        attributes.annotate("k", "1");
        attributes.annotate("k", "2");
        assert_eq!(attributes.notes.warnings(), ["w"]);
        assert_eq!(attributes.notes.annotations(), [("k".to_owned(), "1".to_owned())]);
    }
}
