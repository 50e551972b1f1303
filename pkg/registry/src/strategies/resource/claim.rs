//! Claims on devices, and templates of claims. What is claimed never changes.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names::is_valid_label_value;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report, inner_metadata};
use super::claim_status;
use super::items::{self, by, itself};
use super::names::{driver, fully_qualified, label, label_key};
use super::selectors::selectors;
use crate::attributes::stored_namespace;
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

pub(super) const MAX_REQUESTS: usize = 32;
const MAX_CONSTRAINTS: usize = 32;
pub(super) const MAX_CONFIGURATIONS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_PARAMETERS: usize = 10 << 10;
pub(super) const TAINT_EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";

pub(crate) struct ResourceClaim;

impl Strategy for ResourceClaim {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        if ctx.subresource == "status" {
            claim_status::drop_stale(new, old);
        }
    }

    fn validate(&self, ctx: &Context<'_>, claim: &Value) -> ErrorList {
        let spec = At::field(claim, "spec");
        let mut errors = admin_of_requests(ctx, claim, &spec);
        devices(&spec.child("devices"), &mut errors);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        errors.immutable(&At::field(new, "spec"), &At::field(old, "spec"));
        errors
    }

    fn validate_status_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if let Some(n) = claim_status::admin_granted(new).filter(|_| claim_status::admin_granted(old).is_none()) {
            let path = Path::new("status").child("allocation").child("devices").child("results").index(n);
            errors.extend(admin(ctx, new, &path.child("adminAccess")));
        }
        errors.extend(claim_status::validate(new, old));
        errors
    }
}

pub(crate) struct ResourceClaimTemplate;

impl Strategy for ResourceClaimTemplate {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn validate(&self, ctx: &Context<'_>, template: &Value) -> ErrorList {
        let spec = At::field(template, "spec");
        let mut errors = admin_of_requests(ctx, template, &spec.child("spec"));
        errors.extend(of_template(&spec));
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let spec = At::field(new, "spec");
        let mut errors = of_template(&spec);
        errors.immutable(&spec, &At::field(old, "spec"));
        errors
    }
}

fn of_template(spec: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    inner_metadata::labels_and_annotations(&spec.child("metadata"), &mut errors);
    devices(&spec.child("spec").child("devices"), &mut errors);
    errors
}

/// Whoever asks for devices that others use must be in a namespace for that. Upstream names the place so in templates as well.
fn admin_of_requests(ctx: &Context<'_>, object: &Value, spec: &At<'_>) -> ErrorList {
    let requests = spec.child("devices").child("requests");
    let Some(n) = requests.items().position(|request| request.child("exactly").child("adminAccess").is_true()) else {
        return ErrorList::new();
    };
    let path = Path::new("spec").child("devices").child("requests").index(n).child("adminAccess");
    admin(ctx, object, &path).into_iter().collect()
}

fn admin(ctx: &Context<'_>, object: &Value, path: &Path) -> Option<Error> {
    let failed = |why: String| {
        Some(Error::internal(path, format!("could not retrieve namespace to verify admin access: {why}")))
    };
    let stored = match stored_namespace(ctx.registry, object.namespace()) {
        Ok(Some(stored)) => stored,
        Ok(None) => return failed(format!("namespaces {:?} not found", object.namespace())),
        Err(status) => return failed(status.message),
    };
    let namespace = match stored.to_value() {
        Ok(namespace) => namespace,
        Err(err) => return failed(err.to_string()),
    };
    if namespace.text(&["metadata", "labels", ADMIN_LABEL]) == "true" {
        return None;
    }
    let why = format!("admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace");
    Some(Error::forbidden(path, why))
}

/// What a claim asks for.
fn devices(at: &At<'_>, errors: &mut ErrorList) {
    let requests = at.child("requests");
    let names = Requests::of(at);
    items::set(&requests, MAX_REQUESTS, errors, by("name"), |asked, errors| request(&asked, errors));
    items::list(&at.child("constraints"), MAX_CONSTRAINTS, errors, |constraint, errors| {
        references(&constraint.child("requests"), &names, errors);
        let (same, distinct) = (constraint.child("matchAttribute"), constraint.child("distinctAttribute"));
        match (same.is_set(), distinct.is_set()) {
            (true, _) => fully_qualified(&same, errors),
            (false, true) => fully_qualified(&distinct, errors),
            _ => errors.push(constraint.required(
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            )),
        }
    });
    items::list(&at.child("config"), MAX_CONFIGURATIONS, errors, |config, errors| {
        references(&config.child("requests"), &names, errors);
        configuration(&config, false, errors);
    });
}

