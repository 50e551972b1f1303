//! Whether the server behind an API service is there.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kedge_meta::Status;
use kedge_registry::endpoint_slices;
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::{UpdateOptions, update};
use serde_json::{Value, json};
use tracing::info;

use super::Aggregation;
use super::ask::{ASKER, Question};
use super::service::ApiService;

/// So often a server is asked at the same time; one answer is enough.
const TRIES: usize = 5;
/// How long a try may take.
const WITHIN: Duration = Duration::from_secs(5);

/// What is said of an API service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    fn unknown(reason: &'static str, message: String) -> Self {
        Self { status: "Unknown", reason, message }
    }

    fn is_in(&self, service: &ApiService) -> bool {
        service.available().is_some_and(|condition| {
            (&*condition.status, &*condition.reason, &condition.message) == (self.status, self.reason, &self.message)
        })
    }

    /// Whether it is worth asking again soon: nothing tells when the answer would be another one.
    pub(super) fn may_pass(&self) -> bool {
        self.reason == "FailedDiscoveryCheck"
    }
}

impl Aggregation {
    /// Looks whether the server of an API service is there.
    pub(super) async fn look(&self, service: &ApiService) -> Verdict {
        if let Err(verdict) = self.look_at_service(service) {
            return verdict;
        }
        match self.look_at_server(service).await {
            Ok(()) => Verdict { status: "True", reason: "Passed", message: "all checks passed".to_owned() },
            Err(message) => Verdict::no("FailedDiscoveryCheck", message),
        }
    }

    /// Whether there is anybody to ask.
    fn look_at_service(&self, service: &ApiService) -> Result<(), Verdict> {
        let Some(at) = service.service() else { return Ok(()) };
        let place = format!("service/{} in {:?}", at.name, at.namespace);
        let access = |reason, status: &Status| {
            Verdict::unknown(reason, format!("{place} cannot be checked due to: {}", status.message))
        };
        let services = self.registry.builtin("", "v1", "services");
        let found = services.ok_or_else(Status::unknown_path).and_then(|served| served.get(&at.namespace, &at.name));
        let found = found.map_err(|status| match status.code {
            404 => Verdict::no("ServiceNotFound", format!("{place} is not present")),
            _ => access("ServiceAccessError", &status),
        })?;
        if !matches!(found.text(&["spec", "type"]), "" | "ClusterIP") {
            return Ok(());
        }
        let port = found.list(&["spec", "ports"]).iter().find(|one| one.int(&["port"]) == Some(i64::from(at.port)));
        let Some(port) = port else {
            let message = format!("{place} is not listening on port {}", at.port);
            return Err(Verdict::no("ServicePortError", message));
        };
        let slices = endpoint_slices::of_service(&self.registry, &at.namespace, &at.name);
        let slices = slices.map_err(|status| access("EndpointsAccessError", &status))?;
        if slices.is_empty() {
            return Err(Verdict::no("EndpointsNotFound", format!("cannot find endpointslices for {place}")));
        }
        let name = port.text(&["name"]);
        if !slices.iter().any(|slice| is_ready(slice, name)) {
            let message = format!("endpointslices for {place} have no addresses with port name {name:?}");
            return Err(Verdict::no("MissingEndpoints", message));
        }
        Ok(())
    }

    /// Whether one of several tries is answered.
    async fn look_at_server(&self, service: &ApiService) -> Result<(), String> {
        let path = format!("/apis/{}/{}", service.spec.group, service.spec.version);
        let mut tries: FuturesUnordered<_> = (0..TRIES).map(|_| self.attempt(service, &path)).collect();
        let mut last = Ok(());
        while let Some(tried) = tries.next().await {
            if tried.is_ok() {
                return Ok(());
            }
            last = tried;
        }
        last
    }

