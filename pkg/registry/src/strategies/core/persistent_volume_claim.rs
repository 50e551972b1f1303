//! Persistent volume claims.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::scalar::{POSITIVE, quantity};
use super::super::validation::{At, Report, diff, selector};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

pub(super) const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

pub(crate) struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn prepare_for_create(&self, _ctx: &Context<'_>, claim: &mut Value) {
        claim.set("status", json!({ "phase": "Pending" }));
        copy_data_source(claim);
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, _old: &Value) {
        // A client that knows one name only leaves out what was filled in.
        if ctx.subresource.is_empty() {
            copy_data_source(new);
        }
    }

    fn validate(&self, _ctx: &Context<'_>, claim: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&At::field(claim, "spec"), &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        changes(new, old, &mut errors);
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for (_, amount) in At::field(new, "status").child("capacity").entries() {
            if quantity(&amount).is_some_and(|amount| amount.is_negative()) {
                errors.push(amount.invalid("must be greater than or equal to 0"));
            }
        }
        errors
    }
}

/// Of the two names that the source of the data has, each is filled in from the other.
fn copy_data_source(claim: &mut Value) {
    let (old, new) = (claim.at(&["spec", "dataSource"]).cloned(), claim.at(&["spec", "dataSourceRef"]).cloned());
    let spec = claim.entry("spec");
    match (old, new) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".into(), source);
        }
        (None, Some(source)) if source.text(&["namespace"]).is_empty() => {
            spec.insert("dataSource".into(), source);
        }
        _ => {}
    }
}

/// The spec of a claim or of a claim template.
pub(crate) fn spec(at: &At<'_>, errors: &mut ErrorList) {
    let modes = at.child("accessModes");
    if modes.len() == 0 {
        errors.push(modes.required("at least 1 access mode is required"));
    }
    selector::label_selector(&at.child("selector"), errors);
    access_modes(&modes, errors);
    let storage = at.child("resources").child("requests").child("storage");
    // Upstream names the request by its resource only.
    let path = at.path.child("resources").key("storage");
    match quantity(&storage) {
        None => errors.push(Error::required(&path, "")),
        Some(amount) if amount.is_negative() || amount.is_zero() => {
            errors.push(Error::invalid(&path, storage.value, POSITIVE));
        }
        Some(_) => {}
    }
    errors.name(&at.child("storageClassName"), names::is_dns1123_subdomain);
    errors.one_of(&at.child("volumeMode"), &["Block", "Filesystem"]);
    errors.name(&at.child("volumeAttributesClassName"), names::is_dns1123_subdomain);
    for source in ["dataSource", "dataSourceRef"].map(|name| at.child(name)) {
        if source.is_set() {
            errors.need_text(&source.child("name"));
            errors.need_text(&source.child("kind"));
        }
    }
}

pub(super) fn access_modes(modes: &At<'_>, errors: &mut ErrorList) {
    for mode in modes.items().filter(|mode| !MODES.contains(&mode.text())) {
        errors.push(Error::not_supported(&modes.path, mode.text(), MODES));
    }
    let exclusive = modes.items().any(|mode| mode.text() == "ReadWriteOncePod");
    if exclusive && modes.items().any(|mode| mode.text() != "ReadWriteOncePod" && MODES.contains(&mode.text())) {
        errors.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

fn changes(new: &Value, old: &Value, errors: &mut ErrorList) {
    const SIZE: [&str; 4] = ["spec", "resources", "requests", "storage"];
    let (mut now, mut was) = (new["spec"].clone(), old["spec"].clone());
    if was.text(&["volumeName"]).is_empty() {
        was.set_or_remove("volumeName", now.get("volumeName").cloned());
    }
    // A class may be filled in where there was none, for claims from before there was a default.
    if was.get("storageClassName").is_none() {
        was.set_or_remove("storageClassName", now.get("storageClassName").cloned());
    }
    if new.text(&["status", "phase"]) == "Bound" {
        let size = old.at(&SIZE).cloned();
        if let Some(requests) = now.get_mut("resources").and_then(|resources| resources.get_mut("requests")) {
            requests.set_or_remove("storage", size);
        }
        now.set_or_remove("volumeAttributesClassName", was.get("volumeAttributesClassName").cloned());
    }
    let path = Path::new("spec");
    if now != was {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                      bound claims";
        errors.push(Error::forbidden(&path, format!("{detail}\n{}", diff::diff(&was, &now))));
    }
    let amount =
        |object: &Value, path: &[&str]| object.at(path).and_then(|value| quantity(&At { value, path: Path::new("") }));
    if let (Some(wanted), Some(had)) = (amount(new, &SIZE), amount(old, &SIZE))
        && wanted < had
        && amount(old, &["status", "capacity", "storage"]).is_none_or(|capacity| wanted <= capacity)
    {
        let path = path.child("resources").child("requests").child("storage");
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Value {
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})
    }

    #[test]
    fn a_claim_says_how_much_and_how() {
        let object = json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadWriteMany"]}});
        let mut errors = ErrorList::new();
        spec(&At::field(&object, "spec"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                "spec.resources[storage]: Required value"
            ]
        );
    }

    #[test]
    fn a_bound_claim_only_grows() {
        let check = |size: &str, mode: &str| {
            let mut new = claim();
            new["spec"]["resources"]["requests"]["storage"] = json!(size);
            new["spec"]["accessModes"] = json!([mode]);
            let mut errors = ErrorList::new();
            changes(&new, &claim(), &mut errors);
            errors.len()
        };
        assert_eq!(check("2Gi", "ReadWriteOnce"), 0);
        assert_eq!(check("500Mi", "ReadWriteOnce"), 1);
        assert_eq!(check("1Gi", "ReadWriteMany"), 1);
    }
}
