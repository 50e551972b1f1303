//! How objects come from one version to another.

use std::collections::BTreeSet;

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use serde_json::Value;

use super::super::super::validation::At;
use super::options::Options;
use super::{ca_bundle, go, go_url};
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
    let webhook = at.child("webhook");
    let client = At { value: webhook.child("clientConfig").value, path: at.path.child("webhookClientConfig") };
    let reviews =
        At { value: webhook.child("conversionReviewVersions").value, path: at.path.child("conversionReviewVersions") };
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
    let (url, service) = (at.child("url"), at.child("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => self::url(&url, errors),
        (false, true) => self::service(&service, errors),
        _ => errors.push(at.required("exactly one of url or service is required")),
    }
    let bundle = at.child("caBundle");
    if !bundle.text().is_empty() && !options.any_ca_bundle {
        errors.extend(ca_bundle::fault(bundle.text()).map(|why| bundle.invalid(why)));
    }
}

fn url(at: &At<'_>, errors: &mut ErrorList) {
    const FORM: &str = "; desired format: https://host[/path]";
    let url = match go_url::parse(at.text()) {
        Ok(url) => url,
        Err(why) => return errors.push(at.required(&format!("url must be a valid URL: {why}{FORM}"))),
    };
    let mut invalid = |value: &str, why: &str| errors.push(Error::invalid(&at.path, value, why));
    if url.scheme != "https" {
        invalid(&url.scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if url.host.is_empty() {
        invalid("", &format!("host must be specified{FORM}"));
    }
    if let Some(user) = &url.user {
        invalid(user, "user information is not permitted in the URL");
    }
    if !url.fragment.is_empty() {
        invalid(&url.fragment, "fragments are not permitted in the URL");
    }
    if !url.query.is_empty() {
        invalid(&url.query, "query parameters are not permitted in the URL");
    }
}

fn service(at: &At<'_>, errors: &mut ErrorList) {
    // Upstream mistakes one for the other, and says that the other is missing.
    for (missing, named) in [("name", "namespace"), ("namespace", "name")] {
        if at.child(named).text().is_empty() {
            errors.push(at.child(missing).required(""));
        }
    }
    let port = at.child("port");
    let complaints = names::is_valid_port_num(port.int().unwrap_or(443));
    if !complaints.is_empty() {
        errors.push(port.invalid(format!("port is not valid: {}", complaints.join(", "))));
    }
    let path = at.child("path");
    match path.text() {
        "" | "/" => {}
        "//" => errors.push(path.invalid("segment[0] may not be empty")),
        text => path_segments(&path, text, errors),
    }
}

fn path_segments(path: &At<'_>, text: &str, errors: &mut ErrorList) {
    if !text.starts_with('/') {
        errors.push(path.invalid("must start with a '/'"));
    }
    // The first character is taken for a slash.
    let first = text.chars().next().map_or(0, char::len_utf8);
    let segments = text.get(first..).unwrap_or_default();
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    for (i, segment) in segments.split('/').enumerate() {
        if segment.is_empty() {
            errors.push(path.invalid(format!("segment[{i}] may not be empty")));
            continue;
        }
        for complaint in names::is_dns1123_subdomain(segment) {
            errors.push(path.invalid(format!("segment[{i}]: {complaint}")));
        }
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
