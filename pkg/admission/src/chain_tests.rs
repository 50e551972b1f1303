//! The chain: whom it asks, and how often.
#![allow(clippy::unwrap_used)]
use std::sync::atomic::{AtomicUsize, Ordering};

use kedge_registry::Operation;
use kedge_registry::value::ValueExt as _;
use serde_json::json;

use super::*;
use crate::testing;

/// Labels the object with how often it was asked, and may want others to see it again.
struct Asking(AtomicUsize, bool);

impl Asking {
    fn new(again: bool) -> Box<Self> {
        Box::new(Self(AtomicUsize::new(0), again))
    }
}

#[async_trait]
impl Plugin for Asking {
    fn name(&self) -> &'static str {
        "Asking"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        !attributes.reinvocation.is_second() || !attributes.object["a"].is_null()
    }

    async fn admit(&self, _: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let times = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        attributes.object.set("asked", times);
        let before: usize = attributes.reinvocation.kept(self.name());
        assert_eq!(before + 1, times, "what it kept is there in the second pass");
        attributes.reinvocation.keep(self.name(), times);
        if self.1 {
            attributes.reinvocation.require();
        }
        Ok(())
    }
}

/// Gives the object a field, if it does not have it.
struct Filling(&'static str);

#[async_trait]
impl Plugin for Filling {
    fn name(&self) -> &'static str {
        "Filling"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        !self.0.is_empty() && attributes.object.get(self.0).is_none()
    }

    async fn admit(&self, _: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        assert!(!self.0.is_empty(), "it was asked about what it has nothing to say to");
        attributes.object.set(self.0, true);
        Ok(())
    }
}

async fn pass(plugins: Vec<Box<dyn Plugin>>, object: serde_json::Value) -> serde_json::Value {
    let registry = testing::registry().await.0;
    let chain = Plugins { registry, plugins, meters: Meters::default() };
    let user = testing::user();
    let mut attributes = Attributes::new(Operation::Create, testing::resource("", "configmaps"), &user);
    attributes.object = object;
    chain.admit(&mut attributes).await.unwrap();
    chain.validate(&attributes).await.unwrap();
    attributes.object
}

#[tokio::test]
async fn who_changes_objects_from_outside_has_all_others_see_them_again_once() {
    let plugins = |again| -> Vec<Box<dyn Plugin>> { vec![Asking::new(again), Box::new(Filling("a"))] };
    assert_eq!(pass(plugins(true), json!({})).await, json!({"a": true, "asked": 2}));
    assert_eq!(pass(plugins(false), json!({})).await, json!({"a": true, "asked": 1}), "nobody asked for it");
}

#[tokio::test]
async fn nobody_is_asked_about_what_is_not_its_business() {
    assert_eq!(pass(vec![Box::new(Filling(""))], json!({"x": 1})).await, json!({"x": 1}));
}

#[tokio::test]
async fn plugins_are_selected_by_upstreams_names() {
    let (registry, rbac) = testing::registry().await;
    let with = |enable: &[&str], disable: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let caller = testing::caller(&registry);
        let authorizer: Arc<dyn Authorizer> = rbac.clone();
        Chain::with(
            registry.clone(),
            rbac.clone(),
            &authorizer,
            &caller,
            &Selection { enable: own(enable), disable: own(disable), ..Selection::default() },
        )
        .map(|chain| chain.0.plugins.iter().map(|plugin| plugin.name()).collect::<Vec<_>>())
    };
    let all = with(&[], &[]).unwrap();
    let position = |name: &str| all.iter().position(|plugin| *plugin == name).unwrap();
    assert!(position("NamespaceLifecycle") < position("ServiceAccount"));
    assert!(position("Priority") < position("DefaultTolerationSeconds"));
    assert_eq!(with(&["Priority"], &["ServiceAccount"]).unwrap().len(), all.len() - 1);
    assert_eq!(with(&[], &["ImagePolicyWebhook", "AlwaysPullImages"]).unwrap(), all, "what is not on may be off");
    let more = with(&["AlwaysPullImages", "DenyServiceExternalIPs"], &[]).unwrap();
    assert!(more.len() == all.len() + 2 && !all.contains(&"AlwaysPullImages"), "{more:?}");
    for (enable, disable, said) in [
        (&["Nothing"][..], &[][..], "enable-admission-plugins plugin \"Nothing\" is unknown"),
        (&[], &["RbacEscalation"], "disable-admission-plugins plugin \"RbacEscalation\" is unknown"),
        (&["JobValidation"], &[], "enable-admission-plugins plugin \"JobValidation\" is not part of Kedge"),
        (
            &["ImagePolicyWebhook"],
            &[],
            "ImagePolicyWebhook is in enable-admission-plugins and needs a configuration; name a file of it with admission-control-config-file",
        ),
        (
            &["EventRateLimit"],
            &[],
            "EventRateLimit is in enable-admission-plugins and needs a configuration; name a file of it with admission-control-config-file",
        ),
        (
            &["Priority"],
            &["Priority"],
            "\"Priority\" in enable-admission-plugins and disable-admission-plugins overlapped",
        ),
    ] {
        assert_eq!(with(enable, disable).unwrap_err().to_string(), said);
    }
}

/// Notes what passes it, and refuses one namespace.
struct Passing(Arc<parking_lot::Mutex<Vec<String>>>);

#[async_trait]
impl Plugin for Passing {
    fn name(&self) -> &'static str {
        "Passing"
    }

    fn validates(&self, _: &Attributes<'_>) -> bool {
        true
    }

    async fn validate(&self, _: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        self.0.lock().push(format!(
            "{} {} {}",
            attributes.user.name,
            attributes.resource.kind,
            attributes.object.name()
        ));
        if attributes.object.name() == "refused" { Err(crate::forbidden(attributes, "no")) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_namespace_that_is_made_on_the_way_passes_the_chain_itself() {
    let registry = testing::registry().await.0;
    let (own, seen) = (Own::default(), Arc::<parking_lot::Mutex<Vec<String>>>::default());
    let plugins: Vec<Box<dyn Plugin>> = vec![
        Box::new(NamespaceAutoProvision::new(&own)),
        Box::new(NamespaceLifecycle),
        Box::new(Passing(seen.clone())),
    ];
    let chain = Arc::new(Plugins { registry: registry.clone(), plugins, meters: Meters::default() });
    own.get_or_init(|| {
        let chain: Weak<Plugins> = Arc::downgrade(&chain);
        chain
    });
    let user = testing::user();
    let create = async |namespace: &'static str, dry_run: bool| {
        let mut attributes = Attributes::new(Operation::Create, testing::resource("", "configmaps"), &user);
        (attributes.namespace, attributes.dry_run) = (namespace, dry_run);
        attributes.object = json!({"metadata": {"name": "c", "namespace": namespace}});
        chain.admit(&mut attributes).await.map_err(|status| status.message)
    };
    assert_eq!(create("new", true).await.unwrap_err(), "namespaces \"new\" not found", "nothing is made for a try");
    assert_eq!(create("new", false).await, Ok(()));
    assert_eq!(create("new", false).await, Ok(()));
    assert_eq!(*seen.lock(), ["system:apiserver Namespace new"]);
    let made = crate::read(&registry, ("", "namespaces"), "", "new").unwrap().unwrap();
    assert_eq!(
        (&made["status"]["phase"], &made["metadata"]["labels"]["kubernetes.io/metadata.name"]),
        (&json!("Active"), &json!("new"))
    );
    assert_eq!(create("refused", false).await.unwrap_err(), "namespaces \"refused\" is forbidden: no");
}
