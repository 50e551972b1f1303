//! `apiserver.config.k8s.io.AuthorizationConfiguration`: who decides what users may do, in which order.

use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use kedge_base::time::{go_duration_nanos, go_duration_text};
use kedge_meta::field::{Error, ErrorList, GoText, Path};
use kedge_meta::names;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::together;
use crate::webhook::{Condition, Version};

const GROUP: &str = "apiserver.config.k8s.io/";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const KIND: &str = "AuthorizationConfiguration";
/// The types there are. Of upstream's `ABAC` is not one of ours.
pub(crate) const TYPES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", WEBHOOK];
pub(crate) const WEBHOOK: &str = "Webhook";
pub(crate) const KUBECONFIG: &str = "KubeConfigFile";
const IN_CLUSTER: &str = "InClusterConfig";
/// As upstream.
const CONDITIONS: usize = 64;
const SECOND: i64 = 1_000_000_000;
const LONGEST_TIMEOUT: i64 = 30 * SECOND;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationConfiguration {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default, deserialize_with = "or_nothing")]
    pub authorizers: Vec<AuthorizerConfiguration>,
}

/// One who decides.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizerConfiguration {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub webhook: Option<WebhookConfiguration>,
}

/// How a webhook is asked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookConfiguration {
    #[serde(rename = "authorizedTTL")]
    pub authorized_ttl: Nanos,
    pub cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    pub unauthorized_ttl: Nanos,
    pub cache_unauthorized_requests: Option<bool>,
    pub timeout: Nanos,
    pub subject_access_review_version: String,
    pub match_condition_subject_access_review_version: String,
    pub failure_policy: String,
    pub connection_info: ConnectionInfo,
    #[serde(deserialize_with = "or_nothing")]
    pub match_conditions: Vec<MatchCondition>,
}

/// Where a webhook is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConnectionInfo {
    #[serde(rename = "type")]
    pub kind: String,
    pub kube_config_file: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MatchCondition {
    pub expression: String,
}

/// A time as Go writes it, in nanoseconds; it may be negative, which nowhere makes sense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nanos(pub i64);

