//! Lists: views of JSON, or lists that expressions made.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{Evaluated, Value, json};
use crate::error::EvalError;
use crate::types::decl::{Decl, ListKind, Shape};

/// A list.
#[derive(Debug, Clone)]
pub enum List<'a> {
    /// JSON, and what its schema says, if there is one; then it is a list's.
    Json { items: &'a [Json], decl: Option<&'a Decl> },
    /// Values.
    Owned(Arc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Json { items, .. } => items.len(),
            Self::Owned(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element, if there is one.
    pub fn get(&self, n: usize) -> Option<Evaluated<'a>> {
        match self {
            Self::Json { items, decl } => {
                let item = items.get(n)?;
                Some(match decl.map(|decl| &decl.shape) {
                    Some(Shape::List { items, .. }) => json::typed(item, items),
                    _ => Ok(json::native(item)),
                })
            }
            Self::Owned(values) => values.get(n).map(|value| Ok(value.clone())),
        }
    }

    /// The elements.
    pub fn iter(&self) -> impl Iterator<Item = Evaluated<'a>> + '_ {
        (0..self.len()).filter_map(|n| self.get(n))
    }

    /// Whether an element equals the value.
    pub(crate) fn contains(&self, value: &Value<'a>) -> Result<bool, EvalError> {
        let mut error = None;
        for element in self.iter() {
            match element.and_then(|element| element.equals(value)) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(e) => error = error.or(Some(e)),
            }
        }
        // Only a schema's list says what it could not compare.
        match (self, error) {
            (Self::Json { decl: Some(_), .. }, Some(e)) => Err(e),
            _ => Ok(false),
        }
    }

    /// The elements of both, as the kind of the first list has it: a set takes none twice, a list of maps replaces those with the same keys.
    pub(crate) fn concat(self, other: &Self) -> Evaluated<'a> {
        if other.is_empty() {
            return Ok(Value::List(self));
        }
        let kind = match &self {
            Self::Json { decl: Some(Decl { shape: Shape::List { kind, .. }, .. }), .. } => Some(kind),
            _ => None,
        };
        if self.is_empty() && kind.is_none_or(|kind| *kind == ListKind::Atomic) {
            return Ok(Value::List(other.clone()));
        }
        let mut values = match &self {
            Self::Owned(_) => Vec::new(),
            Self::Json { .. } => self.iter().collect::<Result<Vec<_>, _>>()?,
        };
        match (self, kind) {
            (Self::Owned(mut shared), _) => {
                let own = Arc::make_mut(&mut shared);
                own.reserve(other.len());
                for value in other.iter() {
                    own.push(value?);
                }
                Ok(Value::List(Self::Owned(shared)))
            }
            (Self::Json { items, .. }, Some(ListKind::Map(keys))) => {
                for value in other.iter() {
                    let value = value?;
                    let place =
                        items.iter().position(|item| keys.iter().all(|key| super::equal::same_key(item, &value, key)));
                    match place {
                        Some(place) => values[place] = value,
                        None => values.push(value),
                    }
                }
                Ok(Value::list(values))
            }
            (_, kind) => {
                for value in other.iter() {
                    let value = value?;
                    let known = matches!(kind, Some(ListKind::Set))
                        && values.iter().any(|it| it.equals(&value).unwrap_or(false));
                    if !known {
                        values.push(value);
                    }
                }
                Ok(Value::list(values))
            }
        }
    }
}

/// Which element a value asks for; the number of none is negative or too large.
pub(crate) fn index_of(list: &List<'_>, index: &Value<'_>) -> Result<i64, EvalError> {
    if matches!(list, List::Json { decl: Some(_), .. })
        && !matches!(index, Value::Int(_) | Value::Uint(_) | Value::Double(_))
    {
        return Err(EvalError::new(format!("unsupported index type '{}' in list", index.type_name())));
    }
    let no_number = || EvalError::new(format!("unsupported index value {} in list", plain(index)));
    let place = match index {
        Value::Int(it) => return Ok(*it),
        Value::Uint(it) => i64::try_from(*it).map_err(|_| no_number()),
        Value::Double(it) => super::double_to_int(*it).filter(|n| *n as f64 == *it).ok_or_else(no_number),
        other => Err(EvalError::new(format!("unsupported index type '{}' in list", other.type_name()))),
    }?;
    // A schema's list takes a number for an index only if it is an int, but finds out late.
    let there = usize::try_from(place).is_ok_and(|n| n < list.len());
    match list {
        List::Json { decl: Some(_), .. } if there => {
            Err(EvalError::new(format!("unsupported index: {}", plain(index))))
        }
        _ => Ok(place),
    }
}

fn plain(value: &Value<'_>) -> String {
    super::show::plain(value)
}
