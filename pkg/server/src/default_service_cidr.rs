//! The ServiceCIDR `kubernetes`: the ranges of the flags as an object, made when it is missing, never made another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kedge_base::{SharedClock, TaskGroup};
use kedge_client::{
    Client, Error, EventRecorder, EventType, Informer, Keyed, ListParams, Patch, WorkQueue, run_workers,
};
use kedge_meta::{ObjectMeta, ObjectReference, resources};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{error, info, warn};

/// Its name.
const NAME: &str = "kubernetes";
/// Who says so, as upstream calls it.
const CONTROLLER: &str = "kubernetes-service-cidr-controller";

/// What is followed of it: that it changes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Followed {
    metadata: ObjectMeta,
}

impl Keyed for Followed {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

/// Keeps it.
pub(crate) struct DefaultServiceCidr {
    client: Client,
    clock: SharedClock,
    recorder: EventRecorder,
    cidrs: Vec<String>,
    /// It has been said that the object is another than the flags.
    said_other: AtomicBool,
    /// It has been said that somebody else says that it is not ready.
    said_not_ready: AtomicBool,
}

/// What is to be done about the object that is there.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    /// The flags have a second family by now.
    Widen,
    SayReady,
    TellOther,
    TellNotReady {
        reason: String,
        message: String,
    },
}

impl DefaultServiceCidr {
    pub(crate) fn new(client: &Client, clock: &SharedClock, tasks: &TaskGroup, cidrs: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            client: client.clone(),
            clock: clock.clone(),
            recorder: EventRecorder::new(client, clock.clone(), tasks, CONTROLLER, ""),
            cidrs,
            said_other: AtomicBool::new(false),
            said_not_ready: AtomicBool::new(false),
        })
    }

    /// Looks again whenever the object has changed.
    pub(crate) fn follow(self: &Arc<Self>, tasks: &TaskGroup) {
        let queue: WorkQueue<String> = WorkQueue::new(self.clock.clone(), tasks);
        let only = ListParams::fields(format!("metadata.name={NAME}"));
        let object: Informer<Followed> = Informer::start(&self.client, tasks, &resources::SERVICE_CIDRS, only);
        let changed = queue.clone();
        object.on_change(move |_| changed.add(NAME.to_owned()));
        let keeper = self.clone();
        run_workers("default service cidr", &queue, tasks, 1, move |_| {
            // The informer lives as long as its changes are waited for.
            let (keeper, _object) = (keeper.clone(), object.clone());
            async move { keeper.sync().await }
        });
    }

    /// Makes it when it is missing, and says that it is ready when nobody has said anything.
    pub(crate) async fn sync(&self) -> Result<(), Error> {
        let resource = &resources::SERVICE_CIDRS;
        let found: Value = match self.client.get(resource, "", NAME).await {
            Ok(found) => found,
            Err(err) if err.is_not_found() => {
                let object = json!({"apiVersion": resource.api_version(), "kind": "ServiceCIDR",
                    "metadata": {"name": NAME}, "spec": {"cidrs": self.cidrs}});
                match self.client.create(resource, "", &object).await {
                    Ok(created) => {
                        info!(cidrs = self.cidrs.join(","), "default ServiceCIDR created");
                        created
                    }
                    Err(err) if err.is_already_exists() => self.client.get(resource, "", NAME).await?,
                    Err(err) => {
                        self.tell(
                            &object,
                            "KubernetesDefaultServiceCIDRError",
                            "The default ServiceCIDR can not be created".into(),
                        );
                        return Err(err);
                    }
                }
            }
            Err(err) => return Err(err),
        };
        match plan(&self.cidrs, &found) {
            Action::Nothing => Ok(()),
            Action::Widen => self.widen(&found).await,
            Action::SayReady => self.say_ready(&found).await,
            Action::TellOther => {
                if !self.said_other.swap(true, Ordering::Relaxed) {
                    let (has, flags) = (go_list(&texts(&found)), go_list(&self.cidrs));
                    warn!(has, flags, "the default ServiceCIDR is another than --service-cidr says");
                    let what = format!(
                        "The default ServiceCIDR {has} does not match the controller flag configurations {flags}"
                    );
                    self.tell(&found, "KubernetesDefaultServiceCIDRInconsistent", what);
                }
                Ok(())
            }
            Action::TellNotReady { reason, message } => {
                if !self.said_not_ready.swap(true, Ordering::Relaxed) {
                    warn!(reason, message, "the default ServiceCIDR is said not to be ready");
                    self.tell(&found, &reason, format!("Configuration matches, but {message}"));
                }
                Ok(())
            }
        }
    }

    async fn widen(&self, found: &Value) -> Result<(), Error> {
        info!(from = texts(found).join(","), to = self.cidrs.join(","), "the default ServiceCIDR gets a second family");
        let mut new = found.clone();
        new["spec"]["cidrs"] = json!(self.cidrs);
        match self.client.update::<Value>(&resources::SERVICE_CIDRS, "", NAME, &new).await {
            Ok(_) => Ok(()),
            Err(err) if err.is_conflict() => Err(err),
            Err(err) => {
                let (one, both) = (&self.cidrs[0], go_list(&self.cidrs));
                error!(error = %err, "the default ServiceCIDR cannot get a second family");
                let what =
                    format!("The default ServiceCIDR can not be upgraded from {one} to dual stack {both} : {err}");
                self.tell(found, "KubernetesDefaultServiceCIDRError", what);
                Ok(())
            }
        }
    }

    async fn say_ready(&self, found: &Value) -> Result<(), Error> {
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": kedge_base::time::rfc3339(self.clock.now()),
        });
        let patch = json!({"metadata": {"uid": found["metadata"]["uid"]}, "status": {"conditions": [ready]}});
        let resource = &resources::SERVICE_CIDRS;
        let patched = self.client.patch::<Value>(resource, "", NAME, Patch::Strategic(patch), Some("status")).await;
        if patched.is_err() {
            let what = "The default ServiceCIDR Status can not be set to Ready=True";
            self.tell(found, "KubernetesDefaultServiceCIDRError", what.into());
        }
        patched.map(drop)
    }

    fn tell(&self, object: &Value, reason: &str, message: String) {
        let object = ObjectReference {
            kind: "ServiceCIDR".into(),
            api_version: resources::SERVICE_CIDRS.api_version(),
            name: NAME.into(),
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            ..ObjectReference::default()
        };
        self.recorder.event(&object, EventType::Warning, reason, message);
    }
}

