//! Certificate signing requests: who asks is written by the server, and what was asked for never changes.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};
use x509_parser::pem::Pem;

use super::super::core::config_map::decoded;
use super::super::validation::{At, Report};
use super::{conditions, proof, signer_name};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const MIN_SECONDS: i64 = 600;
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
        let now = kedge_base::time::rfc3339(ctx.now);
        match ctx.subresource {
            "approval" => {
                conditions::date(new, old.list(&["status", "conditions"]), &now);
                let said = new.at(&["status", "conditions"]).cloned();
                new.set_or_remove("status", old.get("status").cloned());
                let status = new.entry("status");
                match said {
                    Some(said) => status.insert("conditions".into(), said),
                    None => status.remove("conditions"),
                };
            }
            "status" => {
                conditions::keep_decisions(new, old);
                conditions::date(new, old.list(&["status", "conditions"]), &now);
            }
            _ => new.set_or_remove("status", old.get("status").cloned()),
        }
    }

    fn validate(&self, _ctx: &Context<'_>, request: &Value) -> ErrorList {
        whole(request, None)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = whole(new, Some(old));
        conditions::validate_change(new, old, ctx.subresource == "approval", &mut errors);
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = whole(new, Some(old));
        conditions::validate_change(new, old, false, &mut errors);
        let (now, was) = (certificate(new), certificate(old));
        if !was.text().is_empty() && now.text() != was.text() {
            errors.push(now.forbidden("updates may not modify existing certificate content"));
        }
        errors
    }
}

/// What is wrong with a request, but for what was wrong with it before. What was asked for was judged when it came, and
/// does not change.
fn whole(request: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    if old.is_none() {
        asked(request, &mut errors);
    }
    conditions::validate(request, old, &mut errors);
    let now = certificate(request);
    let is_old = old.is_some_and(|old| {
        let was = certificate(old);
        was.text() == now.text() || certificate_fault(&decoded(was.text())).is_some()
    });
    if let Some(why) = certificate_fault(&decoded(now.text())).filter(|_| !is_old) {
        errors.push(Error::invalid(&now.path, "<certificate data>", why));
    }
    errors
}

fn certificate(request: &Value) -> At<'_> {
    At::field(request, "status").child("certificate")
}

fn asked(request: &Value, errors: &mut ErrorList) {
    let spec = At::field(request, "spec");
    let body = spec.child("request");
    errors.extend(proof::fault(&decoded(body.text())).map(|why| body.invalid(why)));
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
        signer_name::validate(&signer, errors);
    }
    let seconds = spec.child("expirationSeconds");
    if seconds.int().is_some_and(|seconds| seconds < MIN_SECONDS) {
        errors.push(seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
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
}
