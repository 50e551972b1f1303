//! Persistent volume claims.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use kedge_meta::quantity::Quantity;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::scalar::{POSITIVE, quantity};
use super::super::validation::{At, Report, diff, selector};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

pub(super) const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// The two names of what a volume is filled from.
const SOURCES: [&str; 2] = ["dataSource", "dataSourceRef"];

pub(crate) struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn prepare_for_create(&self, _ctx: &Context<'_>, claim: &mut Value) {
        claim.set("status", json!({ "phase": "Pending" }));
        drop_data_sources(claim, None);
        copy_data_source(claim);
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        // A client that knows one name only leaves out what was filled in.
        if ctx.subresource.is_empty() {
            drop_data_sources(new, Some(old));
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
        if SOURCES.iter().any(|field| !is_group(old.text(&["spec", field, "apiGroup"]))) {
            // It was let through once.
            errors.retain(|error| !SOURCES.iter().any(|field| error.field == format!("spec.{field}.apiGroup")));
        }
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

fn is_group(text: &str) -> bool {
    text.is_empty() || names::is_dns1123_subdomain(text).is_empty()
}

/// Sources that upstream has always ignored are dropped, unless the newer name is used, or the claim has one already; and those in other
/// namespaces, which are behind a gate that is off.
fn drop_data_sources(claim: &mut Value, old: Option<&Value>) {
    let had = |field: &str| old.is_some_and(|old| old.at(&["spec", field]).is_some_and(|source| !source.is_null()));
    let elsewhere = !claim.text(&["spec", "dataSourceRef", "namespace"]).is_empty();
    let spec = claim.entry("spec");
    if elsewhere && !had("dataSourceRef") {
        spec.remove("dataSourceRef");
    }
    let Some(source) = spec.get("dataSource").filter(|source| !source.is_null()) else { return };
    let known = matches!(
        (source.text(&["kind"]), source.text(&["apiGroup"])),
        ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
    );
    let newer = spec.get("dataSourceRef").is_some_and(|source| !source.is_null());
    if !known && !newer && !had("dataSource") {
        spec.remove("dataSource");
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
        (None, Some(mut source)) if source.text(&["namespace"]).is_empty() => {
            source.set_or_remove("namespace", None);
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
    data_sources(at, errors);
    errors.name(&at.child("volumeAttributesClassName"), names::is_dns1123_subdomain);
}

/// What the volume is filled from, under either name.
fn data_sources(at: &At<'_>, errors: &mut ErrorList) {
    let [older, newer] = SOURCES.map(|name| at.child(name));
    for source in [&older, &newer].into_iter().filter(|source| source.is_set()) {
        let (kind, group) = (source.child("kind"), source.child("apiGroup"));
        errors.need_text(&source.child("name"));
        errors.need_text(&kind);
        if group.text().is_empty() && kind.text() != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(Error::invalid(&source.path, kind.text(), why));
        }
        errors.name(&group, names::is_dns1123_subdomain);
        errors.name(&source.child("namespace"), names::is_dns1123_label);
    }
    if !older.is_set() || !newer.is_set() {
        return;
    }
    // Upstream shows the path, of which nothing is to be seen.
    let told = |why: &str| Error::invalid(&at.path, json!({}), why);
    let parts = |source: &At<'_>| ["apiGroup", "kind", "name"].map(|field| source.child(field).value.clone());
    if !newer.child("namespace").text().is_empty() {
        errors.push(told("may not be specified when dataSourceRef.namespace is specified"));
    } else if parts(&older) != parts(&newer) {
        errors.push(told("must match dataSourceRef"));
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
    // What is not said is nothing, the capacity of a claim without a volume too.
    let amount = |object: &Value, path: &[&str]| {
        let said = object.at(path).and_then(|value| quantity(&At { value, path: Path::new("") }));
        said.unwrap_or(Quantity::ZERO)
    };
    let (wanted, had) = (amount(new, &SIZE), amount(old, &SIZE));
    if wanted < had && wanted <= amount(old, &["status", "capacity", "storage"]) {
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
    fn data_comes_from_where_it_can() {
        let of = |sources: Value| {
            let mut object = claim();
            for (name, source) in sources.as_object().into_iter().flatten() {
                object["spec"].set(name, source.clone());
            }
            object
        };
        let said = |sources: Value| {
            let mut errors = ErrorList::new();
            spec(&At::field(&of(sources), "spec"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (other, same) = (json!({"kind": "X", "name": ""}), json!({"kind": "PersistentVolumeClaim", "name": "a"}));
        assert!(said(json!({"dataSource": same, "dataSourceRef": same})).is_empty());
        assert_eq!(
            said(json!({"dataSource": same, "dataSourceRef": other})),
            [
                "spec.dataSourceRef.name: Required value",
                "spec.dataSourceRef: Invalid value: \"X\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                "spec: Invalid value: {}: must match dataSourceRef",
            ]
        );
        let prepared = |sources: Value, old: Option<&Value>| {
            let mut object = of(sources);
            drop_data_sources(&mut object, old);
            copy_data_source(&mut object);
            SOURCES.map(|field| object["spec"].get(field).is_some())
        };
        assert_eq!(prepared(json!({ "dataSource": other }), None), [false, false]);
        assert_eq!(prepared(json!({ "dataSource": other }), Some(&of(json!({ "dataSource": other })))), [true, true]);
        assert_eq!(prepared(json!({ "dataSourceRef": other }), None), [true, true]);
        let elsewhere = json!({"kind": "PersistentVolumeClaim", "name": "a", "namespace": "b"});
        assert_eq!(prepared(json!({ "dataSourceRef": elsewhere }), None), [false, false]);
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