fn texts(object: &Value) -> Vec<String> {
    let cidrs = object["spec"]["cidrs"].as_array().into_iter().flatten();
    cidrs.filter_map(|cidr| cidr.as_str().map(str::to_owned)).collect()
}

/// As upstream's messages show lists.
fn go_list(texts: &[String]) -> String {
    format!("[{}]", texts.join(" "))
}

fn plan(flags: &[String], found: &Value) -> Action {
    let has = texts(found);
    if flags.len() == 2 && has.len() == 1 && flags[0] == has[0] {
        return Action::Widen;
    }
    // Whoever deletes it has the say.
    if !found["metadata"]["deletionTimestamp"].is_null() {
        return Action::Nothing;
    }
    if has != flags {
        return Action::TellOther;
    }
    let mut conditions = found["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|condition| condition["type"] == "Ready");
    let text = |field: &str| ready.and_then(|ready| ready[field].as_str()).unwrap_or_default();
    match text("status") {
        "True" => Action::Nothing,
        "False" => Action::TellNotReady { reason: text("reason").to_owned(), message: text("message").to_owned() },
        _ => Action::SayReady,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_is_completed_and_never_made_another() {
        let flags = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (one, two) = (flags(&["10.43.0.0/16"]), flags(&["10.43.0.0/16", "fd00::/112"]));
        let object =
            |cidrs: &[String], status: Value| json!({"metadata": {}, "spec": {"cidrs": cidrs}, "status": status});
        let ready =
            |status: &str| json!({"conditions": [{"type": "Ready", "status": status, "reason": "R", "message": "m"}]});
        assert_eq!(plan(&one, &object(&one, json!({}))), Action::SayReady);
        assert_eq!(plan(&one, &object(&one, ready("Unknown"))), Action::SayReady);
        assert_eq!(plan(&one, &object(&one, ready("True"))), Action::Nothing);
        let told = Action::TellNotReady { reason: "R".into(), message: "m".into() };
        assert_eq!(plan(&one, &object(&one, ready("False"))), told);
        assert_eq!(plan(&two, &object(&one, ready("True"))), Action::Widen);
        assert_eq!(plan(&one, &object(&two, ready("True"))), Action::TellOther);
        assert_eq!(plan(&two, &object(&flags(&["fd00::/112"]), json!({}))), Action::TellOther);
        let mut deleted = object(&one, ready("False"));
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(plan(&one, &deleted), Action::Nothing);
        assert_eq!(go_list(&two), "[10.43.0.0/16 fd00::/112]");
    }
}
