//! All of upstream's plugins by name: those that are not here are known, so that an option that names one is told apart from a slip.

/// What upstream has and Kedge does not.
pub(crate) const ELSEWHERE: [&str; 7] = [
    "NamespaceAutoProvision",
    "ImagePolicyWebhook",
    // What they are about is not served by default.
    "ClusterTrustBundleAttest",
    "JobValidation",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
    "NodeDeclaredFeatureValidator",
];

/// What is off until it is turned on, as upstream.
pub(crate) const OFF: [&str; 11] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceExists",
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
    "PodTolerationRestriction",
];
