//! Custom resource definitions, and services behind API services.

use super::Hook::{self, Before};
use super::object::{Object, children, flag, if_absent, if_empty, is_empty, make, text};
use serde_json::{Value, json};

pub(super) const HOOKS: &[Hook] = &[
    Before("apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition", definition),
    Before("apiextensions-apiserver.pkg.apis.apiextensions.v1.ServiceReference", port),
    Before("kube-aggregator.pkg.apis.apiregistration.v1.ServiceReference", port),
];

fn port(service: &mut Object) {
    if_absent(service, "port", 443);
}

fn definition(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    if let Some(names) = make(spec, "names") {
        let kind = text(names, "kind").to_string();
        if !kind.is_empty() {
            if_empty(names, "singular", kind.to_lowercase());
            if_empty(names, "listKind", crate::list_kind(&kind));
        }
    }
    if_absent(spec, "conversion", json!({"strategy": "None"}));
    let stored = children(spec, "versions").find(|version| flag(version, "storage"));
    let stored = stored.and_then(|version| version.get("name")).cloned();
    if let (Some(name), Some(status)) = (stored, make(object, "status"))
        && is_empty(status, "storedVersions")
    {
        status.insert("storedVersions".into(), Value::Array(vec![name]));
    }
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::json;

    #[test]
    fn names_follow_from_the_kind() {
        let mut object = json!({"spec": {"names": {"kind": "CronTab"}, "versions": [
            {"name": "v1beta1"}, {"name": "v1", "storage": true}]}});
        apply("apiextensions.k8s.io", "v1", "CustomResourceDefinition", &mut object);
        assert_eq!(
            object["spec"]["names"],
            json!({"kind": "CronTab", "singular": "crontab", "listKind": "CronTabList"})
        );
        assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
        assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
    }
}
