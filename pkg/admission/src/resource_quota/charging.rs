//! Charging quotas: requests of a namespace that come while others are being charged are charged together after them.

use std::collections::HashMap;
use std::sync::Arc;

use kedge_meta::{Reason, Status, UserInfo};
use kedge_quota::{Amounts, Change, Item, Quota, charge};
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::{self, UpdateOptions};
use kedge_registry::{Attributes, NoAdmission, Notes, Operation, Registry, WriteOptions};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::list;

/// How often the charge of a quota that somebody else wrote is tried again, as upstream.
const RETRIES: usize = 3;

/// Why a request is not charged.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    Forbidden(String),
    Failed(Box<Status>),
}

/// What a request wants to be charged, apart from the request.
pub(super) struct Wanted {
    group: String,
    plural: String,
    object: Value,
    old: Option<Value>,
    enforced: bool,
}

impl Wanted {
    pub(super) fn of(attributes: &Attributes<'_>) -> Self {
        Self {
            group: attributes.resource.group.to_string(),
            plural: attributes.resource.plural.to_string(),
            object: attributes.object.clone(),
            old: attributes.old.filter(|_| attributes.operation == Operation::Update).cloned(),
            enforced: attributes.subresource != "status",
        }
    }

    pub(super) fn change(&self) -> Change<'_> {
        let item = |object| Item::of(&self.group, &self.plural, object);
        Change { item: item(&self.object), old: self.old.as_ref().map(item), enforced: self.enforced }
    }
}

/// A request that waits to be charged. There are no more of them than writing requests are let in.
pub(super) struct Waiter {
    wanted: Arc<Wanted>,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

/// The requests of a namespace.
#[derive(Default)]
pub(super) struct Line {
    /// Held by who charges for all that wait.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) waiting: Mutex<Vec<Waiter>>,
}

/// The namespaces in which somebody waits.
#[derive(Default)]
pub(super) struct Charging {
    lines: Mutex<HashMap<String, Arc<Line>>>,
}

/// The quotas of a namespace as they are stored.
pub(super) fn quotas_of(registry: &Registry, namespace: &str) -> Result<Vec<Value>, Status> {
    list(registry, ("", "resourcequotas"), namespace)
}

impl Charging {
    /// Charges what is wanted to all quotas that it concerns.
    pub(super) async fn charge(&self, registry: &Registry, namespace: &str, wanted: Wanted) -> Result<(), Refusal> {
        let line = self.lines.lock().entry(namespace.to_owned()).or_default().clone();
        let _leaves = Leaving { charging: self, namespace };
        let wanted = Arc::new(wanted);
        loop {
            let (answer, mut asked) = oneshot::channel();
            line.waiting.lock().push(Waiter { wanted: wanted.clone(), answer });
            let turn = line.turn.lock().await;
            match asked.try_recv() {
                Ok(answer) => return answer,
                // Who had taken it was given up.
                Err(oneshot::error::TryRecvError::Closed) => continue,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let waiters = std::mem::take(&mut *line.waiting.lock());
            charge_all(registry, namespace, waiters).await;
            drop(turn);
            match asked.try_recv() {
                Ok(answer) => return answer,
                Err(_) => return Err(failed(Status::internal("resource quota evaluation gave no answer"))),
            }
        }
    }
}

#[cfg(test)]
impl Charging {
    /// The line of a namespace, as one that waits in it has it.
    pub(super) fn line(&self, namespace: &str) -> Arc<Line> {
        self.lines.lock().entry(namespace.to_owned()).or_default().clone()
    }

    /// Whether nobody waits anywhere.
    pub(super) fn is_idle(&self) -> bool {
        self.lines.lock().is_empty()
    }
}

/// Forgets a namespace when the last one leaves it.
struct Leaving<'a> {
    charging: &'a Charging,
    namespace: &'a str,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut lines = self.charging.lines.lock();
        // The map has one, and who leaves still has another.
        if lines.get(self.namespace).is_some_and(|line| Arc::strong_count(line) <= 2) {
            lines.remove(self.namespace);
        }
    }
}

fn failed(status: Status) -> Refusal {
    Refusal::Failed(Box::new(status))
}

/// What came of charging those who wait.
enum Round {
    /// All quotas that changed are written.
    Written,
    /// These were written by somebody else meanwhile.
    Behind(Vec<String>, Status),
    Failed(Status),
}

