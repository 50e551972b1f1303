//! Refuses all nodes but the one the pod names.
//!
//! A pod that names its node in `spec.nodeName` never reaches the scheduler, so that this plugin only keeps its place in
//! the profile, as it does upstream.

use crate::cache::NodeInfo;
use crate::framework::{Event, Incoming, NodeFilter, Plugin, PreFilter, Rejection, View};

const REASON: &str = "node(s) didn't match the requested node name";

/// The plugin.
pub struct NodeName;

struct Filter<'a>(&'a str);

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdd]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, _view: View<'a>) -> PreFilter<'a> {
        match incoming.pod.node_name.as_str() {
            "" => PreFilter::Skip,
            name => PreFilter::Check(Box::new(Filter(name))),
        }
    }
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.node.name() == self.0 { Ok(()) } else { Err(Rejection::unresolvable(REASON)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_node_passes() {
        assert!(Filter("a").filter(&NodeInfo::missing("a")).is_ok());
        assert!(Filter("a").filter(&NodeInfo::missing("b")).is_err());
    }
}
