//! The default roles and bindings, unfolded from the compact form that `manifests/rbac.policy` explains.

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::roles::AUTOUPDATE;

const GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

/// All roles and all bindings of a policy.
pub(crate) fn unfold(policy: &str) -> Result<Vec<Value>, Error> {
    let mut roles: Vec<Role> = Vec::new();
    let mut bindings = Vec::new();
    for (index, line) in policy.lines().enumerate() {
        let damaged = || Error::Manifest { name: "rbac.policy".into(), what: format!("line {}: {line}", index + 1) };
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            let role = Role::of(&words).ok_or_else(damaged)?;
            bindings.extend(role.account().and_then(|account| role.bound(&role.name, account)));
            roles.push(role);
            continue;
        }
        let role = roles.last_mut().ok_or_else(damaged)?;
        match words.as_slice() {
            ["for", subjects @ ..] => bindings.push(role.bound(&role.name, subjects.join(" ")).ok_or_else(damaged)?),
            ["as", name, "for", subjects @ ..] => {
                bindings.push(role.bound(name, subjects.join(" ")).ok_or_else(damaged)?);
            }
            words => role.rules.push(rule(words).ok_or_else(damaged)?),
        }
    }
    Ok(roles.iter().map(Role::object).chain(bindings).collect())
}

/// A role of the policy.
struct Role {
    kind: &'static str,
    namespace: String,
    name: String,
    labels: Vec<String>,
    /// The labels of those that its rules come from.
    from: Vec<String>,
    rules: Vec<Value>,
}

impl Role {
    fn of(words: &[&str]) -> Option<Self> {
        let [kind, name, options @ ..] = words else { return None };
        let (kind, namespace, name) = match *kind {
            "ClusterRole" => ("ClusterRole", "", (*name).to_owned()),
            "Controller" => ("ClusterRole", "", format!("{CONTROLLER}{name}")),
            "Role" => name.split_once('/').map(|(namespace, name)| ("Role", namespace, name.to_owned()))?,
            _ => return None,
        };
        let mut role = Self {
            kind,
            namespace: namespace.to_owned(),
            name,
            labels: Vec::new(),
            from: Vec::new(),
            rules: Vec::new(),
        };
        for option in options {
            match option.split_once('=')? {
                ("label", label) => role.labels.push(label.to_owned()),
                ("from", label) => role.from.push(label.to_owned()),
                _ => return None,
            }
        }
        Some(role)
    }

    /// The account of a controller.
    fn account(&self) -> Option<String> {
        let controller = self.name.strip_prefix(CONTROLLER).filter(|_| self.kind == "ClusterRole")?;
        Some(format!("ServiceAccount kube-system/{controller}"))
    }

    fn object(&self) -> Value {
        let mut metadata = self.metadata(&self.name);
        for label in &self.labels {
            metadata["labels"][format!("{GROUP}/{label}")] = "true".into();
        }
        let mut role = json!({ "apiVersion": API_VERSION, "kind": self.kind, "metadata": metadata });
        if self.from.is_empty() {
            role["rules"] = self.rules.clone().into();
        } else {
            let selector = |label: &String| json!({ "matchLabels": { format!("{GROUP}/{label}"): "true" } });
            let selectors: Vec<Value> = self.from.iter().map(selector).collect();
            role["aggregationRule"] = json!({ "clusterRoleSelectors": selectors });
        }
        role
    }

    fn metadata(&self, name: &str) -> Value {
        let mut metadata = json!({
            "name": name,
            "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
            "annotations": { AUTOUPDATE: "true" },
        });
        if !self.namespace.is_empty() {
            metadata["namespace"] = self.namespace.clone().into();
        }
        metadata
    }

    fn bound(&self, name: &str, subjects: impl AsRef<str>) -> Option<Value> {
        let mut binding = json!({
            "apiVersion": API_VERSION,
            "kind": format!("{}Binding", self.kind),
            "metadata": self.metadata(name),
            "roleRef": { "apiGroup": GROUP, "kind": self.kind, "name": self.name },
        });
        if subjects.as_ref() != "nobody" {
            binding["subjects"] = subjects.as_ref().split(", ").map(subject).collect::<Option<Vec<_>>>()?.into();
        }
        Some(binding)
    }
}

const CONTROLLER: &str = "system:controller:";

fn subject(text: &str) -> Option<Value> {
    match text.split_once(' ')? {
        (kind @ ("User" | "Group"), name) => Some(json!({ "apiGroup": GROUP, "kind": kind, "name": name })),
        ("ServiceAccount", account) => {
            let (namespace, name) = account.split_once('/')?;
            Some(json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace }))
        }
        _ => None,
    }
}

fn rule(words: &[&str]) -> Option<Value> {
    let (verbs, groups, things, names) = match *words {
        [verbs, groups, things] => (verbs, groups, things, None),
        [verbs, groups, things, names] if groups != "url" => (verbs, groups, things, Some(names)),
        _ => return None,
    };
    let list = |text: &str| text.split(',').map(Value::from).collect::<Vec<_>>();
    let mut rule = Map::from_iter([("verbs".to_owned(), verbs_of(verbs).into())]);
    if groups == "url" {
        rule.insert("nonResourceURLs".into(), list(things).into());
    } else {
        let group = |name: &str| if name == "core" { "" } else { name }.to_owned();
        rule.insert("apiGroups".into(), groups.split(',').map(group).collect::<Vec<_>>().into());
        rule.insert("resources".into(), list(things).into());
    }
    rule.extend(names.map(|names| ("resourceNames".to_owned(), list(names).into())));
    Some(rule.into())
}

/// The verbs that are meant, in order.
fn verbs_of(text: &str) -> Vec<&str> {
    let expand = |word| match word {
        "read" => READ.to_vec(),
        "write" => WRITE.to_vec(),
        verb => vec![verb],
    };
    let mut verbs: Vec<&str> = text.split(',').flat_map(expand).collect();
    verbs.sort_unstable();
    verbs
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
