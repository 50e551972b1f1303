//! The status of a pod: computed purely from its spec, the runtime's state, probe results and start errors, and
//! written to the API only when it changed.

mod conditions;
mod convert;
mod generate;
mod manager;
mod patch;
mod phase;
mod settle;

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) use conditions::is_owned;
pub(crate) use generate::{ReadinessView, Subject, generate};
pub(crate) use manager::StatusManager;

/// Why containers could not be started, by name: reason and message of their waiting state.
pub(crate) type StartErrors = HashMap<String, (String, String)>;

/// A time as the API keeps it, in whole seconds.
pub(crate) fn api_time(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// `None` for an empty text, as Kubernetes leaves it out.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

pub(crate) fn find_status<'a>(list: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    list.iter().find(|s| s.name == name)
}

pub(crate) fn find_condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}
