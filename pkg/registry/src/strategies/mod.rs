//! The kinds' own rules, one kind a file.

pub mod access_reviews;
mod admissionregistration;
mod allocators;
pub(crate) mod apiextensions;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
pub(crate) mod custom_resource;
mod discovery;
pub(crate) mod field_labels;
mod flowcontrol;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
pub(crate) mod rules;
mod scheduling;
mod storage;
mod storagemigration;
pub(crate) mod validation;
pub(crate) mod warnings;

pub use allocators::Finding;
pub(crate) use allocators::State;
pub(crate) use field_labels::fields;

use std::sync::Arc;

use crate::strategy::{Plain, Strategy};

/// The strategy of a resource.
pub(crate) fn strategy(group: &str, plural: &str) -> Arc<dyn Strategy> {
    match group {
        "" => core_strategy(plural),
        "apps" => apps_strategy(plural),
        "storage.k8s.io" => storage_strategy(plural),
        "networking.k8s.io" => networking_strategy(plural),
        _ => other_strategy(group, plural),
    }
}

fn core_strategy(plural: &str) -> Arc<dyn Strategy> {
    match plural {
        "configmaps" => Arc::new(core::config_map::ConfigMap),
        "endpoints" => Arc::new(core::endpoints::Endpoints),
        "events" => Arc::new(core::event::Event { named: false }),
        "limitranges" => Arc::new(core::limit_range::LimitRange),
        "namespaces" => Arc::new(core::namespace::Namespace),
        "nodes" => Arc::new(core::node::Node),
        "persistentvolumeclaims" => Arc::new(core::persistent_volume_claim::PersistentVolumeClaim),
        "persistentvolumes" => Arc::new(core::persistent_volume::PersistentVolume),
        "pods" => Arc::new(core::pod::Pod),
        "podtemplates" => Arc::new(core::pod_template::PodTemplate),
        "replicationcontrollers" => Arc::new(core::replication_controller::ReplicationController),
        "resourcequotas" => Arc::new(core::resource_quota::ResourceQuota),
        "secrets" => Arc::new(core::secret::Secret),
        "serviceaccounts" => Arc::new(core::service_account::ServiceAccount),
        "services" => Arc::new(core::service::Service),
        _ => Arc::new(Plain),
    }
}

fn apps_strategy(plural: &str) -> Arc<dyn Strategy> {
    match plural {
        "controllerrevisions" => Arc::new(apps::controller_revision::ControllerRevision),
        "daemonsets" => Arc::new(apps::daemon_set::DaemonSet),
        "deployments" => Arc::new(apps::deployment::Deployment),
        "replicasets" => Arc::new(apps::replica_set::ReplicaSet),
        "statefulsets" => Arc::new(apps::stateful_set::StatefulSet),
        _ => Arc::new(Plain),
    }
}

fn storage_strategy(plural: &str) -> Arc<dyn Strategy> {
    match plural {
        "csidrivers" => Arc::new(storage::csi_driver::CsiDriver),
        "csinodes" => Arc::new(storage::csi_node::CsiNode),
        "csistoragecapacities" => Arc::new(storage::csi_node::CsiStorageCapacity),
        "storageclasses" => Arc::new(storage::storage_class::StorageClass),
        "volumeattachments" => Arc::new(storage::volume_attachment::VolumeAttachment),
        "volumeattributesclasses" => Arc::new(storage::storage_class::VolumeAttributesClass),
        _ => Arc::new(Plain),
    }
}

fn networking_strategy(plural: &str) -> Arc<dyn Strategy> {
    match plural {
        "ingressclasses" => Arc::new(networking::ingress_class::IngressClass),
        "ingresses" => Arc::new(networking::ingress::Ingress),
        "ipaddresses" => Arc::new(networking::ip_address::IpAddress),
        "networkpolicies" => Arc::new(networking::network_policy::NetworkPolicy),
        "servicecidrs" => Arc::new(networking::service_cidr::ServiceCidr),
        _ => Arc::new(Plain),
    }
}

fn resource_strategy(plural: &str) -> Arc<dyn Strategy> {
    match plural {
        "deviceclasses" => Arc::new(resource::DeviceClass),
        "resourceclaims" => Arc::new(resource::ResourceClaim),
        "resourceclaimtemplates" => Arc::new(resource::ResourceClaimTemplate),
        "resourceslices" => Arc::new(resource::ResourceSlice),
        _ => Arc::new(Plain),
    }
}

fn other_strategy(group: &str, plural: &str) -> Arc<dyn Strategy> {
    match (group, plural) {
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            Arc::new(admissionregistration::webhook_configuration::WebhookConfiguration)
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => {
            Arc::new(admissionregistration::validating_policy::ValidatingPolicy)
        }
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => {
            Arc::new(admissionregistration::mutating_policy::MutatingPolicy)
        }
        ("admissionregistration.k8s.io", _) => Arc::new(admissionregistration::binding::PolicyBinding),
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            Arc::<apiextensions::custom_resource_definition::CustomResourceDefinition>::default()
        }
        ("apiregistration.k8s.io", "apiservices") => Arc::new(apiextensions::api_service::ApiService),
        ("autoscaling", "horizontalpodautoscalers") => {
            Arc::new(autoscaling::horizontal_pod_autoscaler::HorizontalPodAutoscaler)
        }
        ("batch", "cronjobs") => Arc::new(batch::cron_job::CronJob),
        ("batch", "jobs") => Arc::new(batch::job::Job),
        ("certificates.k8s.io", "certificatesigningrequests") => {
            Arc::new(certificates::signing_request::SigningRequest)
        }
        ("coordination.k8s.io", "leases") => Arc::new(coordination::lease::Lease),
        ("discovery.k8s.io", "endpointslices") => Arc::new(discovery::endpoint_slice::EndpointSlice),
        ("events.k8s.io", "events") => Arc::new(core::event::Event { named: true }),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => Arc::new(flowcontrol::flow_schema::FlowSchema),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            Arc::new(flowcontrol::priority_level::PriorityLevel)
        }
        ("node.k8s.io", "runtimeclasses") => Arc::new(node::runtime_class::RuntimeClass),
        ("policy", "poddisruptionbudgets") => Arc::new(policy::pod_disruption_budget::PodDisruptionBudget),
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => Arc::new(rbac::binding::Binding),
        ("rbac.authorization.k8s.io", _) => Arc::new(rbac::role::Role),
        ("resource.k8s.io", plural) => resource_strategy(plural),
        ("storagemigration.k8s.io", "storageversionmigrations") => {
            Arc::new(storagemigration::storage_version_migration::StorageVersionMigration)
        }
        ("scheduling.k8s.io", "priorityclasses") => Arc::new(scheduling::priority_class::PriorityClass),
        _ => Arc::new(Plain),
    }
}
