//! What is done once at start, by the names that upstream has for it: each is a check of the server's health until it is done.

use kedge_apiserver::Readiness;

/// The watch caches hold what the store does.
pub(crate) const CACHES: [&str; 2] = ["informer-sync", "poststarthook/storage-readiness"];
/// Custom resource definitions that there are have been read.
pub(crate) const DEFINITIONS: [&str; 2] =
    ["poststarthook/start-apiextensions-informers", "poststarthook/crd-informer-synced"];
/// Custom resource definitions that come are followed.
pub(crate) const EXTENSIONS: [&str; 1] = ["poststarthook/start-apiextensions-controllers"];
/// Since when uses of tokens in secrets are noted is kept.
pub(crate) const TRACKING: [&str; 1] = ["poststarthook/start-legacy-token-tracking-controller"];
/// Addresses and ports of services are claimed.
pub(crate) const CLAIMS: [&str; 1] = ["poststarthook/start-service-ip-repair-controllers"];
/// Default roles and bindings are there.
pub(crate) const ROLES: [&str; 1] = ["poststarthook/rbac/bootstrap-roles"];
/// System namespaces and default priority classes are there.
pub(crate) const MANIFESTS: [&str; 2] =
    ["poststarthook/start-system-namespaces-controller", "poststarthook/scheduling/bootstrap-system-priority-classes"];
/// Default priority levels and flow schemas are there.
pub(crate) const LEVELS: [&str; 1] = ["poststarthook/priority-and-fairness-config-producer"];
/// Their conditions are kept.
pub(crate) const CONDITIONS: [&str; 1] = ["poststarthook/priority-and-fairness-config-consumer"];
/// The service `kubernetes` is there.
pub(crate) const SERVICE: [&str; 1] = ["poststarthook/bootstrap-controller"];
/// The range of service addresses is there as an object.
pub(crate) const RANGE: [&str; 1] = ["poststarthook/start-kubernetes-service-cidr-controller"];
/// API services that there are have been read.
pub(crate) const SERVICES: [&str; 2] =
    ["poststarthook/start-kube-aggregator-informers", "poststarthook/apiservice-registration-controller"];
/// There is an API service for each group version that is served here.
pub(crate) const REGISTERED: [&str; 2] = ["poststarthook/kube-apiserver-autoregistration", "autoregister-completion"];
/// API services are followed, and whether who serves them is there.
pub(crate) const AGGREGATION: [&str; 5] = [
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];

/// In upstream's order.
const ALL: [&str; 23] = [
    CACHES[0],
    CONDITIONS[0],
    DEFINITIONS[0],
    EXTENSIONS[0],
    DEFINITIONS[1],
    MANIFESTS[0],
    CACHES[1],
    TRACKING[0],
    CLAIMS[0],
    ROLES[0],
    MANIFESTS[1],
    LEVELS[0],
    SERVICE[0],
    RANGE[0],
    SERVICES[0],
    AGGREGATION[0],
    AGGREGATION[1],
    SERVICES[1],
    AGGREGATION[2],
    REGISTERED[0],
    REGISTERED[1],
    AGGREGATION[3],
    AGGREGATION[4],
];

/// Declares all of them: none is done yet.
pub(crate) fn declare(readiness: &Readiness) {
    readiness.declare(&ALL);
}

/// Says that these are done.
pub(crate) fn done(readiness: &Readiness, hooks: &[&'static str]) {
    hooks.iter().for_each(|hook| readiness.hold(hook));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_ready_when_all_is_done_and_not_before() {
        let readiness = Readiness::default();
        declare(&readiness);
        for hooks in [
            CACHES.as_slice(),
            &DEFINITIONS,
            &EXTENSIONS,
            &TRACKING,
            &CLAIMS,
            &ROLES,
            &MANIFESTS,
            &LEVELS,
            &CONDITIONS,
            &SERVICE,
            &RANGE,
            &SERVICES,
            &REGISTERED,
            &AGGREGATION,
        ] {
            assert!(!readiness.is_ready());
            done(&readiness, hooks);
        }
        assert!(readiness.is_ready());
    }
}
