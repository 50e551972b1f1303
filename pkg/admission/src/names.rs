//! All of upstream's plugins by name: those that are not here are known, so that an option that names one is told apart from a slip.

/// What upstream has and Kedge does not.
pub(crate) const ELSEWHERE: [&str; 4] = [
    // What they are about is not served by default.
    "ClusterTrustBundleAttest",
    "JobValidation",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
];

/// What is off until it is turned on, as upstream.
pub(crate) const OFF: [&str; 13] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
    "PodTolerationRestriction",
];
