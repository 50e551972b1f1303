//! The chain: whom it asks, and how often.
#![allow(clippy::unwrap_used)]
use std::sync::atomic::{AtomicUsize, Ordering};

use kedge_registry::Operation;
use kedge_registry::value::ValueExt as _;
use serde_json::json;

use super::*;
use crate::testing;

/// Labels the object with how often it was asked, and wants to see it again when others change it.
#[derive(Default)]
struct Asking(AtomicUsize);

#[async_trait]
impl Plugin for Asking {
    fn name(&self) -> &'static str {
        "Asking"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        let second = attributes.reinvocation.is_second();
        !second || attributes.reinvocation.concerns(self.name(), &attributes.object)
    }

    async fn admit(&self, _: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let times = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        attributes.object.set("asked", times);
        attributes.reinvoke_if_changed(self.name());
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
    let chain = Chain { registry: testing::registry().await.0, plugins };
    let user = testing::user();
    let mut attributes = Attributes::new(Operation::Create, testing::resource("", "configmaps"), &user);
    attributes.object = object;
    chain.admit(&mut attributes).await.unwrap();
    chain.validate(&attributes).await.unwrap();
    attributes.object
}

#[tokio::test]
async fn who_asked_for_it_sees_the_object_again_when_it_was_changed_afterwards() {
    let plugins = || -> Vec<Box<dyn Plugin>> { vec![Box::new(Asking::default()), Box::new(Filling("a"))] };
    assert_eq!(pass(plugins(), json!({})).await, json!({"a": true, "asked": 2}));
    assert_eq!(pass(plugins(), json!({"a": 1})).await, json!({"a": 1, "asked": 1}), "nobody changed it");
    let before: Vec<Box<dyn Plugin>> = vec![Box::new(Filling("a")), Box::new(Asking::default())];
    assert_eq!(pass(before, json!({})).await, json!({"a": true, "asked": 1}), "it was changed before");
    let both: Vec<Box<dyn Plugin>> =
        vec![Box::new(Asking::default()), Box::new(Filling("a")), Box::new(Asking::default()), Box::new(Filling("b"))];
    let seen = pass(both, json!({})).await;
    assert_eq!((&seen["a"], &seen["b"]), (&json!(true), &json!(true)));
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
        Chain::with(registry.clone(), rbac.clone(), &Selection { enable: own(enable), disable: own(disable) })
            .map(|chain| chain.plugins.iter().map(|plugin| plugin.name()).collect::<Vec<_>>())
    };
    let all = with(&[], &[]).unwrap();
    let position = |name: &str| all.iter().position(|plugin| *plugin == name).unwrap();
    assert!(position("NamespaceLifecycle") < position("ServiceAccount"));
    assert!(position("Priority") < position("DefaultTolerationSeconds"));
    assert_eq!(with(&["Priority"], &["ServiceAccount"]).unwrap().len(), all.len() - 1);
    assert_eq!(with(&[], &["AlwaysPullImages"]).unwrap(), all, "what is not here may be off");
    for (enable, disable, said) in [
        (&["Nothing"][..], &[][..], "enable-admission-plugins plugin \"Nothing\" is unknown"),
        (&[], &["RbacEscalation"], "disable-admission-plugins plugin \"RbacEscalation\" is unknown"),
        (&["AlwaysPullImages"], &[], "enable-admission-plugins plugin \"AlwaysPullImages\" is not part of Kedge"),
        (
            &["Priority"],
            &["Priority"],
            "\"Priority\" in enable-admission-plugins and disable-admission-plugins overlapped",
        ),
    ] {
        assert_eq!(with(enable, disable).unwrap_err().to_string(), said);
    }
}
