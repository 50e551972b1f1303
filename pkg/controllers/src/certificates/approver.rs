//! Approves the client certificates of nodes: a node's own, for who may ask for that, and any node's, for who may.

use std::sync::Arc;

use kedge_certs::SigningRequest;
use kedge_client::{Error, Informer, WorkQueue};
use kedge_meta::{ObjectKey, resources};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::debug;

use super::{APPROVED, Asked, Request, Wish, rules};
use crate::context::{Context, enqueue_changes, ignore_not_found};

struct Controller {
    ctx: Context,
    queue: WorkQueue<ObjectKey>,
    requests: Informer<Request>,
}

/// Starts the controller.
pub(super) fn start(ctx: &Context, requests: &Informer<Request>) {
    let queue = ctx.queue();
    enqueue_changes(requests, &queue);
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone(), requests: requests.clone() });
    let c = controller.clone();
    let synced = async move { c.requests.synced().await };
    ctx.work("csrapproving", &queue, 2, synced, controller, |c, key| async move { c.reconcile(key).await });
}

/// A right by which a request is approved, and what is said then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Right {
    subresource: &'static str,
    message: &'static str,
}

const OWN: Right = Right {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const ANY: Right = Right {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

/// The rights that each suffice for a request, in the order in which they are asked about.
fn sufficient(wish: &Wish, request: &SigningRequest) -> Vec<Right> {
    if wish.signer_name != rules::KUBELET_CLIENT || rules::kubelet_client(request, &wish.usages).is_err() {
        return Vec::new();
    }
    if wish.username == request.subject.common_name { vec![OWN, ANY] } else { vec![ANY] }
}

fn review(wish: &Wish, right: Right) -> Value {
    json!({
        "apiVersion": resources::SUBJECT_ACCESS_REVIEWS.api_version(),
        "kind": "SubjectAccessReview",
        "spec": {
            "user": wish.username, "uid": wish.uid, "groups": wish.groups, "extra": wish.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io", "version": "*", "resource": "certificatesigningrequests",
                "subresource": right.subresource, "verb": "create",
            },
        },
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reviewed {
    status: Verdict,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Verdict {
    allowed: bool,
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(known) = self.requests.get("", &key.name) else { return Ok(()) };
        let is_open = |request: &Request| request.status.certificate.is_none() && !request.is_decided();
        if known.spec.signer_name != rules::KUBELET_CLIENT || !is_open(&known) {
            return Ok(());
        }
        let resource = &resources::CERTIFICATE_SIGNING_REQUESTS;
        let mut full: Value = match self.ctx.client.get(resource, "", &key.name).await {
            Err(err) if err.is_not_found() => return Ok(()),
            read => read?,
        };
        if !is_open(&Request::deserialize(&full)?) {
            return Ok(());
        }
        let wish = Asked::deserialize(&full)?.spec;
        let request = match wish.read() {
            Ok(request) => request,
            Err(why) => {
                // It was read when it was created; what cannot be read here is for people to decide about.
                debug!(request = %key.name, error = %why, "cannot read a request");
                return Ok(());
            }
        };
        let rights = sufficient(&wish, &request);
        for right in &rights {
            let reviews = &resources::SUBJECT_ACCESS_REVIEWS;
            let reviewed: Reviewed = self.ctx.client.create(reviews, "", &review(&wish, *right)).await?;
            if reviewed.status.allowed {
                approve(&mut full, *right);
                let written: Result<Request, _> =
                    self.ctx.client.update_subresource(resource, "", &key.name, "approval", &full).await;
                return ignore_not_found(written.map(drop));
            }
        }
        if !rights.is_empty() {
            // Whoever asks may be given the right yet, and nothing tells of that.
            self.queue.add_after(key, known.pause(self.ctx.clock.now()));
        }
        Ok(())
    }
}

fn approve(request: &mut Value, right: Right) {
    let condition = json!({"type": APPROVED, "status": "True", "reason": "AutoApproved", "message": right.message});
    match request["status"]["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(condition),
        None => request["status"]["conditions"] = json!([condition]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::rules::tests::request;

    fn wish(signer: &str, user: &str, usages: &[&str]) -> Wish {
        Wish {
            signer_name: signer.into(),
            username: user.into(),
            usages: usages.iter().map(|usage| (*usage).to_owned()).collect(),
            ..Wish::default()
        }
    }

    #[test]
    fn only_client_certificates_of_nodes_are_approved_here() {
        let usages = &["client auth", "digital signature"][..];
        let node = request(&["system:nodes"], "system:node:a", &[]);
        let signer = rules::KUBELET_CLIENT;
        assert_eq!(sufficient(&wish(signer, "system:node:a", usages), &node), [OWN, ANY]);
        assert_eq!(sufficient(&wish(signer, "system:bootstrap:x", usages), &node), [ANY]);
        assert_eq!(sufficient(&wish(rules::CLIENT, "system:node:a", usages), &node), []);
        assert_eq!(sufficient(&wish(signer, "system:node:a", &["client auth"]), &node), []);
        let masters = request(&["system:masters"], "system:node:a", &[]);
        assert_eq!(sufficient(&wish(signer, "system:node:a", usages), &masters), []);
    }

    #[test]
    fn the_review_is_about_who_asked() {
        let mut wish = wish(rules::KUBELET_CLIENT, "jane", &[]);
        wish.groups = vec!["g".into()];
        wish.extra.insert("k".into(), vec!["v".into()]);
        let spec = &review(&wish, OWN)["spec"];
        assert_eq!((&spec["user"], &spec["groups"]), (&json!("jane"), &json!(["g"])));
        assert_eq!(spec["extra"], json!({"k": ["v"]}));
        assert_eq!(spec["resourceAttributes"]["subresource"], "selfnodeclient");
    }
}
