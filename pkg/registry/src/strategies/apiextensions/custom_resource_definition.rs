//! Custom resource definitions.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

pub(crate) struct CustomResourceDefinition;

impl Strategy for CustomResourceDefinition {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    /// The version that objects are stored in is remembered from the start.
    fn prepare_for_create(&self, _ctx: &Context<'_>, definition: &mut Value) {
        remember_storage_version(definition);
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, _old: &Value) {
        if ctx.subresource != "status" {
            remember_storage_version(new);
        }
    }

    fn validate(&self, _ctx: &Context<'_>, definition: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(definition, "spec");
        let (group, plural) = (spec.child("group"), spec.child("names").child("plural"));
        let wanted = format!("{}.{}", plural.text(), group.text());
        if definition.name() != wanted {
            let path = Path::new("metadata").child("name");
            errors.push(Error::invalid(&path, definition.name(), "must be spec.names.plural+\".\"+spec.group"));
        }
        if errors.need_text(&group) {
            errors.complaints(&group, names::is_dns1123_subdomain(group.text()));
            if !group.text().contains('.') {
                errors.push(group.invalid("should be a domain with at least one dot"));
            }
        }
        errors.need_one_of(&spec.child("scope"), &["Cluster", "Namespaced"]);
        versions(&spec.child("versions"), &mut errors);
        resource_names(&spec.child("names"), &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
        for path in [["group", ""], ["names", "plural"], ["names", "kind"], ["scope", ""]] {
            let field = |at: &At<'_>| match path {
                [one, ""] => at.child(one).value.clone(),
                [one, two] => at.child(one).child(two).value.clone(),
            };
            let established = old
                .list(&["status", "conditions"])
                .iter()
                .any(|condition| condition.text(&["type"]) == "Established" && condition.text(&["status"]) == "True");
            let fixed = established || path[0] == "group" || path[1] == "plural";
            if fixed && field(&spec) != field(&was) {
                let at = if path[1].is_empty() { spec.child(path[0]) } else { spec.child(path[0]).child(path[1]) };
                errors.push(at.invalid("field is immutable"));
            }
        }
        errors
    }
}

fn remember_storage_version(definition: &mut Value) {
    let versions = definition.list(&["spec", "versions"]);
    let stored = versions.iter().find(|version| version.flag(&["storage"]) == Some(true));
    let Some(name) = stored.map(|version| version.text(&["name"]).to_owned()) else { return };
    let known = definition.entry("status").entry("storedVersions").or_insert_with(|| Value::Array(Vec::new()));
    if known.is_null() {
        *known = Value::Array(Vec::new());
    }
    if let Value::Array(list) = known
        && !list.iter().any(|version| *version == *name)
    {
        list.push(name.into());
    }
}

fn versions(at: &At<'_>, errors: &mut ErrorList) {
    if at.len() == 0 {
        errors.push(at.required("must have at least one version"));
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut stored = 0;
    for version in at.items() {
        let name = version.child("name");
        errors.complaints(&name, names::is_dns1035_label(name.text()));
        if seen.contains(&name.text()) {
            errors.push(at.invalid("must contain unique version names"));
        }
        seen.push(name.text());
        stored += usize::from(version.child("storage").is_true());
        let schema = version.child("schema").child("openAPIV3Schema");
        if !schema.is_set() {
            errors.push(schema.required("schemas are required"));
        } else if schema.child("type").text() != "object" {
            let kind = schema.child("type");
            match kind.text() {
                "" => errors.push(kind.required("must not be empty at the root")),
                _ => errors.push(kind.invalid("must be object at the root")),
            }
        }
    }
    if stored != 1 {
        errors.push(at.invalid("must have exactly one version marked as storage version"));
    }
}

fn resource_names(at: &At<'_>, errors: &mut ErrorList) {
    for field in ["plural", "singular"] {
        let name = at.child(field);
        if field == "plural" || !name.text().is_empty() {
            errors.need_name(&name, names::is_dns1035_label);
        }
    }
    for field in ["kind", "listKind"] {
        let name = at.child(field);
        if errors.need_text(&name) {
            let complaints = names::is_dns1035_label(&name.text().to_lowercase());
            errors.extend(
                complaints
                    .into_iter()
                    .map(|why| name.invalid(format!("may have mixed case, but should otherwise match: {why}"))),
            );
        }
    }
    for short in at.child("shortNames").items() {
        errors.complaints(&short, names::is_dns1035_label(short.text()));
    }
    let (kind, list) = (at.child("kind"), at.child("listKind"));
    if !kind.text().is_empty() && kind.text() == list.text() {
        errors.push(list.invalid("kind and listKind may not be the same"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_version_is_stored() {
        let version = |storage: bool| json!({"name": "v1", "storage": storage, "schema": {"openAPIV3Schema": {"type": "object"}}});
        let check = |list: Value| {
            let object = json!({ "versions": list });
            let mut errors = ErrorList::new();
            versions(&At::field(&object, "versions"), &mut errors);
            errors.len()
        };
        assert_eq!(check(json!([version(true)])), 0);
        assert_eq!(check(json!([version(false)])), 1);
        assert_eq!(check(json!([version(true), version(true)])), 2);
        let mut definition = json!({"spec": {"versions": [version(true)]}});
        remember_storage_version(&mut definition);
        remember_storage_version(&mut definition);
        assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    }
}
