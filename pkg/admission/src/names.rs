//! All of upstream's plugins by name: those that are not here are known, so that an option that names one is told apart from a slip.

/// What upstream has and Kedge does not.
pub(crate) const ELSEWHERE: [&str; 19] = [
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
    // What it is about is not served by default.
    "ClusterTrustBundleAttest",
    "DenyServiceExternalIPs",
    "PodGroupWorkloadExists",
    "NodeDeclaredFeatureValidator",
    "JobValidation",
    "PodResizeValidator",
    "AlwaysDeny",
];
