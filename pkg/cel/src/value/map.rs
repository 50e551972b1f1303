//! Maps: views of JSON, maps that expressions made, and what a caller answers for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map as Object, Value as Json};

use super::{Evaluated, Text, Value, double_to_int, double_to_uint, json};
use crate::error::EvalError;
use crate::types::Type;
use crate::types::decl::{Decl, Shape};
use crate::types::escape::{escape, unescape};

/// A map whose values a caller finds when they are asked for, as the variables of an admission policy.
pub trait MapHost: Sync {
    /// The type that `type()` shows.
    fn cel_type(&self) -> Type {
        Type::map(Type::String, Type::Dyn)
    }

    /// The value of a key, as the expression says it: what stands for a field may be escaped. Asking twice gives the same.
    fn get<'s>(&'s self, key: &str) -> Option<Evaluated<'s>>;

    /// The keys, in some order.
    fn keys(&self) -> Vec<&str>;
}

/// A map.
#[derive(Clone)]
pub enum Map<'a> {
    /// JSON, and what its schema says, if there is one; then it is an object's or a map's.
    Json { map: &'a Object<String, Json>, decl: Option<&'a Decl> },
    /// Values.
    Owned(Arc<OwnedMap<'a>>),
    /// What a caller knows.
    Host(&'a dyn MapHost),
}

/// A map that an expression made, ordered by key.
#[derive(Debug, Clone, Default)]
pub struct OwnedMap<'a> {
    entries: BTreeMap<Key<'a>, Value<'a>>,
}

/// What can be a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// The bits of a double.
    Double(u64),
    String(Text<'a>),
}

impl<'a> Key<'a> {
    /// A value as a key.
    ///
    /// # Errors
    /// It is of a kind that cannot be a key.
    pub fn new(value: Value<'a>) -> Result<Self, EvalError> {
        match value {
            Value::Bool(it) => Ok(Self::Bool(it)),
            Value::Int(it) => Ok(Self::Int(it)),
            Value::Uint(it) => Ok(Self::Uint(it)),
            Value::Double(it) => Ok(Self::Double(it.to_bits())),
            Value::String(it) => Ok(Self::String(it)),
            other => Err(EvalError::new(format!("unsupported key type: {}", other.type_name()))),
        }
    }

    /// The key as a value.
    pub fn value(&self) -> Value<'a> {
        match self {
            Self::Bool(it) => Value::Bool(*it),
            Self::Int(it) => Value::Int(*it),
            Self::Uint(it) => Value::Uint(*it),
            Self::Double(it) => Value::Double(f64::from_bits(*it)),
            Self::String(it) => Value::String(it.clone()),
        }
    }

    /// The same number as another kind, if it is that.
    fn others(&self) -> [Option<Self>; 2] {
        match self {
            Self::Int(it) => [u64::try_from(*it).ok().map(Self::Uint), None],
            Self::Uint(it) => [i64::try_from(*it).ok().map(Self::Int), None],
            Self::Double(bits) => {
                let double = f64::from_bits(*bits);
                let int = double_to_int(double).filter(|n| *n as f64 == double).map(Self::Int);
                [int, double_to_uint(double).filter(|n| *n as f64 == double).map(Self::Uint)]
            }
            Self::Bool(_) | Self::String(_) => [None, None],
        }
    }
}

impl<'a> OwnedMap<'a> {
    /// Sets a key.
    pub fn insert(&mut self, key: Key<'a>, value: Value<'a>) {
        self.entries.insert(key, value);
    }

    /// Takes a key away.
    pub(crate) fn remove(&mut self, key: &Key<'a>) {
        self.entries.remove(key);
    }

