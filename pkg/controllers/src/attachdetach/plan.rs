//! What is to be done about a volume on a node. Nothing is remembered but since when it is not wanted there.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::objects::Attachment;
use crate::objects::parse_time;

/// How long a node that is not well is waited for to unmount a volume.
pub(super) const UNMOUNT: Duration = Duration::from_secs(6 * 60);
/// How long an attacher is waited for before somebody is told, or another node has its turn.
pub(super) const ATTACHER: Duration = Duration::from_secs(2 * 60);

/// A node as far as volumes on it depend on it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NodeState {
    pub ready: bool,
    /// It has been declared to be gone for good, and its volumes with it.
    pub out_of_service: bool,
    /// It says that it has the volume mounted, or there is no knowing.
    pub mounted: bool,
}

/// What is known of a volume on a node.
#[derive(Debug, Clone)]
pub(super) struct Facts<'a> {
    /// A pod on the node needs it there, and the node leaves attaching to controllers.
    pub wanted: bool,
    pub attachment: Option<&'a Attachment>,
    /// It may be on one node at a time.
    pub exclusive: bool,
    /// Its attachments to other nodes.
    pub others: &'a [&'a Attachment],
    pub node: NodeState,
    /// How long it has not been wanted there.
    pub unwanted: Duration,
    pub now: Timestamp,
}

/// Why a volume is taken from a node that has not unmounted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    Timeout,
    OutOfService,
}

impl Force {
    /// As metrics have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::OutOfService => "out-of-service",
        }
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is neither wanted nor there.
    Rest,
    /// It is wanted and there.
    Attached,
    /// The attachment is to be made.
    Attach,
    /// The attacher is at work, for that much longer before somebody is told.
    Await(Duration),
    /// The attacher has not been heard of for too long.
    Late,
    /// It failed, or cannot be for now.
    Failed(String),
    /// It is on those nodes, and may not be on another.
    Elsewhere(BTreeSet<String>),
    /// Another node's turn ends first, in that time at the latest.
    Queue(Duration),
    /// It is mounted, and waited for; that much longer, if the node is not well.
    Mounted(Duration),
    /// The attachment is to go; with what the node says, unless that is overruled.
    Detach(Option<Force>),
    /// The attachment goes.
    Leaving,
}

