//! Refuses nodes on which a host port of the pod is taken.

use crate::api::HostPort;
use crate::cache::NodeInfo;
use crate::framework::{Event, Incoming, NodeFilter, Plugin, PreFilter, Rejection, View};

const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

/// The plugin.
pub struct NodePorts;

struct Filter<'a>(&'a [HostPort]);

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::PodDelete, Event::NodeAdd]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, _view: View<'a>) -> PreFilter<'a> {
        match incoming.pod.host_ports.as_slice() {
            [] => PreFilter::Skip,
            ports => PreFilter::Check(Box::new(Filter(ports))),
        }
    }
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let taken = self.0.iter().any(|wanted| node.ports.iter().any(|used| used.conflicts(wanted)));
        if taken { Err(Rejection::unschedulable(REASON)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::filter;
    use crate::testing::{node, with_spec};
    use serde_json::{Value, json};

    #[test]
    fn ports_conflict_by_number_protocol_and_address() {
        let ports = |ports: Value| json!([{"name": "c", "ports": ports}]);
        let used = ports(json!([{"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 53, "protocol": "UDP"}]));
        let existing = with_spec("e", json!({"nodeName": "n", "containers": used}));
        let passes = |wanted: Value| {
            let pod = with_spec("p", json!({"containers": ports(json!([wanted]))}));
            filter(&NodePorts, &pod, [node("n", json!({}))], [existing.clone()])[0].is_ok()
        };
        assert!(passes(json!({"hostPort": 80, "hostIP": "10.0.0.2"})));
        assert!(!passes(json!({"hostPort": 80, "hostIP": "10.0.0.1"})));
        assert!(!passes(json!({"hostPort": 80, "hostIP": "0.0.0.0"})));
        assert!(passes(json!({"hostPort": 53})));
        assert!(!passes(json!({"hostPort": 53, "protocol": "UDP", "hostIP": "10.0.0.9"})));
        assert!(passes(json!({"containerPort": 80})));
    }
}
