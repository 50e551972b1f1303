//! All of upstream's plugins by name: those that are not here are known, so that an option that names one is told apart from a slip.

/// What upstream has and Kedge does not.
pub(crate) const ELSEWHERE: [&str; 22] = [
    "AlwaysAdmit",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "LimitPodHardAntiAffinityTopology",
    "AlwaysPullImages",
    "ImagePolicyWebhook",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "PodGroupProtection",
    "OwnerReferencesPermissionEnforcement",
    "DenyServiceExternalIPs",
    "PodGroupWorkloadExists",
    "NodeDeclaredFeatureValidator",
    "JobValidation",
    "PodResizeValidator",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "AlwaysDeny",
];
