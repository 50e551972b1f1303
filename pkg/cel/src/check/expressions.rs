//! Types of everything but calls.

use std::sync::Arc;

use super::unify::most_general;
use super::{Checker, Reference};
use crate::ast::{Comprehension, Entry, Field, Id, Kind, Literal};
use crate::types::Type;

impl Checker<'_> {
    pub(super) fn check_select(&mut self, id: Id, operand: Id, field: &str, test_only: bool) {
        if !test_only
            && let Some(name) = self.ast.qualified_name(id)
            && let Some((of, reference)) = self.look_up(&name)
        {
            return self.found_name(id, of, reference);
        }
        let of = self.check_field(id, operand, field, false);
        let of = if test_only { Type::Bool } else { self.mapping.substitute(&of, false) };
        self.set_type(id, of);
    }

    pub(super) fn check_optional_select(&mut self, id: Id, args: &[Id]) {
        let Some(function) = self.env.function("_?._") else { return self.undeclared(id, "_?._") };
        let [operand, field] = args else { return };
        let Kind::Literal(Literal::String(name)) = self.ast.kind(*field).clone() else { return };
        self.set_type(*field, Type::String);
        let of = self.check_field(id, *operand, &name, true);
        let of = self.mapping.substitute(&of, false);
        self.set_type(id, of);
        let overloads = function.overloads.clone().into();
        self.refer(id, Reference::Call { function, overloads });
    }

    /// The type of a field of an operand.
    fn check_field(&mut self, id: Id, operand: Id, field: &str, optional: bool) -> Type {
        self.check(operand);
        let of = self.mapping.substitute(&self.type_of(operand), false);
        let inner = of.optional_of().cloned();
        let is_optional = inner.is_some();
        let target = inner.unwrap_or(of);
        let found = match &target {
            Type::Map(it) => it.1.clone(),
            Type::Object(name) => self.field_type(id, name, field).unwrap_or(Type::Error),
            Type::Var(_) => {
                self.mapping.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    self.error(id, format!("type '{other}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if is_optional || optional { Type::optional(found) } else { found }
    }

    fn field_type(&mut self, at: Id, object: &str, field: &str) -> Option<Type> {
        if self.env.provider().find(object).is_none() {
            self.error(at, format!("unexpected failed resolution of '{object}'"));
            return None;
        }
        let found = self.env.provider().field(object, field);
        if found.is_none() {
            self.error(at, format!("undefined field '{field}'"));
        }
        found
    }

    /// The type in an optional value that is written with a question mark.
    fn unwrapped(&mut self, at: Id, of: Type, optional: bool) -> Type {
        if !optional {
            return of;
        }
        match of.optional_of() {
            Some(inner) => inner.clone(),
            None => {
                if !of.is_dyn() {
                    self.mismatch(at, &Type::optional(of.clone()), &of);
                }
                of
            }
        }
    }

    /// The type of all elements so far. Mixed ones are found later, where those that may be mixed are known.
    fn join(&mut self, before: Option<Type>, of: Type) -> Type {
        match before {
            None => of,
            Some(before) if self.mapping.assignable(&before, &of) => most_general(&before, &of),
            Some(_) => Type::Dyn,
        }
    }

    pub(super) fn check_list(&mut self, id: Id, elements: &[Id], optional: &[usize]) {
        let mut joined = None;
        for (n, element) in elements.iter().enumerate() {
            self.check(*element);
            let of = self.type_of(*element);
            let of = self.unwrapped(*element, of, optional.contains(&n));
            joined = Some(self.join(joined, of));
        }
        let of = joined.unwrap_or_else(|| self.mapping.fresh());
        self.set_type(id, Type::list(of));
    }

    pub(super) fn check_map(&mut self, id: Id, entries: &[Entry]) {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(entry.key);
            let of = self.type_of(entry.key);
            keys = Some(self.join(keys, of));
            self.check(entry.value);
            let of = self.type_of(entry.value);
            let of = self.unwrapped(entry.value, of, entry.optional);
            values = Some(self.join(values, of));
        }
        let key = keys.unwrap_or_else(|| self.mapping.fresh());
        let value = values.unwrap_or_else(|| self.mapping.fresh());
        self.set_type(id, Type::map(key, value));
    }

    pub(super) fn check_struct(&mut self, id: Id, name: &str, fields: &[Field]) {
        let Some((of, _)) = self.look_up(name) else { return self.undeclared(id, name) };
        let name: Arc<str> = Arc::from(name.strip_prefix('.').unwrap_or(name));
        self.ast.replace(id, Kind::Struct { name: name.clone(), fields: fields.to_vec() });
        let result = match &of {
            Type::Type(Some(it)) if matches!(**it, Type::Object(_)) => (**it).clone(),
            Type::Type(Some(it)) => {
                self.error(id, format!("'{}' is not a message type", it.runtime_name()));
                Type::Error
            }
            other => {
                self.error(id, format!("'{}' is not a type", other.runtime_name()));
                Type::Error
            }
        };
        self.set_type(id, result);
        for field in fields {
            self.check(field.value);
            let wanted = self.field_type(field.id, &name, &field.name).unwrap_or(Type::Error);
            let of = self.type_of(field.value);
            let of = self.unwrapped(field.value, of, field.optional);
            if !self.mapping.assignable(&wanted, &of) {
                let message =
                    format!("expected type of field '{}' is '{wanted}' but provided type is '{of}'", field.name);
                self.error(field.id, message);
            }
        }
    }

    pub(super) fn check_comprehension(&mut self, id: Id, it: &Comprehension) {
        self.check(it.range);
        self.check(it.init);
        let range = self.mapping.substitute(&self.type_of(it.range), false);
        let accumulated = self.type_of(it.init);
        let outer = self.scopes.len();
        self.scopes.push((it.accumulator.clone(), accumulated.clone()));
        let inner = self.scopes.len();
        let (first, second) = self.variables(it, &range);
        self.scopes.push((it.variable.clone(), first));
        if let Some(name) = &it.second {
            self.scopes.push((name.clone(), second));
        }
        self.check(it.condition);
        self.must_be(it.condition, &Type::Bool);
        self.check(it.step);
        self.must_be(it.step, &accumulated);
        self.scopes.truncate(inner);
        self.check(it.result);
        self.scopes.truncate(outer);
        let of = self.mapping.substitute(&self.type_of(it.result), false);
        self.set_type(id, of);
    }

    /// The types of the variables of a comprehension over a range.
    fn variables(&mut self, it: &Comprehension, range: &Type) -> (Type, Type) {
        match range {
            Type::List(of) if it.second.is_some() => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Error),
            Type::Map(of) => of.as_ref().clone(),
            Type::Dyn | Type::Error | Type::Var(_) => {
                self.mapping.assignable(&Type::Dyn, range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.error(it.range, message);
                (Type::Error, Type::Error)
            }
        }
    }

    fn must_be(&mut self, id: Id, wanted: &Type) {
        let of = self.type_of(id);
        if !self.mapping.assignable(wanted, &of) {
            self.mismatch(id, wanted, &of);
        }
    }
}
