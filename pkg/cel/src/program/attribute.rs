//! Variables, and what is looked up in them.

use std::sync::Arc;

use super::evaluate::{Evaluator, Slot};
use super::{Attribute, Qualifier, QualifierKey, Root, go_type};
use crate::error::EvalError;
use crate::limits::SELECT_AND_IDENT_COST;
use crate::value::{Evaluated, Value, index_of, plain};

impl<'a> Evaluator<'_, 'a, '_, '_> {
    #[inline(never)]
    pub(super) fn attribute(&mut self, attribute: &Attribute) -> Evaluated<'a> {
        let value = self.resolve(attribute);
        match value {
            Err(error) if error.is_final() => return Err(error),
            // A choice costs what is chosen.
            value if matches!(attribute.root, Root::Choice(..)) => return value,
            _ => {}
        }
        self.context.charge(SELECT_AND_IDENT_COST)?;
        value
    }

    /// The value of an attribute, without what looking at it costs.
    fn resolve(&mut self, attribute: &Attribute) -> Evaluated<'a> {
        let value = self.root(&attribute.root)?;
        if attribute.qualifiers.is_empty() {
            return Ok(value);
        }
        match self.qualify_all(value, &attribute.qualifiers)? {
            Found::Value(value) => Ok(value),
            Found::Optional(value) => Ok(Value::Optional(value.map(Arc::new))),
        }
    }

    fn root(&mut self, root: &Root) -> Evaluated<'a> {
        match root {
            Root::Variable(name) => self
                .variables
                .resolve(name)
                .unwrap_or_else(|| Err(EvalError::new(format!("no such attribute(s): {name}")))),
            Root::Slot { slot, take } => self.slot(*slot, *take),
            Root::Operand(node) => self.node(*node),
            Root::Choice(condition, branches) => match self.node(*condition)? {
                Value::Bool(true) => self.resolve(&branches.0),
                Value::Bool(false) => self.resolve(&branches.1),
                _ => Err(EvalError::no_such_overload()),
            },
        }
    }

    fn slot(&mut self, slot: usize, take: bool) -> Evaluated<'a> {
        let Some(place) = self.slots.get_mut(slot) else { return Err(EvalError::new("no such attribute(s)")) };
        if let Slot::Pending(init) = *place {
            *place = Slot::Empty;
            let value = self.node(init);
            if let Some(place) = self.slots.get_mut(slot) {
                *place = Slot::Value(value);
            }
        }
        let Some(place) = self.slots.get_mut(slot) else { return Err(EvalError::new("no such attribute(s)")) };
        match place {
            Slot::Value(Ok(_)) if take => match std::mem::replace(place, Slot::Empty) {
                Slot::Value(value) => value,
                _ => Err(EvalError::new("no such attribute(s)")),
            },
            Slot::Value(value) => value.clone(),
            _ => Err(EvalError::new("no such attribute(s)")),
        }
    }

    /// Looks up one after the other. After something optional all that follows is.
    fn qualify_all(&mut self, value: Value<'a>, qualifiers: &[Qualifier]) -> Result<Found<'a>, EvalError> {
        let mut optional = false;
        let mut object = match value {
            Value::Optional(None) => return Ok(Found::Optional(None)),
            Value::Optional(Some(value)) => {
                optional = true;
                (*value).clone()
            }
            value => value,
        };
        for qualifier in qualifiers {
            optional |= qualifier.optional;
            match self.qualify(&object, qualifier, optional)? {
                Some(value) => object = value,
                None => return Ok(Found::Optional(None)),
            }
        }
        Ok(if optional { Found::Optional(Some(object)) } else { Found::Value(object) })
    }

    fn qualify(
        &mut self,
        object: &Value<'a>,
        qualifier: &Qualifier,
        optional: bool,
    ) -> Result<Option<Value<'a>>, EvalError> {
        self.context.step(1)?;
        let found = match &qualifier.key {
            QualifierKey::Constant(key) => look_up(object, key, optional),
            QualifierKey::Attribute(attribute) => match self.resolve(attribute) {
                Err(error) if error.is_final() => return Err(error),
                key => key.and_then(|key| look_up(object, &usable(key)?, optional)),
            },
        };
        // What is optional and not there costs nothing.
        let costs = match &found {
            Ok(None) => false,
            Ok(Some(_)) => true,
            Err(_) => !optional,
        };
        if costs {
            self.context.charge(SELECT_AND_IDENT_COST)?;
        }
        found
    }

    /// Whether the last thing that is looked up is there.
    #[inline(never)]
    pub(super) fn has(&mut self, attribute: &Attribute) -> Evaluated<'a> {
        if let Root::Choice(condition, branches) = &attribute.root {
            return match self.node(*condition)? {
                Value::Bool(true) => self.has(&branches.0),
                Value::Bool(false) => self.has(&branches.1),
                _ => Err(EvalError::no_such_overload()),
            };
        }
        let value = self.root(&attribute.root)?;
        let Some((last, before)) = attribute.qualifiers.split_last() else { return Err(EvalError::no_such_overload()) };
        let object = match self.qualify_all(value, before)? {
            Found::Value(value) => value,
            Found::Optional(Some(value)) => value,
            Found::Optional(None) => return Ok(Value::Bool(false)),
        };
        let QualifierKey::Constant(key) = &last.key else { return Err(EvalError::no_such_overload()) };
        let found = look_up(&object, key, true);
        self.context.charge(SELECT_AND_IDENT_COST)?;
        Ok(Value::Bool(found?.is_some()))
    }
}

/// What looking up gives: something, or something that may be missing.
enum Found<'a> {
    Value(Value<'a>),
    Optional(Option<Value<'a>>),
}

/// A key that was evaluated, if it can be one.
fn usable(key: Value<'_>) -> Result<Value<'_>, EvalError> {
    match key {
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_) => Ok(key),
        other => Err(EvalError::new(format!("invalid qualifier type: {}", go_type(&other)))),
    }
}

/// What is in a value under a key. Where nothing may be there, that is no error.
fn look_up<'a>(object: &Value<'a>, key: &Value<'a>, may_miss: bool) -> Result<Option<Value<'a>>, EvalError> {
    let missing = || {
        let error = || EvalError::new(format!("no such key: {}", plain(key)));
        if may_miss { Ok(None) } else { Err(error()) }
    };
    match object {
        Value::Map(map) => match map.find(key) {
            Some(value) => value.map(Some),
            None => missing(),
        },
        Value::List(list) => {
            let index = index_of(list, key)?;
            match usize::try_from(index).ok().and_then(|n| list.get(n)) {
                Some(value) => value.map(Some),
                None if may_miss => Ok(None),
                None => Err(EvalError::new(format!("index out of bounds: {}", plain(key)))),
            }
        }
        Value::Struct(it) => {
            let Value::String(name) = key else { return missing() };
            match it.fields.get(&**name) {
                Some(value) => Ok(Some(value.clone())),
                None if may_miss => Ok(None),
                // Of a patch everything can be asked; what is not set is empty.
                None if &*it.name == "JSONPatch" && &**name != "value" => Ok(Some(Value::string(""))),
                None => Ok(Some(Value::Null)),
            }
        }
        _ => missing(),
    }
}
