//! Who configures policies must be able to read what they read: parameters come back in messages.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_auth::{Authorizer, Decision, MASTERS, Request};
use kedge_meta::field::{Error, Path};
use kedge_meta::{GroupKind, Status, UserInfo};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use super::GROUP;
use super::definition::ParamKind;
use crate::{Plugin, read};

pub(crate) struct ParameterRights {
    authorizer: Arc<dyn Authorizer>,
}

impl ParameterRights {
    /// Upstream has it in the storage of policies, where it cannot be turned off.
    pub(crate) const NAME: &'static str = "ParameterRights";

    pub(crate) fn new(authorizer: &Arc<dyn Authorizer>) -> Self {
        Self { authorizer: authorizer.clone() }
    }

    async fn may(&self, user: &UserInfo, verb: &str, what: &What, (namespace, name): (&str, &str)) -> bool {
        let request = Request {
            user: Some(user),
            verb,
            group: &what.group,
            version: &what.version,
            resource: &what.resource,
            namespace,
            name,
            is_resource: true,
            ..Request::default()
        };
        matches!(self.authorizer.authorize(&request).await, Decision::Allow(_))
    }

    async fn policy(&self, registry: &Registry, attributes: &Attributes<'_>) -> Result<(), String> {
        let (new, old) = (param_kind(&attributes.object), attributes.old.and_then(param_kind));
        let Some(kind) = new.filter(|new| Some(new) != old.as_ref()) else { return Ok(()) };
        if self.may(attributes.user, "get", &What::of(&kind, registry).0, ("*", "*")).await {
            return Ok(());
        }
        let user = shown(attributes.user);
        let (kind, api_version) = (&kind.kind, attributes.object.text(&["spec", "paramKind", "apiVersion"]));
        Err(format!(
            "user {user} must have \"get\" permission on all objects of the referenced paramKind (kind={kind}, apiVersion={api_version})"
        ))
    }

    async fn binding(&self, registry: &Registry, attributes: &Attributes<'_>, policies: &str) -> Result<(), String> {
        let Some(reference) = attributes.object.at(&["spec", "paramRef"]).filter(|it| it.is_object()) else {
            return Ok(());
        };
        let name = attributes.object.text(&["spec", "policyName"]);
        let policy = read(registry, (GROUP, policies), "", name).ok().flatten();
        let kind = policy.as_ref().and_then(param_kind);
        let (what, resolved) = kind.as_ref().map_or((What::all(), true), |kind| What::of(kind, registry));
        let of = (reference.text(&["namespace"]), reference.text(&["name"]));
        let verb = if of.1.is_empty() { "list" } else { "get" };
        if self.may(attributes.user, verb, &what, of).await {
            return Ok(());
        }
        let user = shown(attributes.user);
        let least = format!(
            "to determine minimum required permissions and user {user} does not have \"{verb}\" permission for all groups, versions and \
             resources"
        );
        Err(match kind {
            _ if policy.is_none() => format!("unable to get policy {name} {least}"),
            Some(kind) if !resolved => format!("unable to resolve paramKind {kind} {least}"),
            _ => format!("user {user} does not have \"{verb}\" permission on the object referenced by paramRef"),
        })
    }
}

/// What is to be read; stars are everything.
struct What {
    group: String,
    version: String,
    resource: String,
}

impl What {
    fn all() -> Self {
        Self { group: "*".to_owned(), version: "*".to_owned(), resource: "*".to_owned() }
    }

    /// The resource of a kind, and whether there is one.
    fn of(kind: &ParamKind, registry: &Registry) -> (Self, bool) {
        let served = kind.resource(registry).ok();
        let resource = served.as_ref().map_or("*", |served| &served.info.plural).to_owned();
        (Self { group: kind.group.to_string(), version: kind.version.to_string(), resource }, served.is_some())
    }
}

fn param_kind(policy: &Value) -> Option<ParamKind> {
    policy.at(&["spec", "paramKind"]).filter(|kind| kind.is_object()).map(ParamKind::read)
}

