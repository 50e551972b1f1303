//! Certificate signing requests: those of nodes are approved, approved ones signed by the cluster's authorities, old ones removed.
//!
//! Invariants: nothing is signed that nobody approved, or that its signer does not stand for; what was decided about a request
//! is written only on the request as it was looked at.

mod approver;
mod cleaner;
mod rules;
mod signer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kedge_certs::Authority;
use kedge_meta::{ObjectMeta, resources};
use serde::{Deserialize, Deserializer};

use crate::context::Context;
use crate::objects::{Condition, keyed, nullable, parse_time};

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

/// Who signs: those who come to the API server, and those who serve.
#[derive(Debug, Clone)]
pub struct Signing {
    pub clients: Arc<Authority>,
    pub servers: Arc<Authority>,
}

/// Starts the three controllers.
pub fn start(ctx: &Context, signing: Signing) {
    let runs = |part: &str| ctx.runs(&format!("certificatesigningrequest-{part}-controller"));
    let [approves, signs, cleans] = ["approving", "signing", "cleaner"].map(runs);
    if !approves && !signs && !cleans {
        return;
    }
    let requests = ctx.informer(&resources::CERTIFICATE_SIGNING_REQUESTS);
    if approves {
        approver::start(ctx, &requests);
    }
    if signs {
        signer::start(ctx, &requests, signing);
    }
    if cleans {
        cleaner::start(ctx, &requests);
    }
}

/// What is kept of every request: a body may have a megabyte, and is read when there is something to do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Request {
    metadata: ObjectMeta,
    spec: Spec,
    status: Status,
}
keyed!(Request);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    signer_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "issued")]
    certificate: Option<Issued>,
}

/// Of a certificate that was issued: when it runs out, if that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Issued(Option<Timestamp>);

fn issued<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Issued>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    let until = || kedge_certs::not_after(&STANDARD.decode(&text).ok()?);
    Ok((!text.is_empty()).then(|| Issued(until().and_then(|until| Timestamp::from_second(until).ok()))))
}

impl Request {
    fn has(&self, kind: &str) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == kind)
    }

    /// Whether somebody has decided.
    fn is_decided(&self) -> bool {
        self.has(APPROVED) || self.has(DENIED)
    }

    /// Whether it is approved, and neither signed yet nor given up.
    fn waits_for_signature(&self) -> bool {
        let is_true = |condition: &Condition| condition.status.is_empty() || condition.is_true();
        let failed = self.status.conditions.iter().any(|condition| condition.kind == FAILED && is_true(condition));
        self.status.certificate.is_none() && self.has(APPROVED) && !self.has(DENIED) && !failed
    }

    /// How long to wait before something is tried again that nothing announces: as long as the request has been there, so that it is asked
    /// about ever more seldom.
    fn pause(&self, now: Timestamp) -> Duration {
        let created = parse_time(self.metadata.creation_timestamp.as_ref()).unwrap_or(now);
        let age = Duration::try_from(now.duration_since(created)).unwrap_or_default();
        age.clamp(Duration::from_secs(1), Duration::from_secs(1000))
    }
}

/// A request with what it asks for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Asked {
    spec: Wish,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wish {
    /// PEM in base64.
    request: String,
    signer_name: String,
    #[serde(deserialize_with = "nullable")]
    usages: Vec<String>,
    expiration_seconds: Option<i64>,
    /// Who asked.
    username: String,
    uid: String,
    #[serde(deserialize_with = "nullable")]
    groups: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    extra: BTreeMap<String, Vec<String>>,
}

impl Wish {
    fn read(&self) -> Result<kedge_certs::SigningRequest, kedge_certs::RequestError> {
        let pem = STANDARD.decode(&self.request).map_err(|_| kedge_certs::RequestError::NoRequest)?;
        kedge_certs::SigningRequest::from_pem(&pem)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn request(conditions: &[(&str, &str)], certificate: &str) -> Request {
        let conditions: Vec<_> = conditions.iter().map(|(k, s)| json!({"type": k, "status": s})).collect();
        let status = json!({"conditions": conditions, "certificate": certificate});
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()
    }

    #[test]
    fn only_what_is_approved_and_open_is_signed() {
        let waits =
            |conditions: &[(&str, &str)], certificate: &str| request(conditions, certificate).waits_for_signature();
        let approved = (APPROVED, "True");
        assert!(waits(&[approved], ""));
        assert!(!waits(&[], ""));
        assert!(!waits(&[approved], "YQ=="));
        assert!(!waits(&[approved, (DENIED, "True")], ""));
        assert!(!waits(&[approved, (FAILED, "True")], ""));
        assert!(!waits(&[approved, (FAILED, "")], ""));
        assert!(waits(&[approved, (FAILED, "False")], ""));
    }

    #[test]
    fn it_is_asked_again_ever_more_seldom() {
        let mut request = Request::default();
        let created = Timestamp::from_second(1_800_000_000).unwrap();
        request.metadata.creation_timestamp = Some(kedge_base::time::rfc3339(created));
        let after = |seconds| request.pause(created + jiff::SignedDuration::from_secs(seconds)).as_secs();
        assert_eq!([after(0), after(5), after(600), after(100_000)], [1, 5, 600, 1000]);
    }
}