impl Nanos {
    /// Of a time that is not negative.
    pub fn of(time: Duration) -> Self {
        Self(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let nanos = go_duration_nanos(&text);
        nanos.map(Self).ok_or_else(|| serde::de::Error::custom(format!("time: invalid duration {text:?}")))
    }
}

/// A list, which may be null.
fn or_nothing<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl AuthorizationConfiguration {
    /// From the tree of a file, in which those of `required` must be.
    ///
    /// # Errors
    /// All that is wrong with it, by path.
    pub fn read(value: Value, required: &BTreeSet<String>) -> Result<Self, String> {
        let loading = |why: &dyn std::fmt::Display| format!("failed to load {KIND} from file: {why}");
        let mut read: Self = serde_json::from_value(value).map_err(|why| loading(&why))?;
        let version = read.api_version.strip_prefix(GROUP).unwrap_or_default();
        if read.kind != KIND || !VERSIONS.contains(&version) {
            let (version, kind) = (&read.api_version, &read.kind);
            return Err(loading(&format!("no kind {kind:?} is registered for version {version:?}")));
        }
        read.set_defaults();
        let wrong: Vec<String> = read.wrong().iter().map(ToString::to_string).collect();
        if let Some(wrong) = together(&wrong) {
            return Err(wrong);
        }
        match together(&read.misnamed(required)) {
            Some(wrong) => Err(wrong),
            None => Ok(read),
        }
    }

    /// As flags name them: modes, and how a webhook is asked if it is one of them.
    pub fn of_modes(modes: &[String], webhook: &WebhookConfiguration) -> Self {
        let one = |mode: &String| {
            let is_webhook = mode == WEBHOOK;
            AuthorizerConfiguration {
                kind: mode.clone(),
                name: if is_webhook { "default".to_owned() } else { mode.to_lowercase() },
                webhook: is_webhook.then(|| webhook.clone()),
            }
        };
        Self { authorizers: modes.iter().map(one).collect(), ..Self::default() }
    }

    /// The types that are in it, but for webhooks: as long as the server runs they stay.
    pub fn own_types(&self) -> BTreeSet<String> {
        self.authorizers.iter().map(|one| one.kind.clone()).filter(|kind| kind != WEBHOOK).collect()
    }

    fn set_defaults(&mut self) {
        for webhook in self.authorizers.iter_mut().filter_map(|one| one.webhook.as_mut()) {
            if webhook.authorized_ttl.0 == 0 {
                webhook.authorized_ttl = Nanos(300 * SECOND);
            }
            if webhook.unauthorized_ttl.0 == 0 {
                webhook.unauthorized_ttl = Nanos(30 * SECOND);
            }
        }
    }

    fn wrong(&self) -> ErrorList {
        let (root, mut errors) = (Path::default().child("authorizers"), ErrorList::new());
        if self.authorizers.is_empty() {
            errors.push(Error::required(&root, "at least one authorization mode must be defined"));
        }
        let (mut types, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for (at, one) in self.authorizers.iter().enumerate() {
            let path = root.index(at);
            let kind = path.child("type");
            if one.kind.is_empty() {
                errors.push(Error::required(&kind, ""));
            } else if !TYPES.contains(&one.kind.as_str()) {
                errors.push(Error::not_supported_of(&kind, &one.kind, &TYPES));
            } else if !types.insert(&one.kind) && one.kind != WEBHOOK {
                errors.push(Error::duplicate(&kind, &one.kind));
            } else {
                let name = path.child("name");
                let unfit = names::is_dns1123_subdomain(&one.name);
                if one.name.is_empty() {
                    errors.push(Error::required(&name, ""));
                } else if seen.contains(&one.name) {
                    errors.push(Error::duplicate(&name, &one.name));
                } else if !unfit.is_empty() {
                    let why = format!("authorizer name is invalid: {}", unfit.join(", "));
                    errors.push(Error::invalid(&name, &one.name, why));
                }
                seen.insert(&one.name);
                one.check(&path, &mut errors);
            }
        }
        errors
    }

    /// Those that are no webhooks have their names of old.
    fn misnamed(&self, required: &BTreeSet<String>) -> Vec<String> {
        let own = self.authorizers.iter().filter(|one| one.kind != WEBHOOK);
        let other = own.filter(|one| one.kind.to_lowercase() != one.name);
        let wrong = other.map(|one| {
            format!("expected name {} for authorizer {} instead of {}", one.kind.to_lowercase(), one.kind, one.name)
        });
        let here = self.own_types();
        let missing: Vec<&str> = required.difference(&here).map(String::as_str).collect();
        let missing = (!missing.is_empty()).then(|| format!("missing required types: [{}]", missing.join(" ")));
        wrong.chain(missing).collect()
    }
}

impl AuthorizerConfiguration {
    fn check(&self, path: &Path, errors: &mut ErrorList) {
        let at = path.child("webhook");
        match (&self.webhook, self.kind == WEBHOOK) {
            (None, true) => errors.push(Error::required(&at, "required when type=Webhook")),
            // As upstream, which leaves the name of the field out.
            (Some(webhook), true) => webhook.check(path, errors),
            (Some(_), false) => {
                errors.push(Error::invalid(&at, "non-null", "may only be specified when type=Webhook"));
            }
            (None, false) => {}
        }
    }
}

impl WebhookConfiguration {
    fn check(&self, path: &Path, errors: &mut ErrorList) {
        let at = path.child("timeout");
        match self.timeout.0 {
            0 => errors.push(Error::required(&at, "")),
            1..=LONGEST_TIMEOUT => {}
            other => errors.push(Error::invalid(&at, go_duration_text(other), "must be > 0s and <= 30s")),
        }
        for (field, ttl) in [("authorizedTTL", self.authorized_ttl), ("unauthorizedTTL", self.unauthorized_ttl)] {
            if ttl.0 < 0 {
                errors.push(Error::invalid(&path.child(field), go_duration_text(ttl.0), "must be > 0s"));
            }
        }
        let (at, version) = (path.child("subjectAccessReviewVersion"), &self.subject_access_review_version);
        if version.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if Version::named(version).is_none() {
            errors.push(Error::not_supported_of(&at, version, &["v1", "v1beta1"]));
        }
        let at = path.child("matchConditionSubjectAccessReviewVersion");
        match self.match_condition_subject_access_review_version.as_str() {
            "" if self.match_conditions.is_empty() => {}
            "" => errors.push(Error::required(&at, "required if match conditions are specified")),
            "v1" => {}
            other => errors.push(Error::not_supported_of(&at, other, &["v1"])),
        }
        let at = path.child("failurePolicy");
        match self.failure_policy.as_str() {
            "" => errors.push(Error::required(&at, "")),
            "NoOpinion" | "Deny" => {}
            other => errors.push(Error::not_supported_of(&at, other, &["NoOpinion", "Deny"])),
        }
        self.connection_info.check(&path.child("connectionInfo"), errors);
        errors.extend(self.conditions(path).err().unwrap_or_default());
    }

    /// The conditions, compiled.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn conditions(&self, path: &Path) -> Result<Vec<Condition>, ErrorList> {
        let (at, all) = (path.child("matchConditions"), &self.match_conditions);
        if all.len() > CONDITIONS {
            return Err(vec![Error::too_many(&at, all.len(), CONDITIONS)]);
        }
        let (mut compiled, mut errors) = (Vec::new(), ErrorList::new());
        for (index, MatchCondition { expression }) in all.iter().enumerate() {
            let at = at.index(index).child("expression");
            if expression.trim().is_empty() {
                errors.push(Error::required(&at, ""));
            } else if all[..index].iter().any(|before| before.expression == *expression) {
                errors.push(Error::duplicate(&at, expression));
            } else {
                match Condition::compile(expression) {
                    Ok(condition) => compiled.push(condition),
                    Err(why) => errors.push(Error::invalid(&at, expression, why)),
                }
            }
        }
        if errors.is_empty() { Ok(compiled) } else { Err(errors) }
    }
}

impl ConnectionInfo {
    /// Where a kubeconfig is.
    pub fn kubeconfig(path: &FilePath) -> Self {
        Self { kind: KUBECONFIG.to_owned(), kube_config_file: Some(path.display().to_string()) }
    }

