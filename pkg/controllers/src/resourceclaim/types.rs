//! Claims of devices, as far as the controller reads them.

use kedge_client::Keyed;
use kedge_meta::{ObjectMeta, OwnerReference, nullable};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::objects::{Pod, PodClaim};

/// What keeps a claim that is allocated.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// On a generated claim: for which of its pod's it is.
pub const OF_POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// Most consumers of one claim.
const MOST_CONSUMERS: usize = 256;

/// `ResourceClaim`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Claim {
    pub metadata: ObjectMeta,
    pub status: ClaimStatus,
}

impl Keyed for Claim {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimStatus {
    #[serde(deserialize_with = "present")]
    pub allocation: bool,
    #[serde(deserialize_with = "nullable")]
    pub reserved_for: Vec<Consumer>,
}

/// Whether there is something.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}

/// `ResourceClaimConsumerReference`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Consumer {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    pub resource: String,
    pub name: String,
    pub uid: String,
}

impl Consumer {
    /// A pod.
    pub fn pod(pod: &Pod) -> Self {
        Self {
            api_group: String::new(),
            resource: "pods".to_owned(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        }
    }

    /// Whether it is one.
    pub fn is_pod(&self) -> bool {
        self.api_group.is_empty() && self.resource == "pods"
    }
}

impl Claim {
    /// Whether it keeps itself from going.
    pub fn is_kept(&self) -> bool {
        self.metadata.finalizers.iter().any(|f| f == FINALIZER)
    }

    /// Whether it is allocated and one more may use it, the pod being none of those who do.
    pub fn can_be_reserved_for(&self, pod: &Pod) -> bool {
        let users = &self.status.reserved_for;
        let own = users.iter().any(|user| user.uid == pod.metadata.uid);
        self.status.allocation && !own && users.len() < MOST_CONSUMERS
    }

    /// The pod for which it was made.
    pub fn owner(&self) -> Option<&OwnerReference> {
        self.metadata.controller().filter(|owner| owner.api_version == "v1" && owner.kind == "Pod")
    }

    /// Whether it was made for that pod, and if not, the words for it.
    pub fn check_owner(&self, pod: &Pod) -> Result<(), String> {
        let metadata = &pod.metadata;
        let own = self.metadata.namespace == metadata.namespace
            && self.metadata.controller().is_some_and(|owner| owner.uid == metadata.uid);
        if own {
            return Ok(());
        }
        let claim = self.metadata.key();
        Err(format!("ResourceClaim {claim} was not created for pod {} (pod is not owner)", metadata.key()))
    }
}

/// How one of a pod's claims is called.
#[derive(Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// The user's own.
    Given(&'a str),
    /// It was made.
    Made(&'a str),
    /// It was found not to be needed.
    Unneeded,
    /// It has yet to be made.
    Unknown,
    /// Neither a name nor a template.
    Unsupported,
}

/// How a pod's claim is called.
pub fn name<'a>(pod: &'a Pod, claim: &'a PodClaim) -> Named<'a> {
    if let Some(name) = &claim.resource_claim_name {
        return Named::Given(name);
    }
    if claim.resource_claim_template_name.is_none() {
        return Named::Unsupported;
    }
    match pod.status.resource_claim_statuses.iter().find(|status| status.name == claim.name) {
        Some(status) => status.resource_claim_name.as_deref().map_or(Named::Unneeded, Named::Made),
        None => Named::Unknown,
    }
}

/// The claims of a pod that have names, that of its extended resources too.
pub fn names(pod: &Pod) -> Vec<String> {
    let of = |claim| match name(pod, claim) {
        Named::Given(name) | Named::Made(name) => Some(name.to_owned()),
        _ => None,
    };
    let extended = pod.status.extended_resource_claim_status.as_ref().map(|status| status.resource_claim_name.clone());
    pod.spec.resource_claims.iter().filter_map(of).chain(extended).collect()
}

/// Whether a pod has to do with claims at all.
pub fn has_claims(pod: &Pod) -> bool {
    !pod.spec.resource_claims.is_empty() || pod.status.extended_resource_claim_status.is_some()
}

/// Whether a pod will not run any more.
pub fn is_done(pod: &Pod) -> bool {
    pod.is_terminal() || (pod.metadata.is_deleting() && pod.spec.node_name.is_empty())
}

/// The beginning of a claim's name, of both names as much as there is room for.
pub fn base(pod: &str, claim: &str) -> String {
    /// Room is left for what is added to it.
    const MOST: usize = 57;
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= MOST {
        return whole;
    }
    let part = |text: &str| text.get(..text.len() * MOST / whole.len()).unwrap_or(text).to_owned();
    format!("{}-{}", part(pod), part(claim))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn names_come_from_the_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"resourceClaims": [{"name": "a", "resourceClaimName": "mine"}, {"name": "b", "resourceClaimTemplateName": "t"},
                {"name": "c", "resourceClaimTemplateName": "t"}, {"name": "d", "resourceClaimTemplateName": "t"}, {"name": "e"}]},
            "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "p-b-x"}, {"name": "c"}],
                "extendedResourceClaimStatus": {"resourceClaimName": "ext", "requestMappings": []}}
        }))
        .unwrap();
        let all: Vec<Named<'_>> = pod.spec.resource_claims.iter().map(|claim| name(&pod, claim)).collect();
        assert_eq!(
            all,
            [Named::Given("mine"), Named::Made("p-b-x"), Named::Unneeded, Named::Unknown, Named::Unsupported]
        );
        assert_eq!(names(&pod), ["mine", "p-b-x", "ext"]);
    }

    #[test]
    fn long_names_are_cut_alike() {
        assert_eq!(base("pod", "claim"), "pod-claim-");
        let cut = base(&"p".repeat(100), &"c".repeat(50));
        assert!(cut.len() <= 57 && cut.contains("p-c"), "{cut}");
    }

    #[test]
    fn an_allocation_is_there_or_not() {
        let claim = |value| serde_json::from_value::<Claim>(value).unwrap();
        assert!(
            claim(json!({"status": {"allocation": {"devices": {"results": []}}, "reservedFor": null}}))
                .status
                .allocation
        );
        assert!(!claim(json!({"status": {"allocation": null}})).status.allocation);
    }
}
