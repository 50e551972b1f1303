//! The metrics of priority and fairness, by upstream's names.

use std::sync::Arc;

use kedge_base::exposition::{Exposition, written};

use super::Level;
use super::flows::Flow;

/// Everything of a level, taken at once.
struct Shown {
    level: Arc<Level>,
    limit: usize,
    waiting_and_executing: [usize; 2],
}

/// Writes them out.
pub(super) fn show(out: &mut Exposition, levels: &[Arc<Level>]) {
    let shown: Vec<Shown> = levels.iter().map(Shown::of).collect();
    of_levels(out, &shown);
    of_flows(out, &shown);
    for (name, help, of) in HISTOGRAMS {
        let name = format!("apiserver_flowcontrol_{name}");
        out.family(&name, "histogram", &format!("[BETA] {help}"));
        each_flow(&shown, |labels, flow| {
            of(flow, labels).into_iter().for_each(|(labels, one)| one.show(out, &name, &labels))
        });
    }
}

impl Shown {
    fn of(level: &Arc<Level>) -> Self {
        let (limit, waiting_and_executing) =
            level.seats.look(|state, _| (state.limit(), [state.waiting, state.executing]));
        Self { level: level.clone(), limit, waiting_and_executing }
    }
}

type OfLevel = fn(&Shown) -> f64;

const LEVELS: [(&str, &str, OfLevel); 8] = [
    ("nominal_limit_seats", "[BETA] Nominal number of execution seats configured for each priority level", |shown| {
        shown.level.bounds.nominal as f64
    }),
    (
        "lower_limit_seats",
        "[ALPHA] Configured lower bound on number of execution seats available to each priority level",
        |shown| shown.level.bounds.least as f64,
    ),
    (
        "upper_limit_seats",
        "[ALPHA] Configured upper bound on number of execution seats available to each priority level",
        |shown| shown.level.bounds.most as f64,
    ),
    (
        "current_limit_seats",
        "[ALPHA] current derived number of execution seats available to each priority level",
        |shown| shown.limit as f64,
    ),
    ("demand_seats_high_watermark", "[ALPHA] High watermark, over last adjustment period, of demand_seats", |shown| {
        shown.level.demand.lock().highest
    }),
    ("demand_seats_average", "[ALPHA] Time-weighted average, over last adjustment period, of demand_seats", |shown| {
        shown.level.demand.lock().average
    }),
    (
        "demand_seats_stdev",
        "[ALPHA] Time-weighted standard deviation, over last adjustment period, of demand_seats",
        |shown| shown.level.demand.lock().deviation,
    ),
    ("demand_seats_smoothed", "[ALPHA] Smoothed seat demands", |shown| shown.level.demand.lock().smoothed),
];

fn of_levels(out: &mut Exposition, shown: &[Shown]) {
    for (name, help, of) in LEVELS {
        let name = format!("apiserver_flowcontrol_{name}");
        out.family(&name, "gauge", help);
        for one in shown {
            out.sample(&name, &[("priority_level", &one.level.name)], of(one));
        }
    }
    const LOAD: &str = "kedge_flowcontrol_requests";
    out.family(LOAD, "gauge", "Requests at a priority level that wait and that are served.");
    for one in shown {
        for (phase, count) in ["waiting", "executing"].into_iter().zip(one.waiting_and_executing) {
            out.sample(LOAD, &[("priority_level", &one.level.name), ("phase", phase)], count as f64);
        }
    }
}

type OfFlow = fn(&Flow) -> f64;

const FLOWS: [(&str, &str, &str, OfFlow); 4] = [
    (
        "dispatched_requests_total",
        "counter",
        "[BETA] Number of requests executed by API Priority and Fairness subsystem",
        |flow| flow.dispatched as f64,
    ),
    (
        "current_inqueue_requests",
        "gauge",
        "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
        |flow| flow.waiting as f64,
    ),
    (
        "current_executing_requests",
        "gauge",
        "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
        |flow| flow.executing as f64,
    ),
    (
        "current_executing_seats",
        "gauge",
        "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
        |flow| flow.seats as f64,
    ),
];

fn of_flows(out: &mut Exposition, shown: &[Shown]) {
    for (name, kind, help, of) in FLOWS {
        let name = format!("apiserver_flowcontrol_{name}");
        out.family(&name, kind, help);
        each_flow(shown, |labels, flow| out.line(&name, &written(&labels), of(flow)));
    }
    const REJECTED: &str = "apiserver_flowcontrol_rejected_requests_total";
    out.family(REJECTED, "counter", "[BETA] Number of requests rejected by API Priority and Fairness subsystem");
    each_flow(shown, |[level, schema], flow| {
        for (reason, count) in &flow.refused {
            out.sample(REJECTED, &[schema, level, ("reason", reason)], *count as f64);
        }
    });
}

type Labels<'a> = [(&'a str, &'a str); 2];
type OfHistogram = for<'a> fn(&'a Flow, Labels<'_>) -> Vec<(String, &'a kedge_base::exposition::Histogram<11>)>;

const HISTOGRAMS: [(&str, &str, OfHistogram); 2] = [
    (
        "request_wait_duration_seconds",
        "Length of time a request spent waiting in its queue",
        |flow, [level, schema]| {
            let one = |at: usize, execute: &str| (written(&[("execute", execute), schema, level]), &flow.waits[at]);
            vec![one(0, "true"), one(1, "false")]
        },
    ),
    (
        "request_execution_seconds",
        "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem",
        |flow, [level, schema]| vec![(written(&[schema, level]), &flow.took)],
    ),
];

fn each_flow(shown: &[Shown], mut each: impl FnMut(Labels<'_>, &Flow)) {
    for one in shown {
        one.level.seats.look(|state, _| {
            for (schema, flow) in state.flows.iter() {
                each([("priority_level", &one.level.name), ("flow_schema", schema)], flow);
            }
        });
    }
}
