//! ExtendedResourceToleration: pods that ask for special hardware tolerate the taint that keeps others off its nodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Registry};
use serde_json::{Value, json};

use crate::{Plugin, writes};

pub(crate) struct ExtendedResourceToleration;

/// A resource with a domain that is neither Kubernetes' own nor a request of a quota.
fn is_extended(name: &str) -> bool {
    let own = |domain: &str| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    name.split_once('/').is_some_and(|(domain, _)| !own(domain)) && !name.starts_with("requests.")
}

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        writes(attributes, "", "pods")
    }

    async fn admit(&self, _: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let containers = ["containers", "initContainers"].map(|field| attributes.object.list(&["spec", field]));
        let requests = containers.into_iter().flatten().filter_map(|it| it.map(&["resources", "requests"]));
        let names: BTreeSet<String> =
            requests.flat_map(|requests| requests.keys()).filter(|name| is_extended(name)).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let mut tolerations = attributes.object.list(&["spec", "tolerations"]).to_vec();
        for name in names {
            let wanted = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
            let same = |one: &&mut Value| {
                ["key", "effect"].iter().all(|field| one.text(&[*field]) == wanted.text(&[*field]))
                    && one.text(&["operator"]) == "Exists"
            };
            match tolerations.iter_mut().find(same) {
                Some(known) => *known = wanted,
                None => tolerations.push(wanted),
            }
        }
        attributes.object.entry("spec").insert("tolerations".into(), tolerations.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;

    #[tokio::test]
    async fn what_is_asked_for_is_tolerated_once() {
        let (registry, _) = testing::registry().await;
        let user = testing::user();
        let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
        let asks = |names: &[&str]| {
            let requests: serde_json::Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), "1".into())).collect();
            json!({"resources": {"requests": requests}})
        };
        attributes.object = json!({"spec": {
            "containers": [asks(&["cpu", "example.com/gpu", "kubernetes.io/own"])], "initContainers": [asks(&["example.com/gpu", "a.b/c"])],
        }});
        for _ in 0..2 {
            ExtendedResourceToleration.admit(&registry, &mut attributes).await.unwrap();
        }
        let wanted = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoSchedule"});
        assert_eq!(attributes.object["spec"]["tolerations"], json!([wanted("a.b/c"), wanted("example.com/gpu")]));
    }
}
