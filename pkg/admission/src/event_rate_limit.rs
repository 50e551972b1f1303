//! EventRateLimit: so many events a second are taken, of all together, of a namespace, of a user, or about an object.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::{Plugin, aggregate};

/// As upstream, when nobody says.
const REMEMBERED: usize = 4_096;
const GROUP: &str = "eventratelimit.admission.k8s.io/";

#[derive(Debug, Default)]
pub(crate) struct EventRateLimit(Vec<Enforcer>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    #[serde(rename = "kind")]
    _kind: String,
    api_version: String,
    limits: Vec<Limit>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limit {
    #[serde(rename = "type")]
    of: Of,
    qps: u32,
    burst: u32,
    #[serde(default)]
    cache_size: usize,
}

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Of {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

#[derive(Debug)]
struct Enforcer {
    limit: Limit,
    buckets: Mutex<Buckets>,
}

/// Those that were used last.
#[derive(Debug, Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    uses: u64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
    used: u64,
}

impl EventRateLimit {
    /// From its configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn configured(config: &Value) -> Result<Self, String> {
        let read: Configuration = serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        if !read.api_version.starts_with(GROUP) {
            return Err(format!("{:?} is no version of {}", read.api_version, GROUP.trim_end_matches('/')));
        }
        if read.limits.is_empty() {
            return Err("limits: Invalid value: []: must not be empty".to_owned());
        }
        for (at, limit) in read.limits.iter().enumerate() {
            for (field, value) in [("qps", limit.qps), ("burst", limit.burst)] {
                if value == 0 {
                    return Err(format!("limits[{at}].{field}: Invalid value: 0: must be positive"));
                }
            }
        }
        Ok(Self(read.limits.into_iter().map(|limit| Enforcer { limit, buckets: Mutex::default() }).collect()))
    }
}

impl Enforcer {
    fn take(&self, attributes: &Attributes<'_>, now: Duration) -> Result<(), String> {
        let key = match self.limit.of {
            Of::Server => String::new(),
            Of::Namespace => attributes.namespace.to_owned(),
            Of::User => attributes.user.name.clone(),
            Of::SourceAndObject => {
                let event = &attributes.object;
                let object = if event.at(&["involvedObject"]).is_some() { "involvedObject" } else { "regarding" };
                let about =
                    ["kind", "namespace", "name", "uid", "apiVersion"].map(|field| event.text(&[object, field]));
                let source = ["component", "host"].map(|field| event.text(&["source", field]));
                source.into_iter().chain(about).collect()
            }
        };
        if self.buckets.lock().take(&key, &self.limit, now) {
            return Ok(());
        }
        Err(format!("limit reached on type {:?} for key {key}", self.limit.of))
    }
}

impl Buckets {
    fn take(&mut self, key: &str, limit: &Limit, now: Duration) -> bool {
        self.uses += 1;
        let most = match limit.cache_size {
            0 => REMEMBERED,
            size => size,
        };
        if !self.by_key.contains_key(key) && self.by_key.len() >= most {
            let oldest = self.by_key.iter().min_by_key(|(_, bucket)| bucket.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.by_key.remove(&key));
        }
        let fresh = || Bucket { tokens: f64::from(limit.burst), at: now, used: 0 };
        let bucket = self.by_key.entry(key.to_owned()).or_insert_with(fresh);
        let passed = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * f64::from(limit.qps)).min(f64::from(limit.burst));
        (bucket.at, bucket.used) = (now, self.uses);
        let taken = bucket.tokens >= 1.0;
        bucket.tokens -= if taken { 1.0 } else { 0.0 };
        taken
    }
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let resource = attributes.resource;
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && matches!((&*resource.group, &*resource.plural), ("" | "events.k8s.io", "events"))
            && !attributes.dry_run
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let now = registry.clock.monotonic();
        let refused: Vec<String> = self.0.iter().filter_map(|limit| limit.take(attributes, now).err()).collect();
        match aggregate(&refused) {
            Some(why) => Err(Status::too_many_requests(&why, 1)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use serde_json::json;

    fn configured(limits: Value) -> Result<EventRateLimit, String> {
        let version = "eventratelimit.admission.k8s.io/v1alpha1";
        EventRateLimit::configured(&json!({"apiVersion": version, "kind": "Configuration", "limits": limits}))
    }

    #[test]
    fn events_about_one_thing_do_not_take_the_room_of_others() {
        let plugin = configured(json!([{"type": "SourceAndObject", "qps": 1, "burst": 2, "cacheSize": 2}])).unwrap();
        let user = testing::user();
        let taken = |name: &str, second: u64| {
            let mut attributes = Attributes::new(Operation::Create, testing::resource("", "events"), &user);
            attributes.object = json!({"involvedObject": {"kind": "Pod", "name": name}});
            plugin.0[0].take(&attributes, Duration::from_secs(second)).is_ok()
        };
        assert_eq!([taken("a", 0), taken("a", 0), taken("a", 0), taken("b", 0)], [true, true, false, true]);
        assert_eq!([taken("a", 1), taken("a", 1)], [true, false], "one a second");
        // What was not heard of for longest is forgotten.
        assert!(taken("c", 1) && plugin.0[0].buckets.lock().by_key.len() == 2);
        assert!(!taken("a", 1));
    }

    #[tokio::test]
    async fn the_refusal_names_what_is_too_much() {
        let (registry, _) = testing::registry().await;
        let plugin =
            configured(json!([{"type": "Server", "qps": 1, "burst": 1}, {"type": "Namespace", "qps": 1, "burst": 1}]))
                .unwrap();
        let user = testing::user();
        let mut attributes = Attributes::new(Operation::Create, testing::resource("", "events"), &user);
        attributes.namespace = "n";
        assert!(plugin.validates(&attributes));
        plugin.validate(&registry, &attributes).await.unwrap();
        let refused = plugin.validate(&registry, &attributes).await.unwrap_err();
        assert_eq!(refused.code, 429);
        assert_eq!(
            refused.message,
            "[limit reached on type Server for key , limit reached on type Namespace for key n]"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(configured(json!([])).unwrap_err().contains("must not be empty"));
        assert!(configured(json!([{"type": "Server", "qps": 0, "burst": 1}])).unwrap_err().contains("limits[0].qps"));
        assert!(configured(json!([{"type": "World", "qps": 1, "burst": 1}])).is_err());
        assert!(
            EventRateLimit::configured(&json!({"apiVersion": "v1", "kind": "Configuration", "limits": []})).is_err()
        );
    }
}
