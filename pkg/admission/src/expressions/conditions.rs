//! The conditions under which a webhook or a policy has to do with a request.

use kedge_cel::limits::RUNTIME_COST_BUDGET_MATCH_CONDITIONS;
use kedge_cel::{Budget, Value as Expressed};
use kedge_registry::value::ValueExt as _;
use serde_json::Value;

use super::{Expression, Given, Scope, Variable};
use crate::aggregate;

/// `matchConditions`, compiled.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Box<[Expression]>);

impl Conditions {
    /// Reads them from what has them.
    pub(crate) fn read(from: &Value, mut compile: impl FnMut(&str) -> Expression) -> Self {
        Self(from.list(&["matchConditions"]).iter().map(|one| compile(one.text(&["expression"]))).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of them hold. One that does not decides, whatever is wrong with others.
    ///
    /// # Errors
    /// What keeps that from being known.
    pub(crate) fn hold(&self, given: &Given<'_>, variables: &[Variable]) -> Result<bool, String> {
        let budget = Budget::new(RUNTIME_COST_BUDGET_MATCH_CONDITIONS);
        // As upstream: conditions are not told of the namespace.
        let given = Given { namespace: &Value::Null, ..*given };
        let scope = Scope::new(&given, variables, &budget);
        let scope = scope.closed();
        let (mut errors, mut hold) = (Vec::new(), true);
        for condition in &self.0 {
            // Nothing is left for those that follow, nor for what those before have said.
            match scope.evaluate(condition).map_err(|exhausted| exhausted.to_string())? {
                Ok(Expressed::Bool(holds)) => hold &= holds,
                Ok(other) => errors.push(format!("expression '{}' resulted in {}", condition.text, other.show())),
                Err(why) => errors.push(why),
            }
        }
        match aggregate(&errors) {
            Some(why) if hold => Err(why),
            _ => Ok(hold),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use futures::FutureExt as _;
    use kedge_auth::{Authorizer, Deciding, Decision, Request};
    use kedge_registry::{Attributes, Operation};
    use serde_json::json;

    /// Allows what is asked in the name of somebody's verb; if it must ask somebody, later.
    struct Allows(&'static str, bool);

    impl Authorizer for Allows {
        fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
            let user = request.user.map_or("", |user| &user.name);
            let asked = format!("{user} {} {}/{}", request.verb, request.namespace, request.resource);
            let decision =
                if asked == self.0 { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) };
            if self.1 { Deciding::later(std::future::ready(decision)) } else { decision.into() }
        }
    }

    fn hold(conditions: &[&str], allows: &'static str) -> Result<bool, String> {
        let held = held(conditions, Allows(allows, false));
        assert_eq!(held, self::held(conditions, Allows(allows, true)), "answers that take time are the same");
        held
    }

    fn held(conditions: &[&str], allows: Allows) -> Result<bool, String> {
        let conditions: Vec<Value> = conditions.iter().map(|text| json!({"name": "c", "expression": text})).collect();
        let conditions = Conditions::read(&json!({ "matchConditions": conditions }), Expression::condition);
        let user = testing::user();
        let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
        attributes.namespace = "a";
        let (object, request) = (json!({"metadata": {"name": "p"}}), json!({"operation": "CREATE"}));
        let judge = super::super::Judge::new(&allows, attributes.user);
        let given = Given { request: &request, object: &object, judge: Some((&judge, &attributes)), ..Given::NOTHING };
        judge.judged(|| conditions.hold(&given, &[])).now_or_never().unwrap()
    }

    #[test]
    fn one_that_does_not_hold_decides() {
        assert_eq!(
            hold(&["object.metadata.name == 'p'", "oldObject == null", "request.operation == 'CREATE'"], ""),
            Ok(true)
        );
        assert_eq!(hold(&["true", "false"], ""), Ok(false));
        assert_eq!(hold(&["object.none == 1", "false"], ""), Ok(false), "also behind one that fails");
        let error = "expression 'object.none == 1' resulted in error: no such key: none";
        assert_eq!(hold(&["object.none == 1", "true"], ""), Err(error.to_owned()));
        let both = hold(&["object.none == 1", "object.other == 1"], "").unwrap_err();
        assert!(both.starts_with(&format!("[{error}, ")), "{both}");
        assert!(hold(&["bogus"], "").unwrap_err().starts_with("compilation error: compilation failed: "));
        assert_eq!(hold(&["namespaceObject == null"], ""), Ok(true));
    }

    #[test]
    fn rights_are_those_of_who_asks_or_is_named() {
        let own = "authorizer.requestResource.check('get').allowed()";
        assert_eq!(hold(&[own], "somebody get a/pods"), Ok(true));
        assert_eq!(hold(&[own], ""), Ok(false));
        let other = "authorizer.serviceAccount('b', 's').group('').resource('nodes').check('list').allowed()";
        assert_eq!(hold(&[other], "system:serviceaccount:b:s list /nodes"), Ok(true));
    }
}
