//! Resources by name, and those built-in ones that components of this project use.

use crate::{GroupKind, GroupResource, GroupVersionKind, Text};

/// A resource as a client addresses it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Empty for the core group.
    pub group: Text,
    pub version: Text,
    /// The path segment, such as `pods`.
    pub plural: Text,
    pub kind: Text,
    pub namespaced: bool,
}

impl Resource {
    /// The `apiVersion` field of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Group and plural.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&*self.group, &*self.plural)
    }

    /// Group and kind.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(&*self.group, &*self.kind)
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(&*self.group, &*self.version, &*self.kind)
    }
}

macro_rules! resources {
    ($($name:ident = $group:literal / $version:literal $plural:literal $kind:literal $namespaced:literal;)*) => {
        $(
            #[doc = concat!("`", $plural, "` of `", $group, "/", $version, "`.")]
            pub static $name: Resource = Resource {
                group: Text::of($group),
                version: Text::of($version),
                plural: Text::of($plural),
                kind: Text::of($kind),
                namespaced: $namespaced,
            };
        )*
    };
}

resources! {
    BINDINGS = ""/"v1" "bindings" "Binding" true;
    CONFIG_MAPS = ""/"v1" "configmaps" "ConfigMap" true;
    ENDPOINTS = ""/"v1" "endpoints" "Endpoints" true;
    EVENTS = ""/"v1" "events" "Event" true;
    LIMIT_RANGES = ""/"v1" "limitranges" "LimitRange" true;
    NAMESPACES = ""/"v1" "namespaces" "Namespace" false;
    NODES = ""/"v1" "nodes" "Node" false;
    PERSISTENT_VOLUME_CLAIMS = ""/"v1" "persistentvolumeclaims" "PersistentVolumeClaim" true;
    PERSISTENT_VOLUMES = ""/"v1" "persistentvolumes" "PersistentVolume" false;
    PODS = ""/"v1" "pods" "Pod" true;
    REPLICATION_CONTROLLERS = ""/"v1" "replicationcontrollers" "ReplicationController" true;
    RESOURCE_QUOTAS = ""/"v1" "resourcequotas" "ResourceQuota" true;
    SECRETS = ""/"v1" "secrets" "Secret" true;
    SERVICE_ACCOUNTS = ""/"v1" "serviceaccounts" "ServiceAccount" true;
    SERVICES = ""/"v1" "services" "Service" true;
    CONTROLLER_REVISIONS = "apps"/"v1" "controllerrevisions" "ControllerRevision" true;
    DAEMON_SETS = "apps"/"v1" "daemonsets" "DaemonSet" true;
    DEPLOYMENTS = "apps"/"v1" "deployments" "Deployment" true;
    REPLICA_SETS = "apps"/"v1" "replicasets" "ReplicaSet" true;
    STATEFUL_SETS = "apps"/"v1" "statefulsets" "StatefulSet" true;
    TOKEN_REVIEWS = "authentication.k8s.io"/"v1" "tokenreviews" "TokenReview" false;
    SUBJECT_ACCESS_REVIEWS = "authorization.k8s.io"/"v1" "subjectaccessreviews" "SubjectAccessReview" false;
    HORIZONTAL_POD_AUTOSCALERS = "autoscaling"/"v2" "horizontalpodautoscalers" "HorizontalPodAutoscaler" true;
    CRON_JOBS = "batch"/"v1" "cronjobs" "CronJob" true;
    JOBS = "batch"/"v1" "jobs" "Job" true;
    CERTIFICATE_SIGNING_REQUESTS = "certificates.k8s.io"/"v1" "certificatesigningrequests" "CertificateSigningRequest" false;
    LEASES = "coordination.k8s.io"/"v1" "leases" "Lease" true;
    ENDPOINT_SLICES = "discovery.k8s.io"/"v1" "endpointslices" "EndpointSlice" true;
    EVENTS_V1 = "events.k8s.io"/"v1" "events" "Event" true;
    INGRESSES = "networking.k8s.io"/"v1" "ingresses" "Ingress" true;
    IP_ADDRESSES = "networking.k8s.io"/"v1" "ipaddresses" "IPAddress" false;
    SERVICE_CIDRS = "networking.k8s.io"/"v1" "servicecidrs" "ServiceCIDR" false;
    NETWORK_POLICIES = "networking.k8s.io"/"v1" "networkpolicies" "NetworkPolicy" true;
    RUNTIME_CLASSES = "node.k8s.io"/"v1" "runtimeclasses" "RuntimeClass" false;
    POD_DISRUPTION_BUDGETS = "policy"/"v1" "poddisruptionbudgets" "PodDisruptionBudget" true;
    VALIDATING_ADMISSION_POLICIES = "admissionregistration.k8s.io"/"v1" "validatingadmissionpolicies" "ValidatingAdmissionPolicy" false;
    CLUSTER_ROLE_BINDINGS = "rbac.authorization.k8s.io"/"v1" "clusterrolebindings" "ClusterRoleBinding" false;
    CLUSTER_ROLES = "rbac.authorization.k8s.io"/"v1" "clusterroles" "ClusterRole" false;
    ROLE_BINDINGS = "rbac.authorization.k8s.io"/"v1" "rolebindings" "RoleBinding" true;
    ROLES = "rbac.authorization.k8s.io"/"v1" "roles" "Role" true;
    FLOW_SCHEMAS = "flowcontrol.apiserver.k8s.io"/"v1" "flowschemas" "FlowSchema" false;
    PRIORITY_LEVEL_CONFIGURATIONS = "flowcontrol.apiserver.k8s.io"/"v1" "prioritylevelconfigurations" "PriorityLevelConfiguration" false;
    PRIORITY_CLASSES = "scheduling.k8s.io"/"v1" "priorityclasses" "PriorityClass" false;
    DEVICE_TAINT_RULES = "resource.k8s.io"/"v1beta2" "devicetaintrules" "DeviceTaintRule" false;
    RESOURCE_CLAIMS = "resource.k8s.io"/"v1" "resourceclaims" "ResourceClaim" true;
    RESOURCE_CLAIM_TEMPLATES = "resource.k8s.io"/"v1" "resourceclaimtemplates" "ResourceClaimTemplate" true;
    RESOURCE_SLICES = "resource.k8s.io"/"v1" "resourceslices" "ResourceSlice" false;
    CSI_DRIVERS = "storage.k8s.io"/"v1" "csidrivers" "CSIDriver" false;
    CSI_NODES = "storage.k8s.io"/"v1" "csinodes" "CSINode" false;
    CSI_STORAGE_CAPACITIES = "storage.k8s.io"/"v1" "csistoragecapacities" "CSIStorageCapacity" true;
    STORAGE_CLASSES = "storage.k8s.io"/"v1" "storageclasses" "StorageClass" false;
    STORAGE_VERSION_MIGRATIONS = "storagemigration.k8s.io"/"v1beta1" "storageversionmigrations" "StorageVersionMigration" false;
    CUSTOM_RESOURCE_DEFINITIONS = "apiextensions.k8s.io"/"v1" "customresourcedefinitions" "CustomResourceDefinition" false;
    VOLUME_ATTACHMENTS = "storage.k8s.io"/"v1" "volumeattachments" "VolumeAttachment" false;
    VOLUME_ATTRIBUTES_CLASSES = "storage.k8s.io"/"v1" "volumeattributesclasses" "VolumeAttributesClass" false;
}
