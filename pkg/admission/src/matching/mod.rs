//! Whom a request concerns: the rules and selectors of webhooks and of policies.
//!
//! Invariants: what is asked on every request is only what lies ready in rules; objects, namespaces and other versions are looked at
//! after a rule has matched.

mod rules;
mod target;

use std::sync::Arc;

use kedge_meta::labels::Selector;
use kedge_meta::{GroupResource, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry, Served};
use serde_json::Value;

use rules::{Rule, has_labels};
pub(crate) use target::Target;
use target::equivalents;

/// Which requests somebody has to do with.
#[derive(Debug)]
pub(crate) struct Criteria {
    /// Or all requests.
    rules: Option<Box<[Rule]>>,
    excluded: Box<[Rule]>,
    /// Whether rules are also about other versions of what they name.
    equivalent: bool,
    namespaces: Result<Selector, String>,
    objects: Result<Selector, String>,
}

impl Criteria {
    /// Of a webhook: without rules it has to do with nothing.
    pub(crate) fn of_webhook(hook: &Value) -> Self {
        Self::read(hook, Some(read(hook, "rules")), hook.text(&["matchPolicy"]) != "Exact")
    }

    /// Of `MatchResources`: without rules they are about everything.
    pub(crate) fn of_resources(resources: &Value) -> Self {
        let rules = Some(read(resources, "resourceRules")).filter(|rules| !rules.is_empty());
        Self::read(resources, rules, resources.text(&["matchPolicy"]) == "Equivalent")
    }

    fn read(from: &Value, rules: Option<Box<[Rule]>>, equivalent: bool) -> Self {
        // What was left out has been filled in; what others have stored may lack it, and means the same.
        let selector = |field: &str| match from.get(field).filter(|value| !value.is_null()) {
            Some(value) => Selector::from_label_selector(value).map_err(|err| err.to_string()),
            None => Ok(Selector::everything()),
        };
        Self {
            rules,
            excluded: read(from, "excludeResourceRules"),
            equivalent,
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// Whether there is anything to do with a request, looked at without the objects.
    pub(crate) fn may_match(&self, attributes: &Attributes<'_>) -> bool {
        let Some(rules) = &self.rules else { return true };
        let resource = attributes.resource;
        let matches = |rule: &Rule| rule.matches(attributes, resource);
        rules.iter().any(matches) || (self.equivalent && rules.iter().any(|rule| rule.may_match(attributes)))
    }

    /// As what a request whose object is now `object` is seen, if there is anything to do with it.
    ///
    /// # Errors
    /// What keeps that from being known, of a request that rules are about.
    pub(crate) fn target(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        registry: &Registry,
    ) -> Result<Option<Target>, Status> {
        if !self.may_match(attributes) || !self.selects_object(attributes, object)? {
            return Ok(None);
        }
        if self.by_rules(&self.excluded, attributes, registry)?.is_some() {
            return Ok(None);
        }
        let target = match &self.rules {
            Some(rules) => self.by_rules(rules, attributes, registry)?,
            None => Some(Target::of(attributes.resource, attributes.subresource)),
        };
        let Some(target) = target else { return Ok(None) };
        Ok(self.selects_namespace(attributes, object, registry)?.then_some(target))
    }

    fn by_rules(
        &self,
        rules: &[Rule],
        attributes: &Attributes<'_>,
        registry: &Registry,
    ) -> Result<Option<Target>, Status> {
        let resource = attributes.resource;
        if rules.iter().any(|rule| rule.matches(attributes, resource)) {
            return Ok(Some(Target::of(resource, attributes.subresource)));
        }
        if !self.equivalent || resource.storage_prefix.is_empty() || rules.is_empty() {
            return Ok(None);
        }
        let equivalents = equivalents(registry, resource, attributes.subresource);
        // Earlier rules go first.
        let pairs = rules.iter().flat_map(|rule| equivalents.iter().map(move |served| (rule, served)));
        let found = pairs.into_iter().find(|(rule, served)| rule.matches(attributes, &served.info));
        let target =
            |(_, there): (&Rule, &Arc<Served>)| Target::equivalent(registry, there, resource, attributes.subresource);
        found.map(target).transpose()
    }

    /// Cluster-wide objects are in no namespace that could be left out; a namespace is its own.
    fn selects_namespace(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        registry: &Registry,
    ) -> Result<bool, Status> {
        let namespaces = attributes.resource.plural == "namespaces";
        if attributes.namespace.is_empty() && !namespaces {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        if namespaces && attributes.subresource.is_empty() && written {
            return Ok(selector.matches_with(|label| label_of(object, label)));
        }
        let namespace = attributes
            .namespace_object(registry)?
            .ok_or_else(|| Status::not_found(&GroupResource::new("", "namespaces"), attributes.namespace))?;
        Ok(selector.matches_with(|label| label_of(namespace, label)))
    }

    /// The object as it will be, or as it was.
    fn selects_object(&self, attributes: &Attributes<'_>, object: &Value) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        let selects = |object: &Value| {
            has_labels(attributes.operation, object) && selector.matches_with(|label| label_of(object, label))
        };
        Ok(selects(object) || attributes.old.is_some_and(selects))
    }
}

fn read(from: &Value, field: &str) -> Box<[Rule]> {
    from.list(&[field]).iter().map(Rule::read).collect()
}

fn label_of<'a>(object: &'a Value, label: &str) -> Option<&'a str> {
    object.at(&["metadata", "labels", label])?.as_str()
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
