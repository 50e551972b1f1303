//! Types: what the checker knows about values.

pub mod decl;
pub mod escape;
mod provider;
mod schema;
mod signature;

use std::fmt;
use std::sync::Arc;

pub use provider::Provider;
pub(crate) use signature::parse_signature;

/// A type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// What something has that is wrong: it fits everywhere, so that one mistake is one error.
    Error,
    /// Whatever comes up when it is evaluated.
    Dyn,
    /// As [`Type::Dyn`], with a name of its own.
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// Something with declared fields, or a receiver of a library's functions.
    Object(Arc<str>),
    /// Something without fields, with parameters: `optional_type(int)`, `net.IP`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// A type as a value; what it is of is known where it is written.
    Type(Option<Arc<Type>>),
    /// A parameter in a declaration.
    Param(char),
    /// A type that the checker has yet to find.
    Var(u32),
}

const OPTIONAL: &str = "optional_type";

impl Type {
    /// `list(element)`.
    pub fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    /// `map(key, value)`.
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    /// A type with fields.
    pub fn object(name: &str) -> Self {
        Self::Object(Arc::from(name))
    }

    /// `optional_type(of)`.
    pub fn optional(of: Self) -> Self {
        Self::Opaque(Arc::from(OPTIONAL), Arc::from([of]))
    }

    /// A type without fields and parameters.
    pub fn opaque(name: &str) -> Self {
        Self::Opaque(Arc::from(name), Arc::from([]))
    }

    /// What is in an optional type.
    pub fn optional_of(&self) -> Option<&Self> {
        match self {
            Self::Opaque(name, parameters) if &**name == OPTIONAL => parameters.first(),
            _ => None,
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        self.is_dyn() || *self == Self::Error
    }

    /// The name that values of the type show: `google.protobuf.Duration`, `list`.
    pub fn runtime_name(&self) -> &str {
        match self {
            Self::Error => "error",
            Self::Dyn => "dyn",
            Self::Any => "google.protobuf.Any",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Object(name) | Self::Opaque(name, _) => name,
            Self::Type(_) => "type",
            Self::Param(_) | Self::Var(_) => "",
        }
    }

    /// The parameters of the type.
    pub(crate) fn parameters(&self) -> &[Self] {
        match self {
            Self::List(of) => std::slice::from_ref(of),
            Self::Opaque(_, parameters) => parameters,
            Self::Type(Some(of)) => std::slice::from_ref(of),
            _ => &[],
        }
    }

    /// Gives each parameter of a declaration its type.
    pub(crate) fn with_params(&self, find: &dyn Fn(char) -> Self) -> Self {
        match self {
            Self::Param(name) => find(*name),
            Self::List(of) => Self::list(of.with_params(find)),
            Self::Map(of) => Self::map(of.0.with_params(find), of.1.with_params(find)),
            Self::Opaque(name, of) => Self::Opaque(name.clone(), of.iter().map(|it| it.with_params(find)).collect()),
            Self::Type(Some(of)) => Self::Type(Some(Arc::new(of.with_params(find)))),
            other => other.clone(),
        }
    }

    /// Calls a function for each parameter in a declaration.
    pub(crate) fn params(&self, visit: &mut dyn FnMut(char)) {
        match self {
            Self::Param(name) => visit(*name),
            Self::Map(of) => {
                of.0.params(visit);
                of.1.params(visit);
            }
            other => other.parameters().iter().for_each(|it| it.params(visit)),
        }
    }
}

impl fmt::Display for Type {
    /// As error messages show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => f.write_str("!error!"),
            Self::Any => f.write_str("any"),
            Self::Null => f.write_str("null"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Param(name) => write!(f, "{name}"),
            Self::Var(number) => write!(f, "_var{number}"),
            Self::Map(of) => write!(f, "map({}, {})", of.0, of.1),
            other => {
                f.write_str(other.runtime_name())?;
                for (n, parameter) in other.parameters().iter().enumerate() {
                    write!(f, "{}{parameter}", if n == 0 { "(" } else { ", " })?;
                }
                f.write_str(if other.parameters().is_empty() { "" } else { ")" })
            }
        }
    }
}
