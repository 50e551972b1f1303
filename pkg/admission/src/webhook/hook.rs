//! A webhook as its configuration says, ready to be asked.

use std::sync::Arc;
use std::time::Duration;

use kedge_registry::value::ValueExt as _;
use kedge_webhook::{ClientConfig, ConfigError};
use serde_json::Value;

use crate::expressions::{Conditions, Expression};
use crate::matching::Criteria;

/// Where a configuration does not say how long to wait.
const TIMEOUT: i64 = 10;

/// A webhook.
#[derive(Debug)]
pub(crate) struct Hook {
    /// Tells it from all others of its kind: names need not be unique.
    pub uid: Box<str>,
    pub configuration: Arc<str>,
    pub name: Box<str>,
    pub criteria: Criteria,
    pub conditions: Conditions,
    pub client: Result<ClientConfig, ConfigError>,
    /// Whether a request goes on when the webhook cannot be asked.
    pub fails_open: bool,
    pub timeout: Duration,
    pub side_effects: SideEffects,
    /// Whether it wants to see an object again that others have changed.
    pub reinvoked: bool,
    /// Of the review, in order of preference; those that are known here.
    pub version: Option<ReviewVersion>,
}

/// What a webhook does beside its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SideEffects {
    Unsaid,
    /// None, or none of a dry run.
    NoneOnDryRun,
    Some,
}

/// A version of `AdmissionReview`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReviewVersion {
    V1,
    V1beta1,
}

impl ReviewVersion {
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The webhooks of a configuration, in its order.
pub(crate) fn hooks(configuration: &Value) -> Vec<Hook> {
    let name: Arc<str> = configuration.name().into();
    let all = configuration.list(&["webhooks"]);
    let hook = |(at, one): (usize, &Value)| {
        let before = all[..at].iter().filter(|other| other.text(&["name"]) == one.text(&["name"])).count();
        Hook::read(&name, one, before)
    };
    all.iter().enumerate().map(hook).collect()
}

impl Hook {
    fn read(configuration: &Arc<str>, hook: &Value, before: usize) -> Self {
        let name = hook.text(&["name"]);
        let versions = hook.list(&["admissionReviewVersions"]).iter().filter_map(Value::as_str);
        Self {
            uid: format!("{configuration}/{name}/{before}").into(),
            configuration: configuration.clone(),
            name: name.into(),
            criteria: Criteria::of_webhook(hook),
            conditions: Conditions::read(hook, |text| Expression::condition(text.trim())),
            client: ClientConfig::from_value(&hook["clientConfig"]),
            fails_open: hook.text(&["failurePolicy"]) == "Ignore",
            timeout: Duration::from_secs(hook.int(&["timeoutSeconds"]).unwrap_or(TIMEOUT).unsigned_abs()),
            side_effects: match hook.text(&["sideEffects"]) {
                "" => SideEffects::Unsaid,
                "None" | "NoneOnDryRun" => SideEffects::NoneOnDryRun,
                _ => SideEffects::Some,
            },
            reinvoked: hook.text(&["reinvocationPolicy"]) == "IfNeeded",
            version: versions.filter_map(known_version).next(),
        }
    }
}

fn known_version(version: &str) -> Option<ReviewVersion> {
    match version {
        "v1" => Some(ReviewVersion::V1),
        "v1beta1" => Some(ReviewVersion::V1beta1),
        _ => None,
    }
}
