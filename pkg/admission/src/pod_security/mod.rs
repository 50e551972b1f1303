//! PodSecurity: a namespace's labels say which Pod Security Standard its pods must meet.
//!
//! Pods that do not are refused; workloads that would make such pods are only warned about; who tightens a namespace is told of the
//! pods that are already there.

mod baseline;
mod checks;
mod policy;
mod restricted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_meta::{GroupKind, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde::Deserialize;
use serde_json::Value;

use crate::{Plugin, forbidden, list};
use checks::{Pod, detailed, evaluate, reasons};
use policy::{Defaults, Level, Policy, Standard};

/// When a namespace is tightened, so many of its pods are looked at, and for so long, as upstream.
const MAX_PODS: usize = 3000;
const MAX_TIME: Duration = Duration::from_secs(1);

/// Subresources of pods that do not change what runs.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// With what counts for namespaces that say nothing, and whom and what it leaves alone.
pub(crate) struct PodSecurity {
    defaults: Policy,
    exempt: Exemptions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Exemptions {
    #[serde(rename = "usernames")]
    users: Vec<String>,
    runtime_classes: Vec<String>,
    namespaces: Vec<String>,
}

/// `PodSecurityConfiguration`. What is misspelt must not leave a cluster open.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

impl Default for PodSecurity {
    fn default() -> Self {
        Self { defaults: Policy::OPEN, exempt: Exemptions::default() }
    }
}

const GROUP: &str = "pod-security.admission.config.k8s.io/";

impl PodSecurity {
    /// From a `PodSecurityConfiguration`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn configured(config: &Value) -> Result<Self, String> {
        let read: Configuration = serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        let (version, kind) = (&read.api_version, &read.kind);
        let known = version.strip_prefix(GROUP).is_some_and(|it| matches!(it, "v1" | "v1beta1" | "v1alpha1"));
        if kind != "PodSecurityConfiguration" || !known {
            return Err(format!("no kind {kind:?} is registered for version {version:?}"));
        }
        Ok(Self { defaults: Policy::configured(&read.defaults)?, exempt: read.exemptions })
    }

    /// What a request is exempt by, if it is.
    fn exempt(&self, attributes: &Attributes<'_>, pod: &Value) -> Option<&'static str> {
        let class = pod.text(&["spec", "runtimeClassName"]);
        let has = |list: &[String], name: &str| list.iter().any(|one| one == name);
        match () {
            () if has(&self.exempt.namespaces, attributes.namespace) => Some("namespace"),
            () if has(&self.exempt.users, &attributes.user.name) => Some("user"),
            () if !class.is_empty() && has(&self.exempt.runtime_classes, class) => Some("runtimeClass"),
            () => None,
        }
    }

    fn labels(&self, object: &Value) -> (Policy, kedge_meta::field::ErrorList) {
        Policy::of(object.map(&["metadata", "labels"]), self.defaults)
    }

    /// A pod, or the pods of a workload, which are only warned about.
    fn check_pod(
        &self,
        registry: &Registry,
        attributes: &Attributes<'_>,
        pod: &Value,
        enforced: bool,
    ) -> Result<(), Status> {
        let Some(namespace) = attributes.namespace_object(registry)? else {
            let what = format!("failed to lookup namespace {:?}", attributes.namespace);
            return if enforced { Err(Status::internal(what)) } else { Ok(()) };
        };
        if let Some(by) = self.exempt(attributes, pod) {
            attributes.annotate("pod-security.kubernetes.io/exempt", by.to_owned());
            return Ok(());
        }
        let (policy, errors) = self.labels(namespace);
        if policy.is_open() && errors.is_empty() {
            return Ok(());
        }
        let annotate =
            |key: &str, text: String| attributes.annotate(&format!("pod-security.kubernetes.io/{key}"), text);
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            annotate("error", format!("Failed to parse policy: {}", crate::aggregate(&texts).unwrap_or_default()));
        }
        let pod = seen(pod);
        let said = |standard: Standard, how: &str| {
            let violations = evaluate(standard, pod);
            let text = format!("{how} PodSecurity \"{standard}\": {}", detailed(&violations));
            (!violations.is_empty()).then_some(text)
        };
        let mut refused = None;
        if enforced {
            annotate("enforce-policy", policy.enforce.to_string());
            refused = said(policy.enforce, "violates");
        }
        if let Some(text) = said(policy.audit, "would violate") {
            annotate("audit-violations", text);
        }
        if let Some(why) = refused {
            return Err(forbidden(attributes, &why));
        }
        if let Some(text) = said(policy.warn, "would violate") {
            attributes.warn(text);
        }
        Ok(())
    }

