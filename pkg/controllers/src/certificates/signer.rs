//! Signs approved requests for the built-in signers, or says why they are not fit.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kedge_certs::{Authority, SignError, Usages};
use kedge_client::{Error, Informer, WorkQueue};
use kedge_meta::{ObjectKey, resources};
use serde::Deserialize as _;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use tracing::warn;

use super::{Asked, FAILED, Request, Signing, Wish, rules};
use crate::context::{Context, enqueue_changes, ignore_not_found};

/// Shortest life: twice what certificates are dated back by.
const SHORTEST: Duration = Duration::minutes(10);

struct Controller {
    ctx: Context,
    queue: WorkQueue<ObjectKey>,
    requests: Informer<Request>,
    signing: Signing,
}

/// Starts the controller.
pub(super) fn start(ctx: &Context, requests: &Informer<Request>, signing: Signing) {
    let queue = ctx.queue();
    enqueue_changes(requests, &queue);
    let requests = requests.clone();
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone(), requests, signing });
    let c = controller.clone();
    let synced = async move { c.requests.synced().await };
    ctx.work("csrsigning", &queue, 2, synced, controller, |c, key| async move { c.reconcile(key).await });
}

/// What becomes of an approved request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// PEM.
    Certificate(String),
    /// It is not what its signer stands for.
    Unfit(String),
}

/// Why there is no outcome yet.
#[derive(Debug, thiserror::Error)]
enum Undone {
    #[error("unable to parse csr: {0}")]
    Request(#[from] kedge_certs::RequestError),
    #[error("error auto signing csr: {0}")]
    Sign(#[from] SignError),
}

fn authority<'a>(signing: &'a Signing, signer: &str) -> Option<&'a Authority> {
    match signer {
        rules::CLIENT | rules::KUBELET_CLIENT => Some(&signing.clients),
        rules::KUBELET_SERVING | rules::LEGACY => Some(&signing.servers),
        _ => None,
    }
}

