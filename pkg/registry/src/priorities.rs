//! In which order groups and versions are listed: what API services say of that.

/// How much a group version is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority {
    /// Of its group among all groups; the highest of a group's versions counts.
    pub group: i32,
    /// Among the versions of its group.
    pub version: i32,
}

impl Priority {
    const fn new(group: i32, version: i32) -> Self {
        Self { group, version }
    }
}

/// Of what custom resources define: they come late, and their versions in the order of such names.
pub const CUSTOM: Priority = Priority::new(1_000, 100);
/// Of what is built in here and nowhere else, as add-ons have it.
pub const ADDED: Priority = Priority::new(100, 100);

/// Of what is built in, as upstream has it.
pub fn built_in(group: &str, version: &str) -> Priority {
    let (group, version) = match (group, version) {
        ("", "v1") => (18_000, 1),
        ("apps", "v1") => (17_800, 15),
        ("events.k8s.io", "v1") => (17_750, 15),
        ("events.k8s.io", "v1beta1") => (17_750, 5),
        ("authentication.k8s.io", "v1") => (17_700, 15),
        ("authentication.k8s.io", "v1beta1") => (17_700, 9),
        ("authentication.k8s.io", "v1alpha1") => (17_700, 1),
        ("authorization.k8s.io", "v1") => (17_600, 15),
        ("autoscaling", "v1") => (17_500, 15),
        ("autoscaling", "v2") => (17_500, 30),
        ("batch", "v1") => (17_400, 15),
        ("batch", "v1beta1") => (17_400, 9),
        ("certificates.k8s.io", "v1") => (17_300, 15),
        ("certificates.k8s.io", "v1beta1") => (17_300, 9),
        ("certificates.k8s.io", "v1alpha1") => (17_300, 1),
        ("networking.k8s.io", "v1") => (17_200, 15),
        ("networking.k8s.io", "v1beta1") => (17_200, 9),
        ("policy", "v1") => (17_100, 15),
        ("policy", "v1beta1") => (17_100, 9),
        ("rbac.authorization.k8s.io", "v1") => (17_000, 15),
        ("storage.k8s.io", "v1") => (16_800, 15),
        ("storage.k8s.io", "v1beta1") => (16_800, 9),
        ("storage.k8s.io", "v1alpha1") => (16_800, 1),
        ("apiextensions.k8s.io" | "admissionregistration.k8s.io", "v1") => (16_700, 15),
        ("admissionregistration.k8s.io", "v1beta1") => (16_700, 12),
        ("admissionregistration.k8s.io", "v1alpha1") => (16_700, 9),
        ("scheduling.k8s.io", "v1") => (16_600, 15),
        ("scheduling.k8s.io", "v1alpha2") => (16_600, 2),
        ("coordination.k8s.io", "v1") => (16_500, 15),
        ("coordination.k8s.io", "v1beta1") => (16_500, 13),
        ("coordination.k8s.io", "v1alpha2") => (16_500, 12),
        ("node.k8s.io", "v1") => (16_300, 15),
        ("node.k8s.io", "v1beta1") => (16_300, 9),
        ("node.k8s.io", "v1alpha1") => (16_300, 1),
        ("discovery.k8s.io", "v1") => (16_200, 15),
        ("discovery.k8s.io", "v1beta1") => (16_200, 12),
        ("resource.k8s.io", "v1") => (16_200, 21),
        ("resource.k8s.io", "v1beta2") => (16_200, 15),
        ("resource.k8s.io", "v1beta1") => (16_200, 9),
        ("resource.k8s.io", "v1alpha3") => (16_200, 1),
        ("flowcontrol.apiserver.k8s.io", "v1") => (16_100, 21),
        ("internal.apiserver.k8s.io", "v1alpha1") => (16_000, 9),
        ("storagemigration.k8s.io", "v1beta1") => (15_800, 9),
        _ => return ADDED,
    };
    Priority::new(group, version)
}