    /// The kubeconfig; none where that is not how the webhook is reached.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.kube_config_file.as_ref().filter(|_| self.kind == KUBECONFIG).map(PathBuf::from)
    }

    fn check(&self, path: &Path, errors: &mut ErrorList) {
        let (kind, file) = (path.child("type"), path.child("kubeConfigFile"));
        let named = self.kube_config_file.as_deref();
        match self.kind.as_str() {
            "" => errors.push(Error::required(&kind, "")),
            IN_CLUSTER => {
                if let Some(named) = named {
                    errors.push(Error::invalid(&file, named, "can only be set when type=KubeConfigFile"));
                }
            }
            KUBECONFIG => {
                let named = named.unwrap_or_default();
                let why = match std::fs::metadata(named) {
                    _ if named.is_empty() => return errors.push(Error::required(&file, "")),
                    _ if !FilePath::new(named).is_absolute() => "must be an absolute path".to_owned(),
                    Err(why) => format!("error loading file: stat {named}: {}", stat_text(&why)),
                    Ok(found) if !found.is_file() => "must be a regular file".to_owned(),
                    Ok(_) => return,
                };
                errors.push(Error::invalid(&file, named, why));
            }
            other => {
                let shown = GoText(json!({"Type": other, "KubeConfigFile": named}).to_string());
                errors.push(Error::not_supported_of(&kind, shown, &[IN_CLUSTER, KUBECONFIG]));
            }
        }
    }
}

/// What Go says of a file that cannot be looked at.
fn stat_text(why: &std::io::Error) -> String {
    match why.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => why.to_string(),
    }
}

#[cfg(test)]
#[path = "authorization_tests.rs"]
mod tests;
