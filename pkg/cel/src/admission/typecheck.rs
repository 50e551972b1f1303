//! What can be said of a policy's expressions when it is known what the objects are that they are about.

use std::sync::Arc;

use super::{environment, shown, with_variables};
use crate::decl::Decl;
use crate::{Env, Type};

/// Checks expressions against types. It says nothing of what they come to.
#[derive(Debug)]
pub struct TypeCheck(Env);

impl TypeCheck {
    /// `params` is there if there are parameters; it, and objects, may be of no known type.
    pub fn new(object: Option<&Arc<Decl>>, params: Option<Option<&Arc<Decl>>>, variables: &[(&str, &str)]) -> Self {
        let base = environment::typed(object, params);
        let mut known: Vec<(Box<str>, Type)> = Vec::new();
        let mut env = with_variables(&base, &known);
        for (name, expression) in variables {
            let of = env.check(expression).map_or(Type::Dyn, |checked| shown(checked.result_type()));
            known.retain(|(known, _)| **known != **name);
            known.push(((*name).into(), of));
            env = with_variables(&base, &known);
        }
        Self(env)
    }

    /// What is wrong with an expression.
    pub fn complaint(&self, expression: &str) -> Option<String> {
        self.0.check(expression).err().map(|errors| errors.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_that_a_type_does_not_have_are_told() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}});
        let decl = Arc::new(Decl::from_schema(&schema, "Deployment", true));
        let check =
            TypeCheck::new(Some(&decl), Some(None), &[("n", "object.spec.replicas"), ("bad", "object.nothing")]);
        assert_eq!(check.complaint("object.spec.replicas > params.max && variables.n > 1 && variables.bad"), None);
        let why = check.complaint("object.spec.replicsa > 1").unwrap();
        assert!(why.starts_with("ERROR: <input>:1:12: undefined field 'replicsa'"), "{why}");
        assert!(check.complaint("variables.n == 'a'").unwrap().contains("found no matching overload"));
        assert!(check.complaint("oldObject.metadata.name == 1").is_some(), "the root has metadata");
        let without = TypeCheck::new(None, None, &[]);
        assert!(without.complaint("params.a").unwrap().contains("undeclared reference to 'params'"));
    }
}
