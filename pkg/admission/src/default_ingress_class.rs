//! DefaultIngressClass: an ingress that does not name a class gets the default one.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Registry};

use crate::classes::default_class;
use crate::{Plugin, creates};

const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
/// Where ingresses named their class before there was a field.
const OLD: &str = "kubernetes.io/ingress.class";
const GROUP: &str = "networking.k8s.io";

pub(crate) struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        let has = |path: &[&str]| attributes.object.at(path).is_some_and(|value| !value.is_null());
        let named = || has(&["spec", "ingressClassName"]) || has(&["metadata", "annotations", OLD]);
        creates(attributes, GROUP, "ingresses") && !named()
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if let Some(class) = default_class(registry, (GROUP, "ingressclasses"), &[MARK])? {
            attributes.object.entry("spec").insert("ingressClassName".into(), class.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn who_names_no_class_gets_the_default() {
        let (registry, _) = testing::registry().await;
        let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": "nginx", "annotations": {(MARK): "true"}}});
        testing::put(&registry, class).await;
        let user = testing::user();
        for (ingress, wanted) in [
            (json!({"spec": {}}), json!("nginx")),
            (json!({"spec": {"ingressClassName": "own"}}), json!("own")),
            (json!({"metadata": {"annotations": {(OLD): "x"}}, "spec": {}}), Value::Null),
        ] {
            let mut attributes = Attributes::new(Operation::Create, testing::resource(GROUP, "ingresses"), &user);
            attributes.object = ingress;
            if DefaultIngressClass.mutates(&attributes) {
                assert_eq!(DefaultIngressClass.admit(&registry, &mut attributes).await, Ok(()));
            }
            assert_eq!(attributes.object["spec"]["ingressClassName"], wanted);
        }
    }
}
