//! What a stored API service says.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_meta::Text;
use kedge_registry::ServiceReference;
use kedge_registry::priorities::Priority;
use kedge_storage::Object;
use kedge_webhook::{ClientConfig, Target};
use serde::Deserialize;

use crate::definition::Condition;

/// The label of those that this server makes.
pub(super) const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// An API service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct ApiService {
    pub metadata: Metadata,
    pub spec: Spec,
    #[serde(default)]
    pub status: Status,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Metadata {
    pub name: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub labels: Option<Labels>,
}

/// The one that is read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Labels {
    #[serde(rename = "kube-aggregator.kubernetes.io/automanaged", default)]
    pub managed: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    pub group: Text,
    #[serde(default)]
    pub version: Text,
    #[serde(default)]
    pub group_priority_minimum: i32,
    #[serde(default)]
    pub version_priority: i32,
    #[serde(default)]
    pub service: Option<Service>,
    #[serde(default)]
    pub ca_bundle: Option<String>,
    #[serde(default, rename = "insecureSkipTLSVerify")]
    pub insecure: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Service {
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub conditions: Option<Vec<Condition>>,
}

impl ApiService {
    /// Reads one; none of what makes no sense, which is logged.
    pub(super) fn read(object: &Object) -> Option<Self> {
        match serde_json::from_slice(&object.stored()) {
            Ok(service) => Some(service),
            Err(err) => {
                tracing::warn!(revision = object.revision, error = %err, "an API service cannot be read");
                None
            }
        }
    }

    /// Where the server is, if that is not this one. Nobody else serves the core, nor the API services themselves.
    pub(super) fn service(&self) -> Option<ServiceReference> {
        if matches!(&*self.spec.group, "" | "apiregistration.k8s.io") {
            return None;
        }
        let service = self.spec.service.as_ref()?;
        let port = service.port.unwrap_or(443);
        Some(ServiceReference { namespace: service.namespace.clone(), name: service.name.clone(), port })
    }

    /// Whom to trust there.
    pub(super) fn trust(&self) -> Arc<ClientConfig> {
        let service = self.spec.service.as_ref();
        let server_name = service.map(|service| format!("{}.{}.svc", service.name, service.namespace));
        let bundle = self.spec.ca_bundle.as_deref().unwrap_or_default();
        Arc::new(ClientConfig {
            target: Target::Addressed { server_name: server_name.unwrap_or_default() },
            // What is no base64 is no certificate either, and refused as that.
            ca_bundle: STANDARD.decode(bundle).unwrap_or_else(|_| bundle.as_bytes().to_vec()),
            insecure: self.spec.insecure,
        })
    }

    pub(super) fn priority(&self) -> Priority {
        Priority { group: self.spec.group_priority_minimum, version: self.spec.version_priority }
    }

    pub(super) fn managed(&self) -> &str {
        self.metadata.labels.as_ref().map_or("", |labels| &labels.managed)
    }

    pub(super) fn available(&self) -> Option<&Condition> {
        self.status.conditions.iter().flatten().find(|condition| condition.kind == "Available")
    }

    pub(super) fn is_available(&self) -> bool {
        self.available().is_some_and(|condition| condition.status == "True")
    }
}
