//! Charging, alone and together with others.
#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;
use crate::testing;

fn quota(hard: Value, used: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "a"},
        "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

fn used(registry: &Registry) -> Value {
    quotas_of(registry, "a").unwrap()[0]["status"]["used"].clone()
}

fn attributes<'a>(operation: Operation, plural: &str, user: &'a kedge_meta::UserInfo, object: Value) -> Attributes<'a> {
    let mut attributes = Attributes::new(operation, testing::resource("", plural), user);
    (attributes.namespace, attributes.object) = ("a", object);
    attributes
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c"}]}})
}

#[tokio::test]
async fn those_who_come_together_never_get_more_than_there_is() {
    let (registry, _) = testing::registry().await;
    testing::put(&registry, quota(json!({"pods": "7", "count/pods": "100"}), json!({"pods": "2", "count/pods": "2"})))
        .await;
    let (plugin, user) = (ResourceQuota::default(), testing::user());
    let ask = async |i: usize| {
        let attributes = attributes(Operation::Create, "pods", &user, pod(&format!("p{i}")));
        plugin.validate(&registry, &attributes).await.map_err(|status| status.message)
    };
    let before = registry.revision();
    // All of them wait before the first one gets its turn.
    let line = plugin.charging.line("a");
    let turn = line.turn.lock().await;
    let mut all = Box::pin(futures::future::join_all((0..20).map(ask)));
    assert!(futures::poll!(&mut all).is_pending());
    assert_eq!(line.waiting.lock().len(), 20);
    drop(turn);
    drop(line);
    let answers = all.await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 5);
    for said in answers.into_iter().filter_map(Result::err) {
        let wanted = "is forbidden: exceeded quota: q, requested: pods=1, used: pods=7, limited: pods=7";
        assert!(said.ends_with(wanted), "{said}");
    }
    assert_eq!(used(&registry), json!({"pods": "7", "count/pods": "7"}));
    let writes = registry.revision() - before;
    assert_eq!(writes, 1, "they are charged together");
    assert!(plugin.charging.is_idle(), "nobody is left behind");
}

/// Requests end before their time: their clients go, or their deadline comes.
#[tokio::test]
async fn who_gives_up_does_not_take_the_others_with_it() {
    let (registry, _) = testing::registry().await;
    testing::put(&registry, quota(json!({"pods": "9"}), json!({"pods": "0"}))).await;
    let (plugin, user) = (ResourceQuota::default(), testing::user());
    let ask = async |name: &'static str| {
        let attributes = attributes(Operation::Create, "pods", &user, pod(name));
        plugin.validate(&registry, &attributes).await
    };
    let line = plugin.charging.line("a");
    let turn = line.turn.lock().await;
    let mut both = Box::pin(async { futures::join!(ask("first"), ask("second")) });
    assert!(futures::poll!(&mut both).is_pending());
    // Who had the turn has taken them, and is given up.
    assert_eq!(std::mem::take(&mut *line.waiting.lock()).len(), 2);
    let mut third = Box::pin(ask("third"));
    assert!(futures::poll!(&mut third).is_pending());
    drop(third);
    drop(turn);
    assert_eq!(both.await, (Ok(()), Ok(())), "they wait in line again");
    assert_eq!(used(&registry)["pods"], "2", "who has gone is not charged");
    drop(line);
    plugin
        .charging
        .charge(&registry, "a", Wanted::of(&attributes(Operation::Create, "pods", &user, pod("p"))))
        .await
        .unwrap();
    assert!(plugin.charging.is_idle());
}

#[tokio::test]
async fn a_dry_run_is_refused_but_not_charged() {
    let (registry, _) = testing::registry().await;
    testing::put(&registry, quota(json!({"count/configmaps": "1"}), json!({"count/configmaps": "0"}))).await;
    let (plugin, user) = (ResourceQuota::default(), testing::user());
    let mut attributes = attributes(Operation::Create, "configmaps", &user, json!({"metadata": {"name": "m"}}));
    attributes.dry_run = true;
    plugin.validate(&registry, &attributes).await.unwrap();
    assert_eq!(used(&registry)["count/configmaps"], "0");
    attributes.dry_run = false;
    plugin.validate(&registry, &attributes).await.unwrap();
    assert_eq!(used(&registry)["count/configmaps"], "1");
    attributes.dry_run = true;
    let refused = plugin.validate(&registry, &attributes).await.unwrap_err();
    assert_eq!((refused.code, refused.message.contains("exceeded quota: q")), (403, true), "{}", refused.message);
}

#[tokio::test]
async fn a_change_is_charged_by_what_it_grows() {
    let (registry, _) = testing::registry().await;
    testing::put(&registry, quota(json!({"services.nodeports": "1"}), json!({"services.nodeports": "0"}))).await;
    let (plugin, user) = (ResourceQuota::default(), testing::user());
    let service = |kind: &str, ports: usize| {
        let ports: Vec<Value> = (0..ports).map(|port| json!({ "port": port })).collect();
        json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": ports}})
    };
    let update = async |old: Value, new: Value| {
        let mut attributes = attributes(Operation::Update, "services", &user, new);
        attributes.old = Some(&old);
        assert!(plugin.validates(&attributes));
        plugin.validate(&registry, &attributes).await.map_err(|status| status.code)
    };
    assert_eq!(update(service("ClusterIP", 1), service("NodePort", 1)).await, Ok(()));
    assert_eq!(used(&registry)["services.nodeports"], "1");
    assert_eq!(update(service("NodePort", 1), service("NodePort", 2)).await, Err(403));
    assert_eq!(
        update(service("NodePort", 2), service("ClusterIP", 2)).await,
        Ok(()),
        "giving back is the controller's"
    );
    assert_eq!(used(&registry)["services.nodeports"], "1");
}

#[test]
fn what_is_its_business() {
    let user = testing::user();
    let asked = |operation, (group, plural), subresource, new: Value, old: Option<&Value>| {
        let mut attributes = Attributes::new(operation, testing::resource(group, plural), &user);
        (attributes.subresource, attributes.object, attributes.old) = (subresource, new, old);
        ResourceQuota::default().validates(&attributes)
    };
    let (plain, ending) = (pod("p"), json!({"spec": {"activeDeadlineSeconds": 5}}));
    let pods = ("", "pods");
    assert!(asked(Operation::Create, pods, "", plain.clone(), None));
    assert!(!asked(Operation::Create, pods, "binding", plain.clone(), None));
    assert!(!asked(Operation::Update, pods, "", plain.clone(), Some(&plain)));
    assert!(asked(Operation::Update, pods, "", ending.clone(), Some(&plain)));
    assert!(asked(Operation::Update, pods, "resize", plain.clone(), Some(&plain)));
    assert!(!asked(Operation::Update, pods, "status", plain.clone(), Some(&plain)));
    assert!(!asked(Operation::Delete, pods, "", Value::Null, Some(&plain)));
    assert!(!asked(Operation::Create, ("", "events"), "", json!({}), None));
    assert!(!asked(Operation::Create, ("", "namespaces"), "", json!({}), None));
    assert!(asked(Operation::Create, ("apps", "deployments"), "", json!({}), None));
    assert!(!asked(Operation::Update, ("apps", "deployments"), "", json!({}), Some(&plain)));
    let claims = ("", "persistentvolumeclaims");
    let allocated = json!({"status": {"allocatedResources": {"storage": "1Gi"}}});
    assert!(asked(Operation::Update, claims, "status", allocated.clone(), Some(&plain)));
    assert!(!asked(Operation::Update, claims, "status", allocated.clone(), Some(&allocated)));
}
