//! Which controllers run: `controllers=*,-foo,bar`, by upstream's names and the older ones that it still knows.

use std::borrow::Cow;

/// Controllers by name, each with its older name.
const KNOWN: [(&str, &str); 52] = [
    ("bootstrap-signer-controller", "bootstrapsigner"),
    ("certificatesigningrequest-approving-controller", "csrapproving"),
    ("certificatesigningrequest-cleaner-controller", "csrcleaner"),
    ("certificatesigningrequest-signing-controller", "csrsigning"),
    ("cloud-node-lifecycle-controller", "cloud-node-lifecycle"),
    ("clusterrole-aggregation-controller", "clusterrole-aggregation"),
    ("cronjob-controller", "cronjob"),
    ("daemonset-controller", "daemonset"),
    ("deployment-controller", "deployment"),
    ("device-taint-eviction-controller", ""),
    ("disruption-controller", "disruption"),
    ("endpoints-controller", "endpoint"),
    ("endpointslice-controller", "endpointslice"),
    ("endpointslice-mirroring-controller", "endpointslicemirroring"),
    ("ephemeral-volume-controller", "ephemeral-volume"),
    ("garbage-collector-controller", "garbagecollector"),
    ("horizontal-pod-autoscaler-controller", "horizontalpodautoscaling"),
    ("job-controller", "job"),
    ("kube-apiserver-serving-clustertrustbundle-publisher-controller", ""),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"),
    ("namespace-controller", "namespace"),
    ("node-ipam-controller", "nodeipam"),
    ("node-lifecycle-controller", "nodelifecycle"),
    ("node-route-controller", "route"),
    ("persistentvolume-attach-detach-controller", "attachdetach"),
    ("persistentvolume-binder-controller", "persistentvolume-binder"),
    ("persistentvolume-expander-controller", "persistentvolume-expander"),
    ("persistentvolume-protection-controller", "pv-protection"),
    ("persistentvolumeclaim-protection-controller", "pvc-protection"),
    ("pod-garbage-collector-controller", "podgc"),
    ("podcertificaterequest-cleaner-controller", ""),
    ("podgroup-protection-controller", ""),
    ("replicaset-controller", "replicaset"),
    ("replicationcontroller-controller", "replicationcontroller"),
    ("resourceclaim-controller", "resource-claim-controller"),
    ("resourcepoolstatusrequest-controller", ""),
    ("resourcequota-controller", "resourcequota"),
    ("root-ca-certificate-publisher-controller", "root-ca-cert-publisher"),
    ("selinux-warning-controller", ""),
    ("service-cidr-controller", ""),
    ("service-lb-controller", "service"),
    ("serviceaccount-controller", "serviceaccount"),
    ("serviceaccount-token-controller", "serviceaccount-token"),
    ("statefulset-controller", "statefulset"),
    ("storage-version-migrator-controller", "svm"),
    ("storageversion-garbage-collector-controller", "storage-version-gc"),
    ("taint-eviction-controller", ""),
    ("token-cleaner-controller", "tokencleaner"),
    ("ttl-after-finished-controller", "ttl-after-finished"),
    ("ttl-controller", "ttl"),
    ("validatingadmissionpolicy-status-controller", ""),
    ("volumeattributesclass-protection-controller", ""),
];
/// Those that `*` does not stand for.
const NOT_BY_DEFAULT: [&str; 3] =
    ["bootstrap-signer-controller", "selinux-warning-controller", "token-cleaner-controller"];

/// Which controllers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<String>);

/// A name that no controller has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not in the list of known controllers")]
pub struct UnknownController(String);

impl Default for Selection {
    /// All of them: nodes join by bootstrap tokens here.
    fn default() -> Self {
        Self(["*", "bootstrap-signer-controller", "token-cleaner-controller"].map(str::to_owned).to_vec())
    }
}

impl Selection {
    /// Reads names: `*` for all that run by default, and names with `-` in front of them for those that do not run.
    ///
    /// # Errors
    /// The first name that is none.
    pub fn parse(names: &[String]) -> Result<Self, UnknownController> {
        let canonical = |name: &String| {
            let (sign, plain) = name.strip_prefix('-').map_or(("", name.as_str()), |plain| ("-", plain));
            let known = KNOWN.iter().find(|(known, older)| plain == *known || (plain == *older && !plain.is_empty()));
            match known {
                _ if name == "*" => Ok(Cow::Borrowed("*")),
                Some((known, _)) => Ok(Cow::Owned(format!("{sign}{known}"))),
                None => Err(UnknownController(plain.to_owned())),
            }
        };
        names.iter().map(|name| canonical(name).map(Cow::into_owned)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the controller of that name runs: what is said of it first counts.
    pub fn has(&self, controller: &str) -> bool {
        debug_assert!(KNOWN.iter().any(|(known, _)| *known == controller), "{controller} has no such name");
        for name in &self.0 {
            if name == controller {
                return true;
            }
            if name.strip_prefix('-') == Some(controller) {
                return false;
            }
        }
        self.0.iter().any(|name| name == "*") && !NOT_BY_DEFAULT.contains(&controller)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn selection(names: &str) -> Selection {
        Selection::parse(&names.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn names_turn_controllers_on_and_off() {
        let some = selection("*,-deployment-controller,tokencleaner,-ttl");
        assert!(some.has("job-controller") && some.has("token-cleaner-controller"));
        let off = ["deployment-controller", "ttl-controller", "bootstrap-signer-controller"];
        assert!(off.iter().all(|name| !some.has(name)));
        let one = selection("daemonset");
        assert!(one.has("daemonset-controller") && !one.has("job-controller"));
        assert!(selection("-job,job").0 == ["-job-controller", "job-controller"]);
        assert!(!selection("-job,job,*").has("job-controller"), "the first counts");
        assert!(KNOWN.iter().all(|(name, _)| Selection::default().has(name) || *name == "selinux-warning-controller"));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for bad in ["", "-", "-red", "red", "**"] {
            assert!(Selection::parse(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }
}
