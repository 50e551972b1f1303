//! The conditions under which a webhook is called.

use kedge_auth::{Authorizer, Decision, Request};
use kedge_cel::authorizer::{Answer, Authorizer as Judges, Check, Decision as Judged, ResourceTarget, Subject, Target};
use kedge_cel::limits::RUNTIME_COST_BUDGET_MATCH_CONDITIONS;
use kedge_cel::{Budget, EvalError, Program, Value as Expressed};
use kedge_meta::UserInfo;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, expressions};
use serde_json::Value;

use crate::aggregate;

/// The `matchConditions` of a webhook, compiled.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Box<[Condition]>);

#[derive(Debug)]
struct Condition {
    expression: Box<str>,
    /// Or why it cannot be compiled: it was stored by somebody who could.
    program: Result<Program, String>,
}

/// What conditions are about.
pub(crate) struct Question<'a> {
    pub request: &'a Value,
    pub object: &'a Value,
    pub old: &'a Value,
    pub attributes: &'a Attributes<'a>,
    pub authorizer: &'a dyn Authorizer,
}

impl Conditions {
    pub(crate) fn read(hook: &Value) -> Self {
        let condition = |condition: &Value| {
            let expression = condition.text(&["expression"]);
            Condition { expression: expression.into(), program: expressions::condition(expression.trim(), true) }
        };
        Self(hook.list(&["matchConditions"]).iter().map(condition).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of them hold. One that does not decides, whatever is wrong with others.
    ///
    /// # Errors
    /// What keeps that from being known.
    pub(crate) fn hold(&self, question: &Question<'_>) -> Result<bool, String> {
        let judge = Judge { authorizer: question.authorizer, user: question.attributes.user };
        let variables = vec![
            (expressions::OBJECT, Expressed::native(question.object)),
            (expressions::OLD_OBJECT, Expressed::native(question.old)),
            (expressions::REQUEST, Expressed::native(question.request)),
            // As upstream: webhooks are not told.
            (expressions::NAMESPACE_OBJECT, Expressed::Null),
            (expressions::AUTHORIZER, Expressed::authorizer(&judge)),
            (expressions::REQUEST_RESOURCE, Expressed::resource_check(&judge, target(question.attributes))),
        ];
        let budget = Budget::new(RUNTIME_COST_BUDGET_MATCH_CONDITIONS);
        let (mut errors, mut hold) = (Vec::new(), true);
        for Condition { expression, program } in &self.0 {
            let program = match program {
                Ok(program) => program,
                Err(why) => {
                    errors.push(format!("compilation error: {why}"));
                    continue;
                }
            };
            match program.evaluate(&variables, &budget) {
                Ok(Expressed::Bool(holds)) => hold &= holds,
                Ok(other) => errors.push(format!("expression '{expression}' resulted in {}", other.show())),
                // Nothing is left for those that follow, nor for what those before have said.
                Err(err @ EvalError::BudgetExhausted) => return Err(err.to_string()),
                Err(err) => errors.push(format!("expression '{expression}' resulted in error: {err}")),
            }
        }
        match aggregate(&errors) {
            Some(why) if hold => Err(why),
            _ => Ok(hold),
        }
    }
}

fn target(attributes: &Attributes<'_>) -> ResourceTarget {
    ResourceTarget {
        group: attributes.resource.group.as_str().into(),
        resource: attributes.resource.plural.as_str().into(),
        subresource: attributes.subresource.into(),
        namespace: attributes.namespace.into(),
        name: attributes.name.into(),
        ..ResourceTarget::default()
    }
}

/// Says what the user of a request may do.
struct Judge<'a> {
    authorizer: &'a dyn Authorizer,
    user: &'a UserInfo,
}

impl Judges for Judge<'_> {
    fn check(&self, check: &Check) -> Answer {
        let account;
        let user = match &check.subject {
            Subject::Requester => self.user,
            Subject::ServiceAccount { namespace, name } => {
                let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
                account = UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), &groups);
                &account
            }
        };
        let asked = Request { user: Some(user), verb: &check.verb, ..Request::default() };
        let asked = match &check.target {
            Target::Path(path) => Request { path, ..asked },
            Target::Resource(target) => Request {
                is_resource: true,
                group: &target.group,
                version: "*",
                resource: &target.resource,
                subresource: &target.subresource,
                namespace: &target.namespace,
                name: &target.name,
                ..asked
            },
        };
        let (allowed, reason) = match self.authorizer.authorize(&asked) {
            Decision::Allow(reason) => (true, reason),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => (false, reason),
        };
        Answer::Decided(Judged { allowed, reason: reason.into(), error: None })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;
    use serde_json::json;

    /// Allows what is asked in the name of somebody's verb.
    struct Allows(&'static str);

    impl Authorizer for Allows {
        fn authorize(&self, request: &Request<'_>) -> Decision {
            let user = request.user.map_or("", |user| &user.name);
            let asked = format!("{user} {} {}/{}", request.verb, request.namespace, request.resource);
            if asked == self.0 { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) }
        }
    }

    fn hold(conditions: &[&str], allows: &'static str) -> Result<bool, String> {
        let conditions: Vec<Value> = conditions.iter().map(|text| json!({"name": "c", "expression": text})).collect();
        let conditions = Conditions::read(&json!({ "matchConditions": conditions }));
        let user = testing::user();
        let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
        attributes.namespace = "a";
        let (object, request) = (json!({"metadata": {"name": "p"}}), json!({"operation": "CREATE"}));
        conditions.hold(&Question {
            request: &request,
            object: &object,
            old: &Value::Null,
            attributes: &attributes,
            authorizer: &Allows(allows),
        })
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
