//! How objects come from one version to another.

use std::collections::BTreeSet;

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use serde_json::Value;

use super::super::super::validation::{At, webhook};
use super::options::Options;
use super::{ca_bundle, go};
use crate::value::ValueExt;

/// Versions of the review that converters are sent.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// `spec.conversion`. Paths are those of upstream's first version.
pub(super) fn conversion(spec: &At<'_>, preserves_unknown: bool, options: &Options<'_>, errors: &mut ErrorList) {
    let at = spec.child("conversion");
    if !at.is_set() {
        return;
    }
    let strategy = at.child("strategy");
    if strategy.text() != "None" && preserves_unknown {
        errors.push(strategy.invalid("must be None if spec.preserveUnknownFields is true"));
    }
    match strategy.text() {
        "" => errors.push(strategy.required("")),
        "None" | "Webhook" => {}
        _ => errors.push(strategy.not_supported(&["None", "Webhook"])),
    }
    let hook = at.child("webhook");
    let client = At { value: hook.child("clientConfig").value, path: at.path.child("webhookClientConfig") };
    let reviews =
        At { value: hook.child("conversionReviewVersions").value, path: at.path.child("conversionReviewVersions") };
    if strategy.text() == "Webhook" {
        match client.is_set() {
            true => self::client(&client, options, errors),
            false => errors.push(client.required("required when strategy is set to Webhook")),
        }
        review_versions(&reviews, options, errors);
        return;
    }
    let why = "should not be set when strategy is not set to Webhook";
    if client.is_set() {
        errors.push(client.forbidden(why));
    }
    if reviews.len() > 0 {
        errors.push(reviews.forbidden(why));
    }
}

fn client(at: &At<'_>, options: &Options<'_>, errors: &mut ErrorList) {
    webhook::place(at, errors);
    let bundle = at.child("caBundle");
    if !bundle.text().is_empty() && !options.any_ca_bundle {
        errors.extend(ca_bundle::fault(bundle.text()).map(|why| bundle.invalid(why)));
    }
}

fn review_versions(at: &At<'_>, options: &Options<'_>, errors: &mut ErrorList) {
    if at.len() == 0 {
        errors.push(at.required(""));
        return;
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for version in at.items() {
        if !seen.insert(version.text()) {
            errors.push(version.invalid("duplicate version"));
            continue;
        }
        for complaint in names::is_dns1035_label(version.text()) {
            errors.push(version.invalid(complaint));
        }
    }
    if options.known_review && !seen.iter().any(|version| REVIEWS.contains(version)) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(Error::invalid(&at.path, kedge_meta::field::GoText(go::json(at.value)), why));
    }
}

/// Whether the converter of a definition can be sent a review that is known, or none is said to be.
pub(super) fn knows_review(definition: &Value) -> bool {
    let versions = definition.list(&["spec", "conversion", "webhook", "conversionReviewVersions"]);
    versions.is_empty() || versions.iter().any(|version| REVIEWS.iter().any(|known| version == known))
}

/// Whether the CA bundle of a definition is there and none.
pub(super) fn has_invalid_ca_bundle(definition: &Value) -> bool {
    let bundle = definition.text(&["spec", "conversion", "webhook", "clientConfig", "caBundle"]);
    !bundle.is_empty() && ca_bundle::fault(bundle).is_some()
}

/// Where a definition has its conversion.
pub(super) fn place(definition: &Value) -> At<'_> {
    At { value: definition.get("spec").unwrap_or(&Value::Null), path: Path::new("spec") }
}
