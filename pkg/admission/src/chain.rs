//! All plugins, one after the other.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use kedge_auth::{Authorizer, RbacAuthorizer};
use kedge_base::exposition::Exposition;
use kedge_meta::Status;
use kedge_registry::{Admission, Attributes, Registry};
use kedge_webhook::Caller;
use serde_json::Value;

use crate::Plugin;
use crate::always::{AlwaysAdmit, AlwaysDeny};
use crate::always_pull_images::AlwaysPullImages;
use crate::certificate_approval::CertificateApproval;
use crate::certificate_signing::CertificateSigning;
use crate::certificate_subject_restriction::CertificateSubjectRestriction;
use crate::claim_resize::PersistentVolumeClaimResize;
use crate::configuration::AdmissionConfiguration;
use crate::default_ingress_class::DefaultIngressClass;
use crate::default_storage_class::DefaultStorageClass;
use crate::default_toleration_seconds::DefaultTolerationSeconds;
use crate::deny_service_external_ips::DenyServiceExternalIps;
use crate::event_rate_limit::EventRateLimit;
use crate::extended_resource_toleration::ExtendedResourceToleration;
use crate::hard_anti_affinity::LimitPodHardAntiAffinityTopology;
use crate::image_policy::{ImagePolicySettings, ImagePolicyWebhook, ImageReviewer};
use crate::limit_ranger::LimitRanger;
use crate::names::{ELSEWHERE, OFF};
use crate::namespace_auto_provision::{NamespaceAutoProvision, Own};
use crate::namespace_exists::NamespaceExists;
use crate::namespace_lifecycle::NamespaceLifecycle;
use crate::node_declared_features::NodeDeclaredFeatureValidator;
use crate::node_restriction::NodeRestriction;
use crate::owner_references::OwnerReferencesPermissionEnforcement;
use crate::pod_node_selector::PodNodeSelector;
use crate::pod_resize::PodResizeValidator;
use crate::pod_security::PodSecurity;
use crate::pod_toleration_restriction::PodTolerationRestriction;
use crate::pod_topology_labels::PodTopologyLabels;
use crate::policy;
use crate::priority::Priority;
use crate::rbac_escalation::RbacEscalation;
use crate::resource_quota::ResourceQuota;
use crate::runtime_class::RuntimeClass;
use crate::service_account::ServiceAccount;
use crate::storage_protection::StorageObjectInUseProtection;
use crate::taint_nodes_by_condition::TaintNodesByCondition;
use crate::webhook;

/// The admission chain.
pub struct Chain(Arc<Plugins>);

/// What it is made of. What plugins write themselves passes it as well.
struct Plugins {
    registry: Arc<Registry>,
    plugins: Vec<Box<dyn Plugin>>,
    meters: Meters,
}

/// What plugins count.
#[derive(Default)]
struct Meters {
    webhooks: Arc<webhook::Meters>,
    policies: Arc<policy::Meters>,
}

/// Which plugins are on beside those that are by default, which are off, and what is said to them.
#[derive(Clone, Default)]
pub struct Selection {
    pub enable: Vec<String>,
    pub disable: Vec<String>,
    pub configuration: AdmissionConfiguration,
    /// Who is asked about images, where ImagePolicyWebhook is on.
    pub reviewer: Option<Arc<dyn ImageReviewer>>,
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { enable, disable, configuration, reviewer: _ } = self;
        let mut shown = f.debug_struct("Selection");
        shown.field("enable", enable).field("disable", disable).field("configuration", configuration);
        shown.finish_non_exhaustive()
    }
}

/// What a selection of plugins may not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownPlugin {
    #[error("{option}-admission-plugins plugin {name:?} is unknown")]
    Unknown { option: &'static str, name: String },
    #[error("enable-admission-plugins plugin {0:?} is not part of Kedge")]
    Missing(String),
    #[error("admission plugin {0:?}: {1}")]
    Configuration(&'static str, String),
    #[error(
        "{0} is in enable-admission-plugins and needs a configuration; name a file of it with admission-control-config-file"
    )]
    Unconfigured(&'static str),
    #[error("{0:?} in enable-admission-plugins and disable-admission-plugins overlapped")]
    Both(String),
}

