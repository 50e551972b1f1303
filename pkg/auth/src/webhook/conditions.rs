//! The conditions under which an authorizer is asked: expressions over the question.

use std::sync::{Arc, LazyLock};

use kedge_cel::decl::Decl;
use kedge_cel::limits::PER_CALL_LIMIT;
use kedge_cel::{Budget, Env, EvalError, Expressions, Program, Type, Value as Expressed};
use serde_json::{Value, json};

use crate::together;

/// A condition, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    text: String,
    program: Program,
}

/// The environment of conditions, and the type of the question.
static ENV: LazyLock<(Env, Arc<Decl>)> = LazyLock::new(|| {
    let question = Arc::new(Decl::from_schema(&schema(), "kubernetes.SubjectAccessReviewSpec", false));
    (Env::builder(Expressions::Stored).typed_variable("request", &question).build(), question)
});

fn schema() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let requirement = json!({"type": "object", "properties": {"key": text, "operator": text, "values": texts}});
    let selector = json!({"type": "object", "properties": {
        "rawSelector": text, "requirements": {"type": "array", "items": requirement},
    }});
    json!({"type": "object", "properties": {
        "resourceAttributes": {"type": "object", "properties": {
            "namespace": text, "verb": text, "group": text, "version": text, "resource": text, "subresource": text,
            "name": text, "fieldSelector": selector, "labelSelector": selector,
        }},
        "nonResourceAttributes": {"type": "object", "properties": {"path": text, "verb": text}},
        "user": text, "groups": texts, "uid": text,
        "extra": {"type": "object", "additionalProperties": texts},
    }})
}

impl Condition {
    /// Compiles it.
    ///
    /// # Errors
    /// Why it is no condition, in upstream's words.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        let checked = ENV.0.check(text).map_err(|why| format!("compilation failed: {why}"))?;
        if *checked.result_type() != Type::Bool {
            return Err(format!("must evaluate to bool but got {}", checked.result_type()));
        }
        let program = checked.program().map_err(|why| format!("program instantiation failed: {why}"))?;
        Ok(Self { text: text.to_owned(), program })
    }

    fn holds(&self, question: &Value) -> Result<bool, String> {
        let budget = Budget::new(PER_CALL_LIMIT);
        let evaluated = || {
            let question = Expressed::typed(question, &ENV.1)?;
            self.program.evaluate(&vec![("request", question)], &budget)?.to_json()
        };
        match evaluated() {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("expression '{}' eval result type should be bool but got {other}", self.text)),
            Err(why) => {
                let why: EvalError = why;
                Err(format!("expression '{}' resulted in error: {why}", self.text))
            }
        }
        .map_err(|why| format!("cel evaluation error: {why}"))
    }
}

/// Whether all conditions hold. One that does not decides, whatever is wrong with others.
///
/// # Errors
/// What keeps that from being known.
pub(super) fn hold(conditions: &[Condition], question: &Value) -> Result<bool, String> {
    let mut errors = Vec::new();
    for condition in conditions {
        match condition.holds(question) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => errors.push(why),
        }
    }
    together(&errors).map_or(Ok(true), Err)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::authorizer::Request;
    use crate::webhook::spec;
    use kedge_meta::UserInfo;

    fn held(texts: &[&str], request: &Request<'_>) -> Result<bool, String> {
        let all: Vec<Condition> = texts.iter().map(|text| Condition::compile(text).unwrap()).collect();
        hold(&all, &spec::shown(request))
    }

    #[test]
    fn conditions_see_the_question() {
        let user = UserInfo::new("jane", &["dev"]);
        let labels = kedge_meta::labels::Selector::parse("a=b").unwrap();
        let pods = Request {
            user: Some(&user),
            verb: "list",
            version: "v1",
            resource: "pods",
            namespace: "kube-system",
            labels: Some(&labels),
            is_resource: true,
            ..Request::default()
        };
        let path = Request { user: Some(&user), verb: "get", path: "/x", ..Request::default() };
        for (text, of_pods, of_path) in [
            ("has(request.resourceAttributes)", true, false),
            ("has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'", true, false),
            ("request.?resourceAttributes.?subresource.orValue('none') == ''", true, false),
            ("!('system:masters' in request.groups) && request.user == 'jane' && request.uid == ''", true, true),
            ("has(request.nonResourceAttributes) && request.nonResourceAttributes.path == '/x'", false, true),
            (
                "request.?resourceAttributes.labelSelector.requirements.orValue([]).exists(r, r.key == 'a' && r.values == ['b'])",
                true,
                false,
            ),
            ("'example.com/x' in request.extra", false, false),
        ] {
            assert_eq!(held(&[text], &pods), Ok(of_pods), "{text}");
            assert_eq!(held(&[text], &path), Ok(of_path), "{text}");
        }
    }

    #[test]
    fn one_that_does_not_hold_decides_and_what_goes_wrong_is_told() {
        let request = Request { verb: "get", path: "/x", ..Request::default() };
        let (broken, never) = ("request.resourceAttributes.verb == 'get'", "request.user == 'jane'");
        assert_eq!(held(&[broken, never], &request), Ok(false));
        let why = held(&[broken, "request.user == ''"], &request).unwrap_err();
        assert!(
            why.contains(&format!("cel evaluation error: expression '{broken}' resulted in error: no such key")),
            "{why}"
        );
        let costly = "request.groups.all(a, request.groups.all(b, request.groups.all(c, a + b + c != '')))";
        let groups: Vec<String> = (0..200).map(|at| format!("g{at}")).collect();
        let user = UserInfo { groups, ..UserInfo::default() };
        let request = Request { user: Some(&user), ..request };
        assert!(held(&[costly], &request).unwrap_err().contains("cost limit"));
    }

    #[test]
    fn what_is_no_condition_is_told_in_upstreams_words() {
        let why = |text: &str| Condition::compile(text).unwrap_err();
        assert!(
            why("request.nothing").starts_with("compilation failed: ERROR: <input>:1:8: undefined field 'nothing'")
        );
        assert_eq!(why("request.user"), "must evaluate to bool but got string");
        assert!(why("a +").starts_with("compilation failed: "));
    }
}
