//! Flow schemas and priority levels.

use super::Hook::{self, Before};
use super::object::{Object, if_absent, if_zero};

pub(super) const HOOKS: &[Hook] = &[
    Before("api.flowcontrol.v1.FlowSchemaSpec", |spec| if_zero(spec, "matchingPrecedence", 1000)),
    Before("api.flowcontrol.v1.ExemptPriorityLevelConfiguration", |level| shares(level, 0)),
    Before("api.flowcontrol.v1.LimitedPriorityLevelConfiguration", |level| shares(level, 30)),
    Before("api.flowcontrol.v1.QueuingConfiguration", queuing),
];

fn shares(level: &mut Object, nominal: i32) {
    if_absent(level, "nominalConcurrencyShares", nominal);
    if_absent(level, "lendablePercent", 0);
}

fn queuing(queuing: &mut Object) {
    if_zero(queuing, "handSize", 8);
    if_zero(queuing, "queues", 64);
    if_zero(queuing, "queueLengthLimit", 50);
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::json;

    #[test]
    fn a_limited_level_has_shares_and_queues() {
        let mut level = json!({"spec": {"limited": {"limitResponse": {"queuing": {"handSize": 0}}}}});
        apply("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration", &mut level);
        assert_eq!(
            level["spec"]["limited"],
            json!({"nominalConcurrencyShares": 30, "lendablePercent": 0,
                "limitResponse": {"queuing": {"handSize": 8, "queues": 64, "queueLengthLimit": 50}}})
        );
    }
}