/// All plugins, in the order in which they are asked. What is charged to a quota has passed everything else.
fn all(
    registry: &Registry,
    rbac: &Arc<RbacAuthorizer>,
    outside: (&Arc<Caller>, &Arc<dyn Authorizer>),
    (meters, own): (&Meters, &Own),
    selection: &Selection,
) -> Result<Vec<Box<dyn Plugin>>, UnknownPlugin> {
    let told = Told(selection);
    let (mutating, validating) = webhook::plugins(registry, outside, &meters.webhooks);
    let (mutating_policies, validating_policies) = policy::plugins(registry, outside.1, &meters.policies);
    let all: Vec<Box<dyn Plugin>> = vec![
        Box::new(AlwaysAdmit),
        Box::new(NamespaceAutoProvision::new(own)),
        Box::new(NamespaceLifecycle),
        Box::new(NamespaceExists),
        Box::new(LimitPodHardAntiAffinityTopology),
        Box::new(LimitRanger),
        Box::new(ServiceAccount),
        Box::new(NodeRestriction::new(outside.1.clone())),
        Box::new(TaintNodesByCondition),
        Box::new(AlwaysPullImages),
        Box::new(told.images(registry)?),
        Box::new(told.read("PodSecurity", PodSecurity::configured)?),
        Box::new(told.read("PodNodeSelector", PodNodeSelector::configured)?),
        Box::new(Priority),
        Box::new(DefaultTolerationSeconds),
        Box::new(told.read("PodTolerationRestriction", PodTolerationRestriction::configured)?),
        Box::new(told.read("EventRateLimit", EventRateLimit::configured)?),
        Box::new(ExtendedResourceToleration),
        Box::new(DefaultStorageClass),
        Box::new(StorageObjectInUseProtection),
        Box::new(OwnerReferencesPermissionEnforcement(outside.1.clone())),
        Box::new(PersistentVolumeClaimResize),
        Box::new(RuntimeClass),
        Box::new(CertificateApproval(outside.1.clone())),
        Box::new(CertificateSigning(outside.1.clone())),
        Box::new(CertificateSubjectRestriction),
        Box::new(DefaultIngressClass),
        Box::new(DenyServiceExternalIps),
        Box::new(PodTopologyLabels),
        Box::new(NodeDeclaredFeatureValidator),
        Box::new(PodResizeValidator),
        Box::new(RbacEscalation::new(rbac.clone(), outside.1.clone())),
        Box::new(policy::ParameterRights::new(outside.1)),
        Box::new(mutating_policies),
        Box::new(mutating),
        Box::new(validating_policies),
        Box::new(validating),
        Box::new(ResourceQuota::default()),
        Box::new(AlwaysDeny),
    ];
    selection.check(&all)?;
    for name in ["EventRateLimit", ImagePolicyWebhook::NAME] {
        if selection.enables(name) && selection.configuration.of(name).is_none() {
            return Err(UnknownPlugin::Unconfigured(name));
        }
    }
    Ok(all.into_iter().filter(|plugin| selection.has(plugin.name())).collect())
}

/// What plugins are told.
struct Told<'a>(&'a Selection);

impl Told<'_> {
    /// A plugin as it is configured, or as it is when nothing is said.
    fn read<P: Default>(
        &self,
        name: &'static str,
        configured: impl Fn(&Value) -> Result<P, String>,
    ) -> Result<P, UnknownPlugin> {
        let config = self.0.configuration.of(name);
        let read = config.map_or(Ok(P::default()), configured);
        read.map_err(|why| UnknownPlugin::Configuration(name, why))
    }

    /// The one that asks somebody else.
    fn images(&self, registry: &Registry) -> Result<ImagePolicyWebhook, UnknownPlugin> {
        let settings = ImagePolicySettings::of(&self.0.configuration);
        let settings = settings.map_err(|why| UnknownPlugin::Configuration(ImagePolicyWebhook::NAME, why))?;
        let asked = settings.zip(self.0.reviewer.clone());
        Ok(asked.map_or_else(ImagePolicyWebhook::default, |(settings, reviewer)| {
            ImagePolicyWebhook::new(settings, reviewer, registry.clock.clone())
        }))
    }
}

