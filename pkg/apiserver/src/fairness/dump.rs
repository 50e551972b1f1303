//! `/debug/api_priority_and_fairness/…`: who waits and who is served, for people, in upstream's columns.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::SharedClock;

use super::Level;
use super::queues::{Asking, State};
use crate::input::request_info::RequestInfo;

const PREFIX: &str = "/debug/api_priority_and_fairness/";
/// Nobody reads more; the busiest server has fewer requests.
const MAX_ROWS: usize = 20_000;

/// What a request is about.
#[derive(Debug, Default)]
pub(super) struct What {
    user: Box<str>,
    verb: Box<str>,
    path: Box<str>,
    namespace: Box<str>,
    name: Box<str>,
    version: Box<str>,
    resource: Box<str>,
    subresource: Box<str>,
}

impl What {
    pub fn of(user: &str, info: &RequestInfo) -> Arc<Self> {
        let version =
            if info.group.is_empty() { info.version.clone() } else { format!("{}/{}", info.group, info.version) };
        let text = |text: &str| Box::from(text);
        Arc::new(Self {
            user: text(user),
            verb: text(&info.verb),
            path: text(&info.path),
            namespace: text(&info.namespace),
            name: text(&info.name),
            version: version.into(),
            resource: text(&info.resource),
            subresource: text(&info.subresource),
        })
    }
}

/// The page at a path, if it is one of these.
pub(super) fn page(path: &str, details: bool, levels: &[Arc<Level>], clock: &SharedClock) -> Option<String> {
    match path.strip_prefix(PREFIX)? {
        "dump_priority_levels" => Some(table(LEVELS, levels.iter().map(level))),
        "dump_queues" => Some(table(QUEUES, levels.iter().flat_map(queues))),
        "dump_requests" => {
            let header: Vec<&str> = REQUESTS.iter().chain(DETAILS.iter().filter(|_| details)).copied().collect();
            let rows = levels.iter().flat_map(|level| requests(level, details, clock)).take(MAX_ROWS);
            Some(table(&header, rows))
        }
        _ => None,
    }
}

const LEVELS: &[&str] = &[
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];

fn level(level: &Arc<Level>) -> Vec<String> {
    level.seats.look(|state, _| {
        let active = state.queues.values().filter(|queue| !queue.waiting.is_empty()).count();
        let count = |of: &dyn Fn(&super::flows::Flow) -> u64| state.flows.iter().map(|(_, flow)| of(flow)).sum::<u64>();
        let refused = |reason: &str| count(&|flow| flow.refused.get(reason).copied().unwrap_or_default());
        let (waiting, executing) = (state.waiting, state.executing);
        let rejected = refused("queue-full") + refused("concurrency-limit") + refused("time-out");
        vec![
            level.name.clone(),
            active.to_string(),
            (waiting + executing == 0).to_string(),
            // A level that is gone is not shown.
            false.to_string(),
            waiting.to_string(),
            executing.to_string(),
            count(&|flow| flow.dispatched).to_string(),
            rejected.to_string(),
            refused("time-out").to_string(),
            refused("time-out").to_string(),
        ]
    })
}

const QUEUES: &[&str] = &[
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];

/// Those in which somebody is; the others have nothing to show.
fn queues(level: &Arc<Level>) -> Vec<Vec<String>> {
    level.seats.look(|state, _| {
        let row = |(at, queue): (&usize, &super::queues::Queue)| {
            let seats: usize = queue.waiting.iter().map(|waiting| waiting.asking.seats).sum();
            vec![
                level.name.clone(),
                at.to_string(),
                queue.waiting.len().to_string(),
                queue.executing.len().to_string(),
                queue.seats.to_string(),
                format!("{:.8}ss", queue.next_dispatch),
                seats.to_string(),
                seats.to_string(),
                format!("{:.8}ss", seats as f64 * super::queues::USUAL),
            ]
        };
        state.queues.iter().map(row).collect()
    })
}

const REQUESTS: [&str; 10] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: [&str; 8] =
    ["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"];

/// A request: its queue and its place in it, when it came, and since when it is served.
type Request<'a> = (Option<usize>, Option<usize>, &'a Asking, Duration, Option<Duration>);

fn requests(level: &Arc<Level>, details: bool, clock: &SharedClock) -> Vec<Vec<String>> {
    let wall = clock.now();
    level.seats.look(|state, now| {
        let at = |then: Duration| {
            let ago = jiff::SignedDuration::try_from(now.saturating_sub(then)).unwrap_or_default();
            (wall - ago).to_string()
        };
        let index = |index: Option<usize>| index.map_or("-1".to_owned(), |index| index.to_string());
        let row = |(queue, place, asking, arrived, started): Request<'_>| {
            let mut row = vec![
                level.name.clone(),
                asking.schema.to_string(),
                index(queue),
                index(place),
                asking.flow.to_string(),
                at(arrived),
                asking.seats.to_string(),
                "0".to_owned(),
                "0s".to_owned(),
                started.map_or("0001-01-01T00:00:00Z".to_owned(), at),
            ];
            if details {
                let What { user, verb, path, namespace, name, version, resource, subresource } = &*asking.what;
                row.extend(
                    [user, verb, path, namespace, name, version, resource, subresource].map(|text| text.to_string()),
                );
            }
            row
        };
        all(state).into_iter().map(row).collect()
    })
}

fn all(state: &State) -> Vec<Request<'_>> {
    let mut all = Vec::new();
    for (at, queue) in &state.queues {
        for (place, waiting) in queue.waiting.iter().enumerate() {
            all.push((Some(*at), Some(place), &waiting.asking, waiting.since, None));
        }
        let executing = queue.executing.values();
        all.extend(executing.map(|one| (Some(*at), None, &one.asking, one.arrived, Some(one.since))));
    }
    all.extend(state.unqueued.values().map(|one| (None, None, &one.asking, one.arrived, Some(one.since))));
    all
}

/// Columns as Go's tabwriter sets them: a comma after each, and as wide as its widest cell.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|name| (*name).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        let widest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count() + 2).max();
        widest.unwrap_or_default().max(8)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == row.len() {
                out.push_str(cell);
            } else {
                out.push_str(&format!("{:<1$}", format!("{cell},"), widths.get(column).copied().unwrap_or_default()));
            }
        }
        out.push('\n');
    }
    out
}