/// A user as Go prints it.
fn shown(user: &UserInfo) -> String {
    let extra: Vec<String> = user.extra.iter().map(|(key, values)| format!("{key}:[{}]", values.join(" "))).collect();
    format!("&{{{} {} [{}] map[{}]}}", user.name, user.uid, user.groups.join(" "), extra.join(" "))
}

#[async_trait]
impl Plugin for ParameterRights {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        let resource = attributes.resource;
        let own =
            resource.group == GROUP && super::OWN.contains(&&*resource.plural) && attributes.subresource.is_empty();
        own && writes && !attributes.user.in_group(MASTERS)
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let (checked, field) = match &*attributes.resource.plural {
            "validatingadmissionpolicybindings" => {
                (self.binding(registry, attributes, "validatingadmissionpolicies").await, "paramRef")
            }
            "mutatingadmissionpolicybindings" => {
                (self.binding(registry, attributes, "mutatingadmissionpolicies").await, "paramRef")
            }
            _ => (self.policy(registry, attributes).await, "paramKind"),
        };
        checked.map_err(|why| {
            let kind = GroupKind::new(GROUP, &attributes.resource.kind);
            let error = Error::forbidden(&Path::new("spec").child(field), why);
            Status::invalid(&kind, attributes.object.name(), &vec![error])
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_auth::Deciding;
    use serde_json::json;

    /// Lets read the maps of one namespace.
    struct Maps;

    impl Authorizer for Maps {
        fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
            let own = (request.verb, request.resource, request.namespace) == ("get", "configmaps", "own");
            (if own { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) }).into()
        }
    }

    async fn said(plural: &str, spec: Value, old: Option<&Value>) -> Option<String> {
        let (registry, _) = testing::registry().await;
        let kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        let metadata = json!({"name": "there"});
        testing::put(
            &registry,
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata, "spec": {"paramKind": kind}}),
        )
        .await;
        let user = UserInfo::new("alice", &["devs"]);
        let mut attributes = Attributes::new(Operation::Create, testing::resource(GROUP, plural), &user);
        attributes.object = json!({"metadata": {"name": "x"}, "spec": spec});
        attributes.old = old;
        let authorizer: Arc<dyn Authorizer> = Arc::new(Maps);
        let plugin = ParameterRights::new(&authorizer);
        assert!(plugin.validates(&attributes));
        plugin.validate(&registry, &attributes).await.err().map(|err| err.message)
    }

    #[tokio::test]
    async fn what_policies_read_who_makes_them_can_read() {
        let policies = "validatingadmissionpolicies";
        let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}});
        let told = said(policies, spec.clone(), None).await.unwrap();
        assert_eq!(
            told,
            "ValidatingAdmissionPolicy.admissionregistration.k8s.io \"x\" is invalid: spec.paramKind: Forbidden: user &{alice  [devs \
             system:authenticated] map[]} must have \"get\" permission on all objects of the referenced paramKind (kind=ConfigMap, apiVersion=v1)"
        );
        assert_eq!(said(policies, spec.clone(), Some(&json!({"spec": spec}))).await, None, "that is no news");
        assert_eq!(said(policies, json!({}), None).await, None);
        let bindings = "validatingadmissionpolicybindings";
        let binding = |policy: &str, namespace: &str| json!({"policyName": policy, "paramRef": {"name": "m", "namespace": namespace}});
        assert_eq!(said(bindings, binding("there", "own"), None).await, None);
        let told = said(bindings, binding("there", "other"), None).await.unwrap();
        assert!(told.ends_with("user &{alice  [devs system:authenticated] map[]} does not have \"get\" permission on the object referenced by paramRef"), "{told}");
        let told = said(bindings, binding("gone", "own"), None).await.unwrap();
        assert!(
            told.contains(
                "spec.paramRef: Forbidden: unable to get policy gone to determine minimum required permissions"
            ),
            "{told}"
        );
    }
}
