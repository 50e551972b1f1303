//! Images, and who says which of them may run.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::testing;

/// Refuses images that say so, and has no answer about those that it does not know.
#[derive(Default)]
struct Reviewer {
    asked: Mutex<Vec<Value>>,
    failures: AtomicUsize,
}

#[async_trait]
impl ImageReviewer for Reviewer {
    async fn review(&self, review: Bytes) -> Result<Bytes, Unreviewed> {
        let mut review: Value = serde_json::from_slice(&review).unwrap();
        self.asked.lock().push(review["spec"].clone());
        let images: Vec<&str> =
            review["spec"]["containers"].as_array().unwrap().iter().map(|c| c["image"].as_str().unwrap()).collect();
        if images.contains(&"late") && self.failures.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(Unreviewed { why: "later".into(), again: true });
        }
        if images.contains(&"unknown") {
            return Err(Unreviewed { why: "it is broken".into(), again: false });
        }
        review["status"] = match images.contains(&"bad") {
            true => json!({"allowed": false, "reason": "it is bad", "auditAnnotations": {"k": "v"}}),
            false => json!({"allowed": !images.contains(&"worse")}),
        };
        Ok(review.to_string().into())
    }
}

fn configuration(image_policy: Value) -> AdmissionConfiguration {
    let plugins = json!([{"name": "ImagePolicyWebhook", "configuration": {"imagePolicy": image_policy}}]);
    let file =
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins});
    AdmissionConfiguration::new(&file, Path::new("/a"), |_| Err("none".into())).unwrap()
}

fn settings(image_policy: Value) -> Result<ImagePolicySettings, String> {
    ImagePolicySettings::of(&configuration(image_policy)).map(Option::unwrap)
}

#[test]
fn durations_have_usual_values_and_bounds() {
    let usual = settings(json!({"kubeConfigFile": "/k"})).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!((usual.allowed, usual.denied, usual.pause), (seconds(300), seconds(30), Duration::from_millis(500)));
    let given = settings(json!({"kubeConfigFile": "/k", "allowTTL": 50, "denyTTL": -1, "retryBackoff": 20})).unwrap();
    assert_eq!((given.allowed, given.denied, given.pause), (seconds(50), Duration::ZERO, Duration::from_millis(20)));
    for (wrong, said) in [
        (json!({"allowTTL": 1_801}), "valid value is between 1s and 30m0s, got 30m1s"),
        (json!({"denyTTL": -2}), "valid value is between 1s and 30m0s, got -2"),
        (json!({"retryBackoff": 300_001}), "valid value is between 1ns and 5m0s, got 5m0.001s"),
    ] {
        assert_eq!(settings(wrong).unwrap_err(), said);
    }
    assert_eq!(ImagePolicySettings::of(&AdmissionConfiguration::default()), Ok(None));
}

struct Pod(&'static str, Value, &'static [&'static str]);

async fn said(
    plugin: &ImagePolicyWebhook,
    registry: &Arc<Registry>,
    pod: Pod,
) -> (Result<(), String>, Vec<(String, String)>) {
    let user = testing::user();
    let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
    (attributes.namespace, attributes.subresource) = ("ns", pod.0);
    let containers: Vec<Value> = pod.2.iter().map(|image| json!({"image": image})).collect();
    let (first, rest) = containers.split_first().unwrap();
    let list = if pod.0.is_empty() { "containers" } else { "ephemeralContainers" };
    attributes.object = json!({"metadata": {"name": "p", "annotations": pod.1}, "spec": {"initContainers": rest}});
    attributes.object["spec"][list] = json!([first]);
    assert!(plugin.validates(&attributes));
    let answer = plugin.validate(registry, &attributes).await.map_err(|refused| refused.message);
    (answer, attributes.notes.annotations())
}

/// Containers that are added to a pod are reviewed, too (CVE-2023-2727).
#[tokio::test(start_paused = true)]
async fn images_run_that_somebody_outside_lets_run() {
    let (registry, _) = testing::registry().await;
    let reviewer = Arc::new(Reviewer::default());
    let plugin = |settings| ImagePolicyWebhook::new(settings, reviewer.clone(), registry.clock.clone());
    let strict = plugin(settings(json!({"retryBackoff": 1})).unwrap());
    let none = || json!({});
    let own = json!({"a.image-policy.k8s.io/ticket": "1", "other": "2"});
    assert_eq!(said(&strict, &registry, Pod("", own, &["good", "init"])).await, (Ok(()), vec![]));
    let asked = json!({"containers": [{"image": "good"}, {"image": "init"}], "namespace": "ns",
        "annotations": {"a.image-policy.k8s.io/ticket": "1"}});
    assert_eq!(*reviewer.asked.lock(), [asked]);
    let refused = |why: &str| Err(format!("pods \"p\" is forbidden: {why}"));
    for times in [2, 2] {
        let bad = said(&strict, &registry, Pod("", none(), &["bad"])).await;
        assert_eq!(bad.0, refused("image policy webhook backend denied one or more images: it is bad"));
        assert_eq!(bad.1, [("imagepolicywebhook.image-policy.k8s.io/k".to_owned(), "v".to_owned())]);
        assert_eq!(reviewer.asked.lock().len(), times, "what was said counts for a while");
    }
    let worse = said(&strict, &registry, Pod("ephemeralcontainers", none(), &["worse"])).await;
    assert_eq!(worse.0, refused("one or more images rejected by webhook backend"));
    assert_eq!(said(&strict, &registry, Pod("", none(), &["late"])).await.0, Ok(()), "it is asked again");
    assert_eq!(said(&strict, &registry, Pod("", none(), &["unknown"])).await.0, refused("it is broken"));
    let open = plugin(settings(json!({"defaultAllow": true})).unwrap());
    let failed = said(&open, &registry, Pod("", none(), &["unknown"])).await;
    let noted = ("imagepolicywebhook.image-policy.k8s.io/failed-open".to_owned(), "true".to_owned());
    assert_eq!(failed, (Ok(()), vec![noted]));
}
