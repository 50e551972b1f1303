//! The kinds' own rules, one kind a file.

mod admissionregistration;
mod allocators;
mod apiextensions;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod flowcontrol;
mod networking;
mod node;
mod policy;
mod rbac;
mod scheduling;
mod storage;
pub(crate) mod validation;

pub(crate) use allocators::State;

use kedge_meta::Text;
use kedge_schema::ResourceInfo;
use kedge_storage::{Field, Fields};

use crate::strategy::{Plain, Strategy};

/// The strategy of a resource.
pub(crate) fn strategy(group: &str, plural: &str) -> &'static dyn Strategy {
    match group {
        "" => core_strategy(plural),
        "apps" => apps_strategy(plural),
        "storage.k8s.io" => storage_strategy(plural),
        "networking.k8s.io" => networking_strategy(plural),
        _ => other_strategy(group, plural),
    }
}

fn core_strategy(plural: &str) -> &'static dyn Strategy {
    match plural {
        "configmaps" => &core::config_map::ConfigMap,
        "endpoints" => &core::endpoints::Endpoints,
        "events" => &core::event::Event,
        "limitranges" => &core::limit_range::LimitRange,
        "namespaces" => &core::namespace::Namespace,
        "nodes" => &core::node::Node,
        "persistentvolumeclaims" => &core::persistent_volume_claim::PersistentVolumeClaim,
        "persistentvolumes" => &core::persistent_volume::PersistentVolume,
        "pods" => &core::pod::Pod,
        "podtemplates" => &core::pod_template::PodTemplate,
        "replicationcontrollers" => &core::replication_controller::ReplicationController,
        "resourcequotas" => &core::resource_quota::ResourceQuota,
        "secrets" => &core::secret::Secret,
        "serviceaccounts" => &core::service_account::ServiceAccount,
        "services" => &core::service::Service,
        _ => &Plain,
    }
}

fn apps_strategy(plural: &str) -> &'static dyn Strategy {
    match plural {
        "controllerrevisions" => &apps::controller_revision::ControllerRevision,
        "daemonsets" => &apps::daemon_set::DaemonSet,
        "deployments" => &apps::deployment::Deployment,
        "replicasets" => &apps::replica_set::ReplicaSet,
        "statefulsets" => &apps::stateful_set::StatefulSet,
        _ => &Plain,
    }
}

fn storage_strategy(plural: &str) -> &'static dyn Strategy {
    match plural {
        "csidrivers" => &storage::csi_driver::CsiDriver,
        "csinodes" => &storage::csi_node::CsiNode,
        "csistoragecapacities" => &storage::csi_node::CsiStorageCapacity,
        "storageclasses" => &storage::storage_class::StorageClass,
        "volumeattachments" => &storage::volume_attachment::VolumeAttachment,
        "volumeattributesclasses" => &storage::storage_class::VolumeAttributesClass,
        _ => &Plain,
    }
}

fn networking_strategy(plural: &str) -> &'static dyn Strategy {
    match plural {
        "ingressclasses" => &networking::ingress_class::IngressClass,
        "ingresses" => &networking::ingress::Ingress,
        "ipaddresses" => &networking::service_cidr::IpAddress,
        "networkpolicies" => &networking::network_policy::NetworkPolicy,
        "servicecidrs" => &networking::service_cidr::ServiceCidr,
        _ => &Plain,
    }
}

fn other_strategy(group: &str, plural: &str) -> &'static dyn Strategy {
    match (group, plural) {
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            &admissionregistration::webhook_configuration::WebhookConfiguration
        }
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies" | "validatingadmissionpolicies") => {
            &admissionregistration::policy::AdmissionPolicy
        }
        ("admissionregistration.k8s.io", _) => &admissionregistration::policy::AdmissionPolicyBinding,
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            &apiextensions::custom_resource_definition::CustomResourceDefinition
        }
        ("apiregistration.k8s.io", "apiservices") => &apiextensions::api_service::ApiService,
        ("autoscaling", "horizontalpodautoscalers") => &autoscaling::horizontal_pod_autoscaler::HorizontalPodAutoscaler,
        ("batch", "cronjobs") => &batch::cron_job::CronJob,
        ("batch", "jobs") => &batch::job::Job,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificates::signing_request::SigningRequest,
        ("coordination.k8s.io", "leases") => &coordination::lease::Lease,
        ("discovery.k8s.io", "endpointslices") => &discovery::endpoint_slice::EndpointSlice,
        ("events.k8s.io", "events") => &core::event::Event,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &flowcontrol::flow_schema::FlowSchema,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &flowcontrol::priority_level::PriorityLevel,
        ("node.k8s.io", "runtimeclasses") => &node::runtime_class::RuntimeClass,
        ("policy", "poddisruptionbudgets") => &policy::pod_disruption_budget::PodDisruptionBudget,
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => &rbac::binding::Binding,
        ("rbac.authorization.k8s.io", _) => &rbac::role::Role,
        ("scheduling.k8s.io", "priorityclasses") => &scheduling::priority_class::PriorityClass,
        _ => &Plain,
    }
}

const COMMON: &[&str] = &["metadata.name", "metadata.namespace"];

/// The fields that lists and watches of a resource can select by. Absent booleans and counts are selected by their zero value.
pub(crate) fn fields(info: &ResourceInfo) -> Fields {
    let zero = |path: &str| match path {
        "spec.unschedulable" | "spec.hostNetwork" => Text::of("false"),
        "status.replicas" | "status.successful" => Text::of("0"),
        _ => Text::default(),
    };
    selectable_fields(info).iter().map(|path| Field { path: Text::of(path), zero: zero(path) }).collect()
}

fn selectable_fields(info: &ResourceInfo) -> &'static [&'static str] {
    match (info.storage_group, info.plural) {
        ("", "pods") => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "metadata.name",
            "metadata.namespace",
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source.component",
            "type",
        ],
        ("", "nodes") => &["metadata.name", "metadata.namespace", "spec.unschedulable"],
        ("", "secrets") => &["metadata.name", "metadata.namespace", "type"],
        ("", "namespaces") => &["metadata.name", "metadata.namespace", "status.phase"],
        ("", "services") => &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => {
            &["metadata.name", "metadata.namespace", "status.replicas"]
        }
        ("batch", "jobs") => &["metadata.name", "metadata.namespace", "status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests") => {
            &["metadata.name", "metadata.namespace", "spec.signerName"]
        }
        _ => COMMON,
    }
}