    /// The labels must be sound; who tightens them is told of the pods that would no longer be let in.
    fn check_namespace(&self, registry: &Registry, attributes: &Attributes<'_>) -> Result<(), Status> {
        let (new, errors) = self.labels(&attributes.object);
        let texts = |errors: &kedge_meta::field::ErrorList| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        let old = attributes.old.map(|old| self.labels(old));
        let known = old.as_ref().is_some_and(|(_, was)| texts(was) == texts(&errors));
        let name = attributes.object.name();
        if !errors.is_empty() && !known {
            return Err(Status::invalid(&GroupKind::new("", "Namespace"), name, &errors));
        }
        let Some((old, _)) = old else { return Ok(()) };
        let relaxed = new.enforce.minor == old.enforce.minor && new.enforce.level <= old.enforce.level;
        if new.enforce == old.enforce || new.enforce.level == Level::Privileged || relaxed {
            return Ok(());
        }
        if self.exempt.namespaces.iter().any(|exempt| exempt == name) {
            attributes.warn(format!(
                "namespace {name:?} is exempt from Pod Security, and the policy (enforce={}) will be ignored",
                new.enforce
            ));
            return Ok(());
        }
        let pods = list(registry, ("", "pods"), name)?;
        let clock = &registry.clock;
        let until = clock.monotonic() + MAX_TIME;
        existing(&pods, name, new.enforce, || clock.monotonic() > until)
            .into_iter()
            .for_each(|text| attributes.warn(text));
        Ok(())
    }
}

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Namespace,
    Pod,
    /// A workload, and where its pods are described.
    Workload(&'static [&'static str]),
}

fn subject(attributes: &Attributes<'_>) -> Option<Subject> {
    if !matches!(attributes.operation, Operation::Create | Operation::Update) {
        return None;
    }
    let itself = attributes.subresource.is_empty();
    match (&*attributes.resource.group, &*attributes.resource.plural) {
        ("", "pods") => (!IGNORED.contains(&attributes.subresource)).then_some(Subject::Pod),
        _ if !itself => None,
        ("", "namespaces") => Some(Subject::Namespace),
        ("", "podtemplates") => Some(Subject::Workload(&["template"])),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(Subject::Workload(&["spec", "template"])),
        ("batch", "cronjobs") => Some(Subject::Workload(&["spec", "jobTemplate", "spec", "template"])),
        _ => None,
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        subject(attributes).is_some()
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        match subject(attributes) {
            Some(Subject::Namespace) => self.check_namespace(registry, attributes),
            Some(Subject::Pod) => {
                let changed = attributes.old.is_none_or(|old| is_significant(&attributes.object, old));
                if changed { self.check_pod(registry, attributes, &attributes.object, true) } else { Ok(()) }
            }
            Some(Subject::Workload(path)) => match attributes.object.at(path).filter(|template| !template.is_null()) {
                Some(template) => self.check_pod(registry, attributes, template, false),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

fn seen(pod: &Value) -> Pod<'_> {
    Pod { annotations: pod.map(&["metadata", "annotations"]), spec: pod.get("spec").unwrap_or(&Value::Null) }
}

/// Of what can change in a pod, images and added containers count.
fn is_significant(new: &Value, old: &Value) -> bool {
    let listed = |pod: &Value, field: &str| -> Vec<(String, String)> {
        let of = |c: &Value| (c.text(&["name"]).to_owned(), c.text(&["image"]).to_owned());
        pod.list(&["spec", field]).iter().map(of).collect()
    };
    let images = |pod: &Value, field: &str| listed(pod, field).into_iter().map(|(_, image)| image).collect::<Vec<_>>();
    let differs = |field: &str| images(new, field) != images(old, field);
    let was = listed(old, "ephemeralContainers");
    differs("containers")
        || differs("initContainers")
        || listed(new, "ephemeralContainers").iter().any(|container| !was.contains(container))
}

/// Warnings about pods that are there. Of each controller one comes first: the others most likely are like it.
fn existing(pods: &[Value], namespace: &str, standard: Standard, is_late: impl Fn() -> bool) -> Vec<String> {
    let mut controllers: Vec<&str> = Vec::new();
    let (first, alike): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(|pod| {
        let owners = pod.list(&["metadata", "ownerReferences"]).iter();
        let Some(owner) = owners.clone().find(|owner| owner.flag(&["controller"]) == Some(true)) else { return true };
        let uid = owner.text(&["uid"]);
        let new = !controllers.contains(&uid);
        if new {
            controllers.push(uid);
        }
        new
    });
    let (mut found, mut looked_at) = (BTreeMap::<String, Vec<&str>>::new(), 0);
    for pod in first.into_iter().chain(alike).take(MAX_PODS) {
        looked_at += 1;
        let violations = evaluate(standard, seen(pod));
        if !violations.is_empty() {
            found.entry(reasons(&violations)).or_default().push(pod.name());
        }
        if is_late() {
            break;
        }
    }
    let mut warnings = Vec::new();
    if looked_at < pods.len() {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {looked_at} of {} existing pods",
            pods.len()
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut each: Vec<String> = found
        .into_iter()
        .map(|(reason, names)| {
            let name = names.iter().min().copied().unwrap_or_default();
            match names.len() - 1 {
                0 => format!("{name}: {reason}"),
                1 => format!("{name} (and 1 other pod): {reason}"),
                others => format!("{name} (and {others} other pods): {reason}"),
            }
        })
        .collect();
    each.sort();
    warnings.extend(each);
    warnings
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