/// How much is left of the time that an attacher has from a moment on.
fn left(since: Option<&String>, now: Timestamp) -> Duration {
    let gone = parse_time(since)
        .map_or(Duration::ZERO, |since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
    ATTACHER.saturating_sub(gone)
}

pub(super) fn step(facts: &Facts<'_>) -> Step {
    if facts.wanted { attach(facts) } else { detach(facts) }
}

fn attach(facts: &Facts<'_>) -> Step {
    let Some(attachment) = facts.attachment else { return place(facts) };
    if attachment.metadata.is_deleting() {
        return Step::Failed("volume attachment is being deleted".to_owned());
    }
    if attachment.status.attached {
        return Step::Attached;
    }
    if let Some(error) = &attachment.status.attach_error {
        return Step::Failed(error.message.clone());
    }
    match left(attachment.metadata.creation_timestamp.as_ref(), facts.now) {
        Duration::ZERO => Step::Late,
        left => Step::Await(left),
    }
}

/// Whether it may come to the node, seen from the others.
fn place(facts: &Facts<'_>) -> Step {
    let mut busy = Duration::ZERO;
    let mut nodes = BTreeSet::new();
    for other in facts.others.iter().filter(|_| facts.exclusive) {
        let metadata = &other.metadata;
        if metadata.is_deleting() {
            busy = busy.max(left(metadata.deletion_timestamp.as_ref(), facts.now));
        } else if other.status.attached {
            nodes.insert(other.spec.node_name.clone());
        } else {
            busy = busy.max(left(metadata.creation_timestamp.as_ref(), facts.now));
        }
    }
    if !busy.is_zero() {
        Step::Queue(busy)
    } else if !nodes.is_empty() {
        Step::Elsewhere(nodes)
    } else {
        Step::Attach
    }
}

fn detach(facts: &Facts<'_>) -> Step {
    let Some(attachment) = facts.attachment else { return Step::Rest };
    if attachment.metadata.is_deleting() {
        return Step::Leaving;
    }
    let NodeState { ready, out_of_service, mounted } = facts.node;
    let expired = facts.unwanted >= UNMOUNT;
    let is_lost = out_of_service || (expired && !ready);
    if mounted && !is_lost {
        return Step::Mounted(UNMOUNT.saturating_sub(facts.unwanted));
    }
    // Upstream counts the time first where there are two reasons.
    Step::Detach(match (expired, out_of_service) {
        (true, _) => Some(Force::Timeout),
        (false, true) => Some(Force::OutOfService),
        (false, false) => None,
    })
}

/// What is told of a volume that is on other nodes, to a pod in `namespace`. `users` are the pods that need it there, by namespace and
/// name; those of other namespaces are not named.
pub(super) fn elsewhere(users: &[(&str, &str)], namespace: &str) -> String {
    let names: Vec<&str> = users.iter().filter(|(of, _)| *of == namespace).map(|(_, name)| *name).collect();
    let others = users.len() - names.len();
    match (names.is_empty(), others) {
        (true, 0) => "Volume is already exclusively attached to one node and can't be attached to another".to_owned(),
        (true, others) => format!("Volume is already used by {others} pod(s) in different namespaces"),
        (false, 0) => format!("Volume is already used by pod(s) {}", names.join(", ")),
        (false, others) => {
            let names = names.join(", ");
            format!("Volume is already used by pod(s) {names} and {others} pod(s) in different namespaces")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    const NOW: &str = "2026-01-01T01:00:00Z";
    const LATELY: &str = "2026-01-01T00:59:30Z";
    const EARLIER: &str = "2026-01-01T00:00:00Z";

    fn attachment(node: &str, created: &str, deleted: Value, status: Value) -> Attachment {
        let metadata = json!({"name": "a", "creationTimestamp": created, "deletionTimestamp": deleted});
        let spec = json!({ "nodeName": node });
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    fn facts<'a>(wanted: bool, attachment: Option<&'a Attachment>, others: &'a [&'a Attachment]) -> Facts<'a> {
        let node = NodeState { ready: true, ..NodeState::default() };
        let now = NOW.parse().unwrap();
        Facts { wanted, attachment, exclusive: true, others, node, unwanted: Duration::ZERO, now }
    }

    #[test]
    fn an_attachment_is_made_and_waited_for() {
        let of = |created, deleted, status| attachment("n", created, deleted, status);
        let (no, yes) = (json!({}), json!({"attached": true}));
        let wanted = |attachment: &Attachment| step(&facts(true, Some(attachment), &[]));
        assert_eq!(step(&facts(true, None, &[])), Step::Attach);
        assert_eq!(wanted(&of(LATELY, Value::Null, no.clone())), Step::Await(Duration::from_secs(90)));
        assert_eq!(wanted(&of(EARLIER, Value::Null, no)), Step::Late);
        assert_eq!(wanted(&of(EARLIER, Value::Null, yes.clone())), Step::Attached);
        let failed = json!({"attachError": {"message": "no such disk"}});
        assert_eq!(wanted(&of(LATELY, Value::Null, failed)), Step::Failed("no such disk".into()));
        let leaving = Step::Failed("volume attachment is being deleted".into());
        assert_eq!(wanted(&of(EARLIER, json!(LATELY), yes)), leaving);
    }

    #[test]
    fn an_exclusive_volume_is_on_one_node_at_a_time() {
        let yes = json!({"attached": true});
        let on = |deleted, status| attachment("other", EARLIER, deleted, status);
        let verdict = |other: &Attachment| step(&facts(true, None, &[other]));
        let there = on(Value::Null, yes.clone());
        assert_eq!(verdict(&there), Step::Elsewhere(BTreeSet::from(["other".to_owned()])));
        assert_eq!(verdict(&on(json!(LATELY), yes.clone())), Step::Queue(Duration::from_secs(90)));
        // An attacher that does not answer does not hold up the others for ever.
        assert_eq!(verdict(&on(json!(EARLIER), yes)), Step::Attach);
        assert_eq!(verdict(&on(Value::Null, json!({}))), Step::Attach);
        let others = [&there];
        let shared = Facts { exclusive: false, ..facts(true, None, &others) };
        assert_eq!(step(&shared), Step::Attach);
    }

    #[test]
    fn a_volume_is_taken_away_when_it_is_unmounted_or_the_node_is_lost() {
        let there = attachment("n", EARLIER, Value::Null, json!({"attached": true}));
        let verdict = |ready, out_of_service, mounted, minutes: u64| {
            let node = NodeState { ready, out_of_service, mounted };
            let unwanted = Duration::from_secs(60 * minutes);
            step(&Facts { node, unwanted, ..facts(false, Some(&there), &[]) })
        };
        assert_eq!(verdict(true, false, false, 0), Step::Detach(None));
        assert_eq!(verdict(true, false, true, 2), Step::Mounted(Duration::from_secs(240)));
        assert_eq!(verdict(true, false, true, 7), Step::Mounted(Duration::ZERO), "a node that is well is waited for");
        assert_eq!(verdict(false, false, true, 5), Step::Mounted(Duration::from_secs(60)));
        assert_eq!(verdict(false, false, true, 6), Step::Detach(Some(Force::Timeout)));
        assert_eq!(verdict(false, true, true, 0), Step::Detach(Some(Force::OutOfService)));
        assert_eq!(verdict(true, true, true, 0), Step::Detach(Some(Force::OutOfService)));
        let leaving = attachment("n", EARLIER, json!(LATELY), json!({}));
        assert_eq!(step(&facts(false, Some(&leaving), &[])), Step::Leaving);
        assert_eq!(step(&facts(false, None, &[])), Step::Rest);
    }

    #[test]
    fn pods_of_other_namespaces_are_not_named() {
        let users = [("a", "p"), ("a", "q"), ("b", "r")];
        assert_eq!(
            elsewhere(&users, "a"),
            "Volume is already used by pod(s) p, q and 1 pod(s) in different namespaces"
        );
        assert_eq!(elsewhere(&users[..2], "a"), "Volume is already used by pod(s) p, q");
        assert_eq!(elsewhere(&users, "c"), "Volume is already used by 3 pod(s) in different namespaces");
        let nobody = "Volume is already exclusively attached to one node and can't be attached to another";
        assert_eq!(elsewhere(&[], "a"), nobody);
    }
}