    async fn attempt(&self, service: &ApiService, path: &str) -> Result<(), String> {
        let url = self.url(service, path).map_err(|err| err.to_string())?;
        // Only whether there is an answer matters; what it says is read elsewhere.
        let question = Question { user: ASKER, path, accept: "*/*", known: None, limit: None, within: WITHIN };
        let failed = |why: &dyn std::fmt::Display| format!("failing or missing response from {url}: {why}");
        let answer = self.ask_at(service, &url, question).await.map_err(|err| failed(&err))?;
        match answer.code.as_u16() {
            200..300 => Ok(()),
            code => Err(failed(&format!("bad status from {url}: {code}"))),
        }
    }

    /// Writes what was found, if that is not what is said already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn say(&self, service: &ApiService, verdict: &Verdict) -> Result<(), Status> {
        if verdict.is_in(service) {
            return Ok(());
        }
        let name = &service.metadata.name;
        info!(
            service = name,
            available = verdict.status,
            reason = verdict.reason,
            message = verdict.message,
            "the availability of an API service has changed"
        );
        let served = self.services()?;
        let request = self.extensions.request(served, "", name, "status");
        let now = kedge_base::time::rfc3339(self.registry.clock.now());
        let transform = |current: Option<&Value>| {
            let mut stored = current.cloned().unwrap_or_default();
            let is_it = stored.text(&["metadata", "uid"]) == service.metadata.uid;
            // What it says now is looked at when that is seen.
            if is_it && serde_json::from_value::<ApiService>(stored.clone()).is_ok_and(|now| now.spec == service.spec) {
                set(&mut stored, verdict, &now);
            }
            Ok(stored)
        };
        match update(&request, &transform, UpdateOptions::default()).await {
            Err(status) if status.code != 404 => return Err(status),
            _ => {}
        }
        if service.is_available() && verdict.status != "True" {
            self.registry.unavailable.count(name, verdict.reason);
        }
        Ok(())
    }
}

fn is_ready(slice: &Value, port: &str) -> bool {
    let ready = |endpoint: &Value| endpoint.flag(&["conditions", "ready"]) != Some(false);
    let has_port = |one: &Value| {
        one.at(&["name"]).and_then(Value::as_str).unwrap_or_default() == port && one.int(&["port"]).is_some()
    };
    slice.list(&["endpoints"]).iter().any(ready) && slice.list(&["ports"]).iter().any(has_port)
}

/// Puts the condition into the status; the time is that of the last change of its status.
fn set(service: &mut Value, verdict: &Verdict, now: &str) {
    let mut conditions: Vec<Value> = service.list(&["status", "conditions"]).to_vec();
    let Verdict { status, reason, message } = verdict;
    let mut condition = json!({
        "type": "Available", "status": status, "lastTransitionTime": now, "reason": reason, "message": message,
    });
    match conditions.iter_mut().find(|one| one.text(&["type"]) == "Available") {
        Some(old) => {
            if old.text(&["status"]) == *status
                && let Some(since) = old.get("lastTransitionTime")
            {
                condition["lastTransitionTime"] = since.clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    service["status"] = json!({ "conditions": conditions });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let verdict = |status, message: &str| Verdict { status, reason: "R", message: message.into() };
        let mut service = json!({});
        set(&mut service, &verdict("False", "a"), "1");
        set(&mut service, &verdict("False", "b"), "2");
        let condition = &service["status"]["conditions"][0];
        assert_eq!((&condition["message"], &condition["lastTransitionTime"]), (&json!("b"), &json!("1")));
        set(&mut service, &verdict("True", "c"), "3");
        assert_eq!(service["status"]["conditions"][0]["lastTransitionTime"], "3");
        assert_eq!(service["status"]["conditions"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn who_is_ready_and_has_the_port_serves() {
        let slice = |ready: Value, port: Value| json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}], "ports": [port]});
        assert!(is_ready(&slice(Value::Null, json!({"name": "", "port": 1})), ""));
        assert!(!is_ready(&slice(json!(false), json!({"name": "", "port": 1})), ""));
        assert!(!is_ready(&slice(json!(true), json!({"name": "a", "port": 1})), ""));
        assert!(!is_ready(&slice(json!(true), json!({"name": "a"})), "a"));
    }
}
