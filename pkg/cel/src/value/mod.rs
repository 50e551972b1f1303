//! Values that expressions work with.
//!
//! A value borrows what it can: an object, a list, a map and a string of a request are views of the JSON that is there, and a [`Decl`] says
//! how to see them. Invariants: cloning a value never copies what it is made of; values of different numeric kinds are equal when their numbers are.

mod compare;
mod convert;
mod equal;
mod json;
mod list;
mod map;
mod names;
mod number;
mod opaque;
mod show;
mod text;
mod time;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::error::EvalError;
use crate::types::Type;
use crate::types::decl::Decl;

pub(crate) use convert::{convert, parse_duration};
pub use list::List;
pub(crate) use list::index_of;
pub use map::{Key, Map, MapHost, OwnedMap};
pub(crate) use number::{double_to_int, double_to_uint, exponential, general};
pub(crate) use opaque::PreRelease;
pub use opaque::{Cidr, Opaque, Semver, Url};
pub(crate) use show::{plain, quote};
pub use text::Text;
pub use time::Timestamp;
pub(crate) use time::{Local, complaint, date as parse_date, local};

/// What evaluating gives.
pub type Evaluated<'a> = Result<Value<'a>, EvalError>;

/// A value.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    /// In nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    /// A type.
    Type(Arc<Type>),
    List(List<'a>),
    Map(Map<'a>),
    /// A value that may be missing.
    Optional(Option<Arc<Value<'a>>>),
    /// An object that an expression made: `Object{...}`, `JSONPatch{...}`.
    Struct(Arc<Struct<'a>>),
    /// What libraries have operations for.
    Opaque(Arc<Opaque<'a>>),
    /// JSON that has no type: it can only be compared.
    Hidden(&'a Json),
}

/// An object that an expression made.
#[derive(Debug, Clone)]
pub struct Struct<'a> {
    /// `Object`, `Object.spec`, `JSONPatch`, …
    pub name: Arc<str>,
    pub fields: BTreeMap<Arc<str>, Value<'a>>,
}

impl<'a> Value<'a> {
    /// JSON as it is: objects are maps, integers are `int`, other numbers `double`.
    pub fn native(json: &'a Json) -> Self {
        json::native(json)
    }

    /// JSON as a schema describes it.
    ///
    /// # Errors
    /// The JSON is not what the schema says. Of what is in it that is found out when it is looked at.
    pub fn typed(json: &'a Json, decl: &'a Decl) -> Evaluated<'a> {
        json::typed(json, decl)
    }

    /// A text that is shared.
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    /// A text that is borrowed.
    pub fn borrowed(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }

    /// A list of values.
    pub fn list(values: Vec<Value<'a>>) -> Self {
        Self::List(List::Owned(Arc::new(values)))
    }

    /// A value that is there.
    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// The `authorizer` of expressions.
    pub fn authorizer(authorizer: &'a dyn crate::authorizer::Authorizer) -> Self {
        Self::opaque(Opaque::Authorizer { authorizer, subject: Arc::new(crate::authorizer::Subject::Requester) })
    }

    /// The `authorizer.requestResource` of expressions: a check of what the request is for.
    pub fn resource_check(
        authorizer: &'a dyn crate::authorizer::Authorizer,
        target: crate::authorizer::ResourceTarget,
    ) -> Self {
        Self::opaque(Opaque::ResourceCheck {
            authorizer,
            subject: Arc::new(crate::authorizer::Subject::Requester),
            target,
        })
    }

    pub(crate) fn opaque(opaque: Opaque<'a>) -> Self {
        Self::Opaque(Arc::new(opaque))
    }

    /// The value as JSON: what is a number, a text or null stays that, `bytes` become base64, durations and timestamps their texts.
    ///
    /// # Errors
    /// It has no JSON: a type, a missing value, what belongs to a library, a map whose keys are no strings.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        json::to_json(self)
    }

    /// The value as upstream prints it: a literal where there is one.
    pub fn show(&self) -> String {
        show::show(self)
    }

    /// The type of the value, without parameters.
    pub fn type_of(&self) -> Type {
        let dynamic = || Type::Dyn;
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Duration(_) => Type::Duration,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Type(_) => Type::Type(None),
            Self::List(_) => Type::list(dynamic()),
            Self::Map(Map::Host(host)) => host.cel_type(),
            Self::Map(_) => Type::map(dynamic(), dynamic()),
            Self::Optional(_) => Type::optional(dynamic()),
            Self::Struct(it) => Type::Object(it.name.clone()),
            Self::Opaque(it) => it.cel_type(),
            Self::Hidden(_) => Type::opaque("unknown"),
        }
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> Arc<str> {
        Arc::from(self.type_of().runtime_name())
    }

    /// Whether it is the value that its type has when nothing is said: 0, "", [], null.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(it) => !it,
            Self::Int(it) => *it == 0,
            Self::Uint(it) => *it == 0,
            Self::Double(it) => *it == 0.0,
            Self::String(it) => it.is_empty(),
            Self::Bytes(it) => it.is_empty(),
            Self::Duration(it) => *it == 0,
            Self::Timestamp(it) => it.is_zero(),
            // Lists and maps of a schema are no values that can be zero upstream.
            Self::List(List::Json { decl: Some(_), .. })
            | Self::Map(Map::Json { decl: Some(_), .. } | Map::Host(_)) => false,
            Self::List(it) => it.is_empty(),
            Self::Map(it) => it.is_empty(),
            Self::Struct(it) => it.fields.is_empty(),
            Self::Type(_) | Self::Optional(_) | Self::Opaque(_) | Self::Hidden(_) => false,
        }
    }

    /// How large it is, for costs: characters, bytes, elements, entries; what has no size is 1.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::String(it) => it.chars().count() as u64,
            Self::Bytes(it) => it.len() as u64,
            Self::List(it) => it.len() as u64,
            Self::Map(it) => it.len() as u64,
            Self::Opaque(it) => it.size().unwrap_or(1),
            Self::Optional(Some(it)) => it.size(),
            _ => 1,
        }
    }

    /// What reading all of it costs.
    pub(crate) fn traversal_cost(&self) -> u64 {
        match self {
            Self::String(it) => (it.len() as f64 * crate::limits::STRING_FACTOR) as u64,
            Self::Bytes(it) => (it.len() as f64 * crate::limits::STRING_FACTOR) as u64,
            Self::List(it) => it.iter().map(|value| value.map_or(1, |it| it.traversal_cost())).sum(),
            Self::Map(it) => {
                it.entries().map(|(key, value)| key.traversal_cost() + value.map_or(1, |it| it.traversal_cost())).sum()
            }
            _ => 1,
        }
    }
}
