//! Refuses cordoned nodes, unless the pod tolerates the taint that stands for it.

use crate::api::{Effect, Taint, tolerated};
use crate::cache::NodeInfo;
use crate::framework::{Event, Incoming, NodeFilter, Plugin, PreFilter, Rejection, View};

const REASON: &str = "node(s) were unschedulable";

/// The plugin.
pub struct NodeUnschedulable;

struct Filter;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdd, Event::NodeTaint]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, _view: View<'a>) -> PreFilter<'a> {
        let taint =
            Taint { key: "node.kubernetes.io/unschedulable".into(), value: String::new(), effect: Effect::NoSchedule };
        if tolerated(&incoming.spec.tolerations, &taint) { PreFilter::Skip } else { PreFilter::Check(Box::new(Filter)) }
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.node.unschedulable { Err(Rejection::unresolvable(REASON)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::filter;
    use crate::testing::{node_with, with_spec};
    use serde_json::json;

    #[test]
    fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
        let nodes = [node_with("n", json!({}), json!({"unschedulable": true}))];
        assert_eq!(filter(&NodeUnschedulable, &with_spec("p", json!({})), nodes.clone(), []), [Err(REASON.to_owned())]);
        let tolerant = json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
        assert_eq!(filter(&NodeUnschedulable, &with_spec("p", tolerant), nodes, []), [Ok(())]);
    }
}
