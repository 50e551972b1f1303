//! Functions: what is declared, and what does it.
//!
//! Invariants: overloads of a function are asked in the order in which they were declared; an overload has an implementation of its own, or the
//! function has one for all.

use std::collections::HashMap;
use std::sync::Arc;

use crate::context::Context;
use crate::types::{Type, parse_signature};
use crate::value::{Evaluated, Value};

/// What a function does with arguments that are no errors.
pub(crate) type Implementation = for<'a> fn(&mut Context<'_>, &mut [Value<'a>]) -> Evaluated<'a>;

/// One way to call a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub id: &'static str,
    pub member: bool,
    pub args: Arc<[Type]>,
    pub result: Type,
    /// The parameters in the types.
    pub params: Box<[char]>,
    pub implementation: Option<Implementation>,
}

/// A function.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub name: Arc<str>,
    pub overloads: Vec<Arc<Overload>>,
    /// Does it for all overloads.
    pub common: Option<Implementation>,
    /// Whether arguments are looked at before an implementation gets them.
    pub guarded: bool,
}

/// Functions by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Functions {
    table: HashMap<Arc<str>, Arc<Function>>,
    /// Declarations that could not be read: a mistake in a table, which a test finds.
    pub broken: Vec<&'static str>,
}

impl Functions {
    /// A function by its whole name.
    pub fn find(&self, name: &str) -> Option<&Arc<Function>> {
        self.table.get(name)
    }

    /// Declares an overload with an implementation of its own.
    pub fn declare(&mut self, id: &'static str, signature: &'static str, implementation: Implementation) {
        self.overload(id, signature, Some(implementation));
    }

    /// Declares overloads that have one implementation.
    pub fn declare_common(&mut self, overloads: &[(&'static str, &'static str)], implementation: Implementation) {
        for (id, signature) in overloads {
            if let Some(function) = self.overload(id, signature, None) {
                function.common = Some(implementation);
            }
        }
    }

    /// Declares what the evaluator does itself.
    pub fn declare_builtin(&mut self, id: &'static str, signature: &'static str) {
        self.overload(id, signature, None);
    }

    /// The function's implementations look at their arguments themselves.
    pub fn unguarded(&mut self, name: &str) {
        if let Some(function) = self.table.get_mut(name) {
            Arc::make_mut(function).guarded = false;
        }
    }

    fn overload(
        &mut self,
        id: &'static str,
        signature: &'static str,
        implementation: Option<Implementation>,
    ) -> Option<&mut Function> {
        let Some(read) = parse_signature(signature) else {
            self.broken.push(signature);
            return None;
        };
        let mut params = Vec::new();
        read.args.iter().chain([&read.result]).for_each(|it| it.params(&mut |name| params.push(name)));
        params.sort_unstable();
        params.dedup();
        let overload = Overload {
            id,
            member: read.member,
            args: read.args,
            result: read.result,
            params: params.into(),
            implementation,
        };
        let function = self.table.entry(read.function.clone()).or_insert_with(|| {
            Arc::new(Function { name: read.function, overloads: Vec::new(), common: None, guarded: true })
        });
        let function = Arc::make_mut(function);
        function.overloads.push(Arc::new(overload));
        Some(function)
    }
}

impl Overload {
    /// Whether values are of the overload's types, as far as their first elements show.
    pub fn accepts(&self, args: &[Value<'_>]) -> bool {
        args.len() == self.args.len() && self.args.iter().zip(args).all(|(of, value)| fits(of, value))
    }
}

fn fits(of: &Type, value: &Value<'_>) -> bool {
    use crate::value::List;
    match (of, value) {
        (Type::Dyn | Type::Any | Type::Param(_), _) => true,
        (Type::List(of), Value::List(list)) => match (list, list.get(0)) {
            (_, None) => true,
            (List::Json { .. } | List::Owned(_), Some(first)) => first.is_ok_and(|first| fits(of, &first)),
        },
        (Type::Map(of), Value::Map(map)) => {
            let first = map.entries().next();
            first.is_none_or(|(key, value)| fits(&of.0, &key) && value.is_ok_and(|value| fits(&of.1, &value)))
        }
        (of, value) => of.runtime_name() == value.type_of().runtime_name(),
    }
}