impl Selection {
    /// Whether a plugin is turned on that is off by default.
    pub fn enables(&self, name: &str) -> bool {
        self.enable.iter().any(|one| one == name)
    }

    /// Whether a plugin is on; what is no plugin of upstream's cannot be turned off.
    fn has(&self, name: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|one| one == name);
        if OFF.contains(&name) { named(&self.enable) } else { !named(&self.disable) }
    }

    fn check(&self, plugins: &[Box<dyn Plugin>]) -> Result<(), UnknownPlugin> {
        let own = [RbacEscalation::NAME, policy::ParameterRights::NAME];
        let here = |name: &str| plugins.iter().any(|plugin| plugin.name() == name) && !own.contains(&name);
        for (option, names) in [("enable", &self.enable), ("disable", &self.disable)] {
            let unknown = names.iter().find(|name| !here(name) && !ELSEWHERE.contains(&name.as_str()));
            if let Some(name) = unknown {
                return Err(UnknownPlugin::Unknown { option, name: name.clone() });
            }
        }
        if let Some(name) = self.enable.iter().find(|name| !here(name)) {
            return Err(UnknownPlugin::Missing(name.clone()));
        }
        match self.enable.iter().find(|name| self.disable.contains(name)) {
            Some(name) => Err(UnknownPlugin::Both(name.clone())),
            None => Ok(()),
        }
    }
}

impl Chain {
    /// The plugins that are on by default. Webhooks are called by `caller`; what conditions ask of rights, `authorizer` answers.
    pub fn new(
        registry: Arc<Registry>,
        rbac: Arc<RbacAuthorizer>,
        authorizer: &Arc<dyn Authorizer>,
        caller: &Arc<Caller>,
    ) -> Result<Self, UnknownPlugin> {
        Self::with(registry, rbac, authorizer, caller, &Selection::default())
    }

    /// The plugins that are selected.
    ///
    /// # Errors
    /// When the selection names what is none.
    pub fn with(
        registry: Arc<Registry>,
        rbac: Arc<RbacAuthorizer>,
        authorizer: &Arc<dyn Authorizer>,
        caller: &Arc<Caller>,
        selection: &Selection,
    ) -> Result<Self, UnknownPlugin> {
        let (meters, own) = (Meters::default(), Own::default());
        let plugins = all(&registry, &rbac, (caller, authorizer), (&meters, &own), selection)?;
        let plugins = Arc::new(Plugins { plugins, registry, meters });
        own.get_or_init(|| {
            let chain: Weak<Plugins> = Arc::downgrade(&plugins);
            chain
        });
        Ok(Self(plugins))
    }
}

impl Plugins {
    async fn pass(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            if plugin.mutates(attributes) {
                plugin.admit(&self.registry, attributes).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Admission for Chain {
    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        self.0.admit(attributes).await
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        self.0.validate(attributes).await
    }

    fn show(&self, metrics: &mut Exposition) {
        self.0.show(metrics);
    }
}

#[async_trait]
impl Admission for Plugins {
    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        self.pass(attributes).await?;
        if attributes.reinvocation.begin() {
            self.pass(attributes).await?;
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        for plugin in &self.plugins {
            if plugin.validates(attributes) {
                plugin.validate(&self.registry, attributes).await?;
            }
        }
        Ok(())
    }

    fn show(&self, metrics: &mut Exposition) {
        self.meters.webhooks.show(metrics);
        self.meters.policies.show(metrics);
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