fn decide(authority: &Authority, wish: &Wish, longest: Duration, now: Timestamp) -> Result<Outcome, Undone> {
    let request = wish.read()?;
    if let Err(why) = rules::check(&wish.signer_name, &request, &wish.usages) {
        return Ok(Outcome::Unfit(why));
    }
    let usages = Usages::parse(&wish.usages)?;
    let now = OffsetDateTime::from_unix_timestamp(now.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Ok(Outcome::Certificate(authority.sign(&request, &usages, lifetime(wish.expiration_seconds, longest), now)?))
}

/// As wished, but neither longer than all others nor of no use.
fn lifetime(wished: Option<i64>, longest: Duration) -> Duration {
    wished.map_or(longest, |seconds| Duration::seconds(seconds).max(SHORTEST).min(longest))
}

/// The request with its outcome.
fn settled(mut request: Value, outcome: Outcome, now: Timestamp) -> Value {
    let status = &mut request["status"];
    match outcome {
        Outcome::Certificate(pem) => status["certificate"] = json!(STANDARD.encode(pem)),
        Outcome::Unfit(why) => {
            let condition = json!({
                "type": FAILED, "status": "True", "reason": "SignerValidationFailure", "message": why,
                "lastUpdateTime": kedge_base::time::rfc3339(now),
            });
            match status["conditions"].as_array_mut() {
                Some(conditions) => conditions.push(condition),
                None => status["conditions"] = json!([condition]),
            }
        }
    }
    request
}

impl Controller {
    /// How long a certificate may live.
    fn longest(&self) -> Duration {
        Duration::try_from(self.ctx.settings.signing).unwrap_or(Duration::MAX)
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(known) = self.requests.get("", &key.name) else { return Ok(()) };
        let Some(authority) = authority(&self.signing, &known.spec.signer_name) else { return Ok(()) };
        if !known.waits_for_signature() {
            return Ok(());
        }
        let resource = &resources::CERTIFICATE_SIGNING_REQUESTS;
        let full: Value = match self.ctx.client.get(resource, "", &key.name).await {
            Err(err) if err.is_not_found() => return Ok(()),
            read => read?,
        };
        // As it is now, not as it was when it was announced.
        if !Request::deserialize(&full)?.waits_for_signature() {
            return Ok(());
        }
        let now = self.ctx.clock.now();
        let outcome = match decide(authority, &Asked::deserialize(&full)?.spec, self.longest(), now) {
            Ok(outcome) => outcome,
            Err(why) => {
                warn!(request = %key.name, error = %why, "a request is approved and cannot be signed now");
                self.queue.add_after(key, known.pause(now));
                return Ok(());
            }
        };
        let settled = settled(full, outcome, now);
        let written = self.ctx.client.update_status::<Request>(resource, "", &key.name, &settled).await;
        ignore_not_found(written.map(drop))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LONGEST: Duration = Duration::days(365);
    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn authorities() -> Signing {
        let dir = tempfile::tempdir().unwrap();
        let pki = kedge_certs::Pki::open(dir.path(), OffsetDateTime::from_unix_timestamp(NOW).unwrap()).unwrap();
        Signing { clients: pki.client_ca, servers: pki.server_ca }
    }

    fn wish(usages: &[&str], seconds: Option<i64>) -> Wish {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
        let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        Wish {
            request: STANDARD.encode(pem),
            signer_name: rules::CLIENT.into(),
            usages: usages.iter().map(|usage| (*usage).to_owned()).collect(),
            expiration_seconds: seconds,
            ..Wish::default()
        }
    }

    #[test]
    fn a_life_is_between_ten_minutes_and_a_year() {
        let seconds = |wished| lifetime(wished, LONGEST).whole_seconds();
        assert_eq!(seconds(None), 31_536_000);
        assert_eq!(seconds(Some(1)), 600);
        assert_eq!(seconds(Some(86_400)), 86_400);
        assert_eq!(seconds(Some(i64::from(i32::MAX))), 31_536_000);
    }

    #[test]
    fn each_signer_has_its_authority() {
        let signing = authorities();
        let of = |signer: &str| authority(&signing, signer).map(|authority| authority.certificate.clone());
        for signer in [rules::CLIENT, rules::KUBELET_CLIENT] {
            assert_eq!(of(signer).as_ref(), Some(&signing.clients.certificate));
        }
        for signer in [rules::KUBELET_SERVING, rules::LEGACY] {
            assert_eq!(of(signer).as_ref(), Some(&signing.servers.certificate));
        }
        assert_eq!(of("example.com/own"), None);
    }

    #[test]
    fn a_fit_request_is_signed_and_another_told_why_not() {
        let signing = authorities();
        let Outcome::Certificate(pem) =
            decide(&signing.clients, &wish(&["client auth"], Some(3600)), LONGEST, now()).unwrap()
        else {
            panic!("it is fit")
        };
        assert_eq!(kedge_certs::not_after(pem.as_bytes()), Some(NOW + 3600));
        let unfit = decide(&signing.clients, &wish(&["server auth"], None), LONGEST, now()).unwrap();
        let settled = settled(json!({"status": {"conditions": [{"type": "Approved"}]}}), unfit, now());
        let failed = &settled["status"]["conditions"][1];
        assert_eq!((&failed["type"], &failed["reason"]), (&json!("Failed"), &json!("SignerValidationFailure")));
        assert_eq!(failed["message"], "invalid usage for client certificate: server auth");
    }

    #[test]
    fn an_authority_that_has_run_out_is_asked_again() {
        let later = Timestamp::from_second(NOW + 4000 * 86_400).unwrap();
        let undone = decide(&authorities().clients, &wish(&["client auth"], None), LONGEST, later).unwrap_err();
        assert!(
            undone.to_string().starts_with("error auto signing csr: the signer has expired: NotAfter="),
            "{undone}"
        );
    }
}
