//! Certificate signing requests: who asks is written by the server, and what was asked for never changes.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};
use x509_parser::pem::Pem;

use super::super::validation::{At, Report};
use super::{proof, signer_name};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const MIN_SECONDS: i64 = 600;
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) struct SigningRequest;

impl Strategy for SigningRequest {
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::is_path_segment_name(name)
    }

    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn prepare_for_create(&self, ctx: &Context<'_>, request: &mut Value) {
        let spec = request.entry("spec");
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        spec.insert("username".into(), json!(ctx.user.name));
        if !ctx.user.uid.is_empty() {
            spec.insert("uid".into(), json!(ctx.user.uid));
        }
        if !ctx.user.groups.is_empty() {
            spec.insert("groups".into(), json!(ctx.user.groups));
        }
        if !ctx.user.extra.is_empty() {
            spec.insert("extra".into(), json!(ctx.user.extra));
        }
        request.set("status", json!({}));
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        new.set_or_remove("spec", old.get("spec").cloned());
        let was = old.list(&["status", "conditions"]);
        match ctx.subresource {
            // Who approves does not sign, and who signs does not approve.
            "approval" => {
                let conditions = new.at(&["status", "conditions"]).cloned();
                new.set_or_remove("status", old.get("status").cloned());
                let status = new.entry("status");
                match conditions {
                    Some(conditions) => status.insert("conditions".into(), conditions),
                    None => status.remove("conditions"),
                };
            }
            "status" => {
                let decided = |condition: &&Value| DECISIONS.contains(&condition.text(&["type"]));
                let kept = was.iter().filter(decided).cloned();
                let others = new.list(&["status", "conditions"]).iter().filter(|c| !decided(c)).cloned();
                let all: Vec<Value> = kept.chain(others).collect();
                if !all.is_empty() {
                    new.entry("status").insert("conditions".into(), all.into());
                }
            }
            _ => {}
        }
        if !ctx.subresource.is_empty() {
            date(new, was, &kedge_base::time::rfc3339(ctx.now));
        }
    }

    fn validate(&self, _ctx: &Context<'_>, request: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(request, "spec");
        let body = spec.child("request");
        let pem = super::super::core::config_map::decoded(body.text());
        errors.extend(proof::fault(&pem).map(|why| body.invalid(why)));
        let usages = spec.child("usages");
        if usages.len() == 0 {
            errors.push(usages.required(""));
        }
        let mut seen: Vec<&str> = Vec::new();
        for usage in usages.items() {
            errors.one_of(&usage, USAGES);
            if seen.contains(&usage.text()) {
                errors.push(usage.duplicate());
            }
            seen.push(usage.text());
        }
        let signer = spec.child("signerName");
        if signer.text() == "kubernetes.io/legacy-unknown" {
            errors.push(signer.invalid("the legacy signerName is not allowed via this API version"));
        } else {
            signer_name::validate(&signer, &mut errors);
        }
        let seconds = spec.child("expirationSeconds");
        if seconds.int().is_some_and(|seconds| seconds < MIN_SECONDS) {
            errors.push(seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        if ctx.subresource == "approval" { decisions(new, old) } else { ErrorList::new() }
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let field = |object| At::field(object, "status").child("certificate");
        let (now, was) = (field(new), field(old));
        if !was.text().is_empty() && now.value != was.value {
            errors.push(Error::forbidden(&now.path, "may not be changed once set"));
        }
        let body = super::super::core::config_map::decoded(now.text());
        if let Some(why) = certificate_fault(&body) {
            errors.push(Error::invalid(&now.path, "<certificate data>", why));
        }
        errors
    }
}

/// Why what was issued is no certificates; nothing at all is none yet.
fn certificate_fault(text: &[u8]) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let mut blocks = 0;
    for block in Pem::iter_from_buffer(text).map_while(Result::ok) {
        if block.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.parse_x509().is_err() {
            return Some("x509: malformed certificate".into());
        }
        blocks += 1;
    }
    (blocks == 0).then(|| "must contain at least one CERTIFICATE PEM block".into())
}

/// Conditions that are new or have changed say when.
fn date(request: &mut Value, was: &[Value], now: &str) {
    let Some(Value::Array(conditions)) = request.pointer_mut("/status/conditions") else { return };
    for condition in conditions {
        let kind = condition.text(&["type"]).to_owned();
        let before = was.iter().find(|old| old.text(&["type"]) == kind);
        if condition.text(&["status"]).is_empty() {
            condition.set("status", "True");
        }
        for (field, keep) in [
            ("lastUpdateTime", before.is_some_and(|old| old == condition)),
            ("lastTransitionTime", before.is_some_and(|old| old.text(&["status"]) == condition.text(&["status"]))),
        ] {
            if condition.text(&[field]).is_empty() {
                let earlier = before.filter(|_| keep).map(|old| old.text(&[field])).filter(|time| !time.is_empty());
                condition.set(field, earlier.unwrap_or(now));
            }
        }
    }
}

/// A decision is made once.
fn decisions(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let conditions = At::field(new, "status").child("conditions");
    let has = |kind: &str| conditions.items().any(|condition| condition.child("type").text() == kind);
    if DECISIONS.iter().all(|kind| has(kind)) {
        errors.push(conditions.invalid("Approved and Denied conditions are mutually exclusive"));
    }
    for was in old.list(&["status", "conditions"]) {
        let kind = was.text(&["type"]);
        if DECISIONS.contains(&kind) && !has(kind) {
            errors.push(conditions.forbidden(format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    for condition in conditions.items() {
        errors.need_text(&condition.child("type"));
        let status = condition.child("status");
        if DECISIONS.contains(&condition.child("type").text()) && status.text() != "True" {
            errors.push(status.not_supported(&["True"]));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_issued_are_certificates() {
        let block = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let said = |text: &str| certificate_fault(text.as_bytes()).unwrap_or_default();
        assert_eq!(said(""), "");
        assert_eq!(said("no"), "must contain at least one CERTIFICATE PEM block");
        assert_eq!(said(&block("CERTIFICATE")), "x509: malformed certificate");
        assert_eq!(said(&block("PRIVATE KEY")), "only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\"");
    }

    #[test]
    fn a_decision_is_dated_and_kept() {
        let mut request = json!({"status": {"conditions": [{"type": "Approved", "reason": "ok"}]}});
        date(&mut request, &[], "2026-01-01T00:00:00Z");
        assert_eq!(request["status"]["conditions"][0]["lastUpdateTime"], "2026-01-01T00:00:00Z");
        assert_eq!(request["status"]["conditions"][0]["status"], "True");
        assert!(decisions(&request, &json!({})).is_empty());
        assert_eq!(decisions(&json!({}), &request).len(), 1);
        let both = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]}});
        assert_eq!(decisions(&both, &json!({})).len(), 1);
    }
}
