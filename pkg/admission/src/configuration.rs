//! `AdmissionConfiguration`: what is said to plugins that can be told something.

use std::collections::BTreeMap;
use std::path::Path;

use kedge_registry::value::ValueExt as _;
use serde_json::Value;

const VERSIONS: [&str; 2] = ["apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"];
/// Plugins that take a configuration here.
const TAKE: [&str; 5] =
    ["EventRateLimit", "ImagePolicyWebhook", "PodNodeSelector", "PodSecurity", "PodTolerationRestriction"];

/// By the names of the plugins.
#[derive(Debug, Clone, Default)]
pub struct AdmissionConfiguration(BTreeMap<String, Value>);

impl AdmissionConfiguration {
    /// From the tree of a file that stands, or would stand, at `path`. What stands in files of its own is read by `read`, beside it.
    ///
    /// # Errors
    /// What is wrong with it, or names a plugin that takes none here.
    pub fn new(file: &Value, path: &Path, read: impl Fn(&Path) -> Result<Value, String>) -> Result<Self, String> {
        let (version, kind) = (file.text(&["apiVersion"]), file.text(&["kind"]));
        if kind != "AdmissionConfiguration" || !VERSIONS.contains(&version) {
            return Err(format!("no kind {kind:?} is registered for version {version:?}"));
        }
        let fields = |value: &Value, known: &[&str]| {
            let unknown = value.as_object().into_iter().flatten().map(|(field, _)| field);
            unknown.into_iter().find(|field| !known.contains(&field.as_str())).cloned()
        };
        if let Some(field) = fields(file, &["apiVersion", "kind", "plugins"]) {
            return Err(format!("unknown field {field:?}"));
        }
        let mut all = BTreeMap::new();
        for (at, plugin) in file.list(&["plugins"]).iter().enumerate() {
            let name = plugin.text(&["name"]);
            if let Some(field) = fields(plugin, &["name", "path", "configuration"]) {
                return Err(format!("plugins[{at}]: unknown field {field:?}"));
            }
            if !TAKE.contains(&name) {
                return Err(format!(
                    "plugins[{at}]: {name:?} takes no configuration here; these do: {}",
                    TAKE.join(", ")
                ));
            }
            let own = plugin.text(&["path"]);
            let config = match plugin.at(&["configuration"]).filter(|config| !config.is_null()) {
                Some(config) => config.clone(),
                None if own.is_empty() => Value::Null,
                None => read(&path.parent().unwrap_or(Path::new(".")).join(own))?,
            };
            all.insert(name.to_owned(), config);
        }
        Ok(Self(all))
    }

    /// What is said to a plugin.
    pub(crate) fn of(&self, plugin: &str) -> Option<&Value> {
        self.0.get(plugin).filter(|config| !config.is_null())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn plugins_are_told_in_place_or_in_files_of_their_own() {
        let plugins = json!([
            {"name": "PodSecurity", "configuration": {"defaults": {"enforce": "baseline"}}}, {"name": "EventRateLimit", "path": "events.yaml"},
        ]);
        let file =
            json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins});
        let read = |path: &Path| Ok(json!({"at": path.to_str()}));
        let config = AdmissionConfiguration::new(&file, Path::new("/etc/a.yaml"), read).unwrap();
        assert_eq!(config.of("PodSecurity").unwrap()["defaults"]["enforce"], "baseline");
        assert_eq!(config.of("EventRateLimit").unwrap()["at"], "/etc/events.yaml");
        assert_eq!(config.of("PodNodeSelector"), None);
        let other = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": [{"name": "ServiceAccount"}]});
        assert!(
            AdmissionConfiguration::new(&other, Path::new("/a"), read)
                .unwrap_err()
                .contains("takes no configuration here")
        );
        assert!(AdmissionConfiguration::new(&json!({"kind": "Pod"}), Path::new("/a"), read).is_err());
    }
}
