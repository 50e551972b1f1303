//! Removes requests that nobody needs any more. Upstream looks once an hour; here each has a timer.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kedge_client::{DeleteOptions, Error, Informer, WorkQueue};
use kedge_meta::{ObjectKey, resources};
use tracing::info;

use super::{APPROVED, DENIED, FAILED, Request};
use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::parse_time;

/// Nobody has decided, or nobody signs.
const PENDING: SignedDuration = SignedDuration::from_hours(24);
/// It is over.
const OVER: SignedDuration = SignedDuration::from_hours(1);
/// Times of the API have no smaller parts.
const TICK: SignedDuration = SignedDuration::from_secs(1);

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
    ctx.work("csrcleaner", &queue, 1, synced, controller, |c, key| async move { c.reconcile(key).await });
}

/// When a request is to go, and why.
fn end(request: &Request) -> Option<(Timestamp, &'static str)> {
    let issued = request.status.certificate;
    let mut ends = Vec::new();
    if request.status.conditions.is_empty() {
        let created = parse_time(request.metadata.creation_timestamp.as_ref());
        ends.push((created, PENDING, "nobody has decided about it"));
    }
    for condition in &request.status.conditions {
        let since = parse_time(condition.last_update_time.as_ref());
        match condition.kind.as_str() {
            DENIED => ends.push((since, OVER, "it was denied")),
            FAILED => ends.push((since, OVER, "it failed")),
            APPROVED if issued.is_none() => ends.push((since, PENDING, "it was approved, and nobody has signed")),
            APPROVED => {
                ends.push((since, OVER, "it was signed"));
                ends.push((issued.and_then(|issued| issued.0), SignedDuration::ZERO, "its certificate has run out"));
            }
            _ => {}
        }
    }
    // What has no date stays.
    let dated =
        |(since, keep, why): (Option<Timestamp>, SignedDuration, _)| Some((since?.checked_add(keep).ok()?, why));
    ends.into_iter().filter_map(dated).min_by_key(|(at, _)| *at)
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(request) = self.requests.get("", &key.name) else { return Ok(()) };
        let Some((at, why)) = end(&request) else { return Ok(()) };
        let left = at.duration_since(self.ctx.clock.now());
        if !left.is_negative() {
            let wait = Duration::try_from(left + TICK).unwrap_or(Duration::from_secs(1));
            self.queue.add_after(key, wait);
            return Ok(());
        }
        info!(request = %key.name, why, "removing a certificate signing request");
        let options = DeleteOptions::with_uid(&request.metadata.uid);
        let resource = &resources::CERTIFICATE_SIGNING_REQUESTS;
        ignore_not_found(self.ctx.client.delete(resource, "", &key.name, &options).await)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::certificates::Issued;
    use crate::objects::Condition;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW + seconds).unwrap()
    }

    fn request(conditions: &[&str], issued: Option<i64>) -> Request {
        let text = |seconds| Some(kedge_base::time::rfc3339(at(seconds)));
        let mut request = Request::default();
        request.metadata.creation_timestamp = text(0);
        let condition = |kind: &&str| Condition {
            kind: (*kind).to_owned(),
            last_update_time: text(10),
            ..Condition::new(kind, true, "", "", at(10))
        };
        request.status.conditions = conditions.iter().map(condition).collect();
        request.status.certificate = issued.map(|until| Issued(Some(at(until))));
        request
    }

    #[test]
    fn each_state_has_its_time() {
        let seconds = |request: &Request| end(request).map(|(end, _)| end.as_second() - NOW);
        let (hour, day) = (3_600, 86_400);
        assert_eq!(seconds(&request(&[], None)), Some(day));
        assert_eq!(seconds(&request(&[DENIED], None)), Some(10 + hour));
        assert_eq!(seconds(&request(&[APPROVED, FAILED], None)), Some(10 + hour));
        assert_eq!(seconds(&request(&[APPROVED], None)), Some(10 + day));
        assert_eq!(seconds(&request(&[APPROVED], Some(365 * day))), Some(10 + hour));
        assert_eq!(seconds(&request(&[APPROVED], Some(600))), Some(600), "it has run out before");
        assert_eq!(seconds(&request(&["Other"], None)), None);
    }

    #[test]
    fn what_has_no_date_stays() {
        let mut request = request(&[DENIED], None);
        request.status.conditions[0].last_update_time = None;
        assert_eq!(end(&request), None);
    }
}