/// Charges everybody who waits; what somebody else wrote meanwhile is tried again.
async fn charge_all(registry: &Registry, namespace: &str, waiters: Vec<Waiter>) {
    let (mut left, mut only, mut retries) = (waiters, None, RETRIES);
    loop {
        let round = round(registry, namespace, only.as_deref(), &mut left).await;
        let last = match round {
            Round::Written => return answer(left, &Ok(())),
            Round::Failed(status) => return answer(left, &Err(failed(status))),
            Round::Behind(_, status) if retries == 0 => return answer(left, &Err(failed(status))),
            Round::Behind(names, _) => names,
        };
        retries -= 1;
        only = Some(last);
        // What the others wrote has to come in first.
        if let Err(err) = registry.fresh().await {
            return answer(left, &Err(failed(verbs::store_failure(err))));
        }
    }
}

fn answer(waiters: Vec<Waiter>, answer: &Result<(), Refusal>) {
    for waiter in waiters {
        // Who has given up asks no more.
        let _gone = waiter.answer.send(answer.clone());
    }
}

/// Charges the quotas of a namespace (only those of these names) for all who wait, with one write each. Who is refused, or changes
/// nothing, is answered; the others are left.
async fn round(registry: &Registry, namespace: &str, only: Option<&[String]>, left: &mut Vec<Waiter>) -> Round {
    let mut stored = match quotas_of(registry, namespace) {
        Ok(stored) => stored,
        Err(status) => return Round::Failed(status),
    };
    stored.retain(|quota| only.is_none_or(|names| names.iter().any(|name| name == quota.name())));
    let charged = decide(&stored, left, registry.clock.now());
    let (mut behind, mut last) = (Vec::new(), None);
    for (quota, used) in stored.iter().zip(charged) {
        let Some(used) = used else { continue };
        match write(registry, quota, &used).await {
            Ok(()) => {}
            Err(status) if matches!(status.reason, Reason::Conflict | Reason::NotFound) => {
                behind.push(quota.name().to_owned());
                last = Some(status);
            }
            Err(status) => return Round::Failed(status),
        }
    }
    last.map_or(Round::Written, |status| Round::Behind(behind, status))
}

/// What each quota has used after everybody was charged who has room; none for those that do not change.
fn decide(stored: &[Value], left: &mut Vec<Waiter>, now: jiff::Timestamp) -> Vec<Option<Amounts>> {
    let mut quotas: Vec<Quota<'_>> = stored.iter().map(Quota::of).collect();
    // Who has given up is not charged.
    for waiter in std::mem::take(left).into_iter().filter(|waiter| !waiter.answer.is_closed()) {
        match charge(&mut quotas, &waiter.wanted.change(), now) {
            Ok(true) => left.push(waiter),
            Ok(false) => answer(vec![waiter], &Ok(())),
            Err(why) => answer(vec![waiter], &Err(Refusal::Forbidden(why))),
        }
    }
    let changed = |quota: Quota<'_>, was: &Value| (quota.used != Quota::of(was).used).then_some(quota.used);
    quotas.into_iter().zip(stored).map(|(quota, was)| changed(quota, was)).collect()
}

/// Writes what a quota has used, if it still is the one that was read.
async fn write(registry: &Registry, quota: &Value, used: &Amounts) -> Result<(), Status> {
    let served = registry.builtin("", "v1", "resourcequotas").ok_or_else(Status::unknown_path)?;
    let user = UserInfo::new("system:apiserver", &[kedge_auth::MASTERS]);
    let request = verbs::Request {
        registry,
        served,
        admission: &NoAdmission,
        user: &user,
        namespace: quota.namespace(),
        name: quota.name(),
        subresource: "status",
        dry_run: false,
        options: WriteOptions::default(),
        writer: verbs::Writer::Manager("kube-apiserver".into()),
        later: verbs::Later::default(),
        notes: Notes::default(),
    };
    let used: Map<String, Value> = used.iter().map(|(name, n)| (name.clone(), n.to_string().into())).collect();
    let transform = |_: Option<&Value>| {
        let mut new = quota.clone();
        new.entry("status").insert("used".into(), used.clone().into());
        Ok(new)
    };
    verbs::update(&request, &transform, UpdateOptions::default()).await.map(drop)
}