fn request(at: &At<'_>, errors: &mut ErrorList) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    label(&at.child("name"), errors);
    let (exactly, alternatives) = (at.child("exactly"), at.child("firstAvailable"));
    match (exactly.is_set(), alternatives.len() > 0) {
        (false, false) => errors.push(at.required(ONE)),
        (true, true) => {
            errors.push(Error::invalid(&at.path, Value::Null, format!("{ONE}, but multiple fields are set")));
        }
        (true, false) => wanted(&exactly, errors),
        (false, true) => {
            items::set(&alternatives, MAX_ALTERNATIVES, errors, by("name"), |alternative, errors| {
                label(&alternative.child("name"), errors);
                wanted(&alternative, errors);
            });
        }
    }
}

/// Which devices, and how many of them.
fn wanted(at: &At<'_>, errors: &mut ErrorList) {
    errors.need_name(&at.child("deviceClassName"), kedge_meta::names::is_dns1123_subdomain);
    selectors(&at.child("selectors"), false, errors);
    let (mode, count) = (at.child("allocationMode"), at.child("count"));
    let number = count.int().unwrap_or_default();
    match mode.text() {
        "All" if number != 0 => errors.push(count.invalid("must not be specified when allocationMode is 'All'")),
        "ExactCount" if number <= 0 => {
            errors.push(Error::invalid(&count.path, number, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        other => errors.push(Error::not_supported_of(&mode.path, other, &["All", "ExactCount"])),
    }
    at.child("tolerations").items().for_each(|toleration| tolerated(&toleration, errors));
}

fn tolerated(at: &At<'_>, errors: &mut ErrorList) {
    let (key, operator, value) = (at.child("key"), at.child("operator"), at.child("value"));
    if !key.text().is_empty() {
        label_key(&key, errors);
    }
    match operator.text() {
        "Exists" if !value.text().is_empty() => errors.push(value.invalid("must be empty for operator `Exists`")),
        "Exists" => {}
        "Equal" => errors.complaints(&value, is_valid_label_value(value.text())),
        "" => errors.push(operator.required("")),
        _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
    }
    let effect = at.child("effect");
    if !effect.text().is_empty() {
        errors.one_of(&effect, &TAINT_EFFECTS);
    }
}

/// How a driver is to set a device up. What was stored may be longer than what is new.
pub(super) fn configuration(at: &At<'_>, stored: bool, errors: &mut ErrorList) {
    let opaque = at.child("opaque");
    if !opaque.is_set() {
        errors.push(opaque.required(""));
        return;
    }
    driver(&opaque.child("driver"), errors);
    object(&opaque.child("parameters"), (!stored).then_some(MAX_PARAMETERS), errors);
}

/// Data of a driver's own, which is an object.
pub(super) fn object(at: &At<'_>, most: Option<usize>, errors: &mut ErrorList) {
    if !at.is_set() {
        errors.push(at.required(""));
    } else if let Some(most) = most.filter(|most| at.value.to_string().len() > *most) {
        errors.push(Error::too_long(&at.path, most));
    } else if !at.value.is_object() {
        errors.push(Error::invalid(&at.path, "<value omitted>", "must be a valid JSON object"));
    }
}

/// The names of a claim's requests, with those of the alternatives in each.
pub(super) struct Requests<'a>(Vec<(&'a str, Vec<&'a str>)>);

impl<'a> Requests<'a> {
    /// Of what a claim asks for; later requests of a name stand for earlier ones.
    pub(super) fn of(devices: &At<'a>) -> Self {
        let name = |at: At<'a>| at.child("name").text();
        let all = devices.child("requests").items();
        Self(all.map(|at| (name(at.clone()), at.child("firstAvailable").items().map(name).collect())).collect())
    }

    fn has(&self, reference: &str) -> bool {
        let (request, alternative) = match reference.split_once('/') {
            Some((request, alternative)) => (request, Some(alternative)),
            None => (reference, None),
        };
        let found = self.0.iter().rev().find(|(name, _)| *name == request);
        found.is_some_and(|(_, alternatives)| alternative.is_none_or(|one| alternatives.contains(&one)))
    }

    /// A request, or an alternative in one.
    pub(super) fn reference(&self, at: &At<'_>, errors: &mut ErrorList) {
        if at.text().split('/').count() > 2 {
            errors.push(at.invalid(REFERENCE));
            return;
        }
        for part in at.text().split('/') {
            let complaints = kedge_meta::names::is_dns1123_label(part);
            errors.extend(complaints.into_iter().map(|why| Error::invalid(&at.path, part, why)));
        }
        if !self.has(at.text()) {
            errors.push(Error::invalid(&at.path, at.text(), REFERENCE));
        }
    }
}

/// What a constraint or a configuration is for.
pub(super) fn references(at: &At<'_>, names: &Requests<'_>, errors: &mut ErrorList) {
    items::set(at, MAX_REQUESTS, errors, itself, |name, errors| names.reference(&name, errors));
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