    /// The value of a key; a number is found whatever its kind.
    pub(crate) fn find(&self, key: &Key<'a>) -> Option<&Value<'a>> {
        self.entries.get(key).or_else(|| key.others().iter().flatten().find_map(|key| self.entries.get(key)))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<'a> Map<'a> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Json { map, .. } => map.len(),
            Self::Owned(map) => map.entries.len(),
            Self::Host(host) => host.keys().len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key, if there is one. A null in an object's field is as good as no field.
    pub fn find(&self, key: &Value<'a>) -> Option<Evaluated<'a>> {
        if let (Self::Owned(map), key) = (self, key) {
            return map.find(&Key::new(key.clone()).ok()?).map(|value| Ok(value.clone()));
        }
        match key {
            Value::String(key) => self.find_text(key),
            _ if matches!(self, Self::Json { decl: None, .. }) => None,
            _ => Some(Err(EvalError::no_such_overload())),
        }
    }

    /// The value of a key that is a text.
    pub(crate) fn find_text(&self, key: &str) -> Option<Evaluated<'a>> {
        match self {
            Self::Json { map, decl: None } => map.get(key).map(|value| Ok(json::native(value))),
            Self::Json { map, decl: Some(decl) } => match &decl.shape {
                Shape::Object(object) => {
                    if let Some(field) = object.field(key) {
                        return map.get(&*field.name).filter(|it| !it.is_null()).map(|it| json::typed(it, &field.decl));
                    }
                    self.own(&unescape(key)?)
                }
                _ => self.own(key),
            },
            Self::Owned(map) => map.find(&Key::String(Text::Shared(Arc::from(key)))).map(|value| Ok(value.clone())),
            Self::Host(host) => host.get(key),
        }
    }

    /// The value of a JSON key by its own name.
    pub(super) fn own(&self, name: &str) -> Option<Evaluated<'a>> {
        let Self::Json { map, decl } = self else { return None };
        let value = map.get(name)?;
        match decl.map(|decl| &decl.shape) {
            Some(Shape::Object(object)) => {
                object.own(name).filter(|_| !value.is_null()).map(|decl| json::typed(value, decl))
            }
            Some(Shape::Map { value: decl, .. }) => Some(json::typed(value, decl)),
            _ => Some(Ok(json::native(value))),
        }
    }

    /// The JSON of a key.
    pub(super) fn raw(&self, key: &str) -> Option<&'a Json> {
        match self {
            Self::Json { map, .. } => map.get(key),
            _ => None,
        }
    }

    /// Keys and values.
    pub fn entries(&self) -> Box<dyn Iterator<Item = (Value<'a>, Evaluated<'a>)> + '_> {
        match self {
            Self::Json { map, decl } => {
                let object = match decl.map(|decl| &decl.shape) {
                    Some(Shape::Object(object)) => Some(object),
                    _ => None,
                };
                Box::new(map.iter().filter_map(move |(name, value)| {
                    let shown = match object {
                        // What the schema does not know is not there.
                        Some(object) => {
                            object.own(name)?;
                            escape(name).map(Value::string).unwrap_or_else(|| Value::borrowed(name))
                        }
                        None => Value::borrowed(name),
                    };
                    let found = self.own(name).unwrap_or_else(|| Ok(json::native(value)));
                    Some((shown, found))
                }))
            }
            Self::Owned(map) => Box::new(map.entries.iter().map(|(key, value)| (key.value(), Ok(value.clone())))),
            Self::Host(host) => {
                Box::new(host.keys().into_iter().filter_map(move |key| Some((Value::string(key), host.get(key)?))))
            }
        }
    }

    /// The keys.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Host(host) => host.keys().into_iter().map(Value::string).collect(),
            Self::Owned(map) => map.entries.keys().map(Key::value).collect(),
            Self::Json { .. } => self.entries().map(|(key, _)| key).collect(),
        }
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { map, .. } => fmt::Debug::fmt(map, f),
            Self::Owned(map) => fmt::Debug::fmt(&map.entries, f),
            Self::Host(host) => f.debug_list().entries(host.keys()).finish(),
        }
    }
}
