//! What data looks like that expressions see: the shape of a schema, with the bounds that costs are estimated from.
//!
//! Invariants: a [`Decl`] never changes; names of objects are given when it is made; the fields of an object are under the names by which
//! expressions call them, which are escaped where a field's own name is no identifier.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Type;

/// The size of what has no bound.
pub const UNBOUNDED: u64 = i64::MAX as u64;

/// How lists compare and add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    /// By place.
    Atomic,
    /// By content: no element is there twice.
    Set,
    /// By the content of these fields of the elements.
    Map(Box<[Box<str>]>),
}

/// What data is.
#[derive(Debug, Clone)]
pub enum Shape {
    /// `x-kubernetes-int-or-string`: whether it is one or the other comes up when it is evaluated.
    IntOrString,
    /// An object with known fields.
    Object(Object),
    /// An object with any keys.
    Map {
        key: Arc<Decl>,
        value: Arc<Decl>,
    },
    /// A list.
    List {
        items: Arc<Decl>,
        kind: ListKind,
    },
    Bool,
    Int,
    Double,
    String,
    /// A string in base64.
    Bytes,
    /// A string as `1h2m`.
    Duration,
    /// A string in RFC 3339.
    Timestamp,
    /// A string as `2006-01-02`.
    Date,
    /// Whatever a caller gives that is no JSON of a schema; expressions see it as this type.
    Other(Type),
    /// Data without a type: expressions do not see it, but comparing what it is in does.
    Hidden,
    /// A schema that data cannot follow; the text says why.
    Invalid(Box<str>),
}

/// An object with known fields.
#[derive(Debug, Clone)]
pub struct Object {
    /// The type's name.
    pub name: Arc<str>,
    fields: BTreeMap<Arc<str>, Field>,
    /// The fields' own names, of which expressions see not all.
    own: BTreeMap<Box<str>, Arc<Decl>>,
}

/// A field that expressions see.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its own name.
    pub name: Box<str>,
    pub decl: Arc<Decl>,
}

/// Data's shape and bounds.
#[derive(Debug, Clone)]
pub struct Decl {
    pub shape: Shape,
    /// Whether it may be null.
    pub nullable: bool,
    /// As many elements, entries, characters or bytes it has at most. Of numbers and objects nothing is estimated: they have none.
    pub max_elements: u64,
    /// As many bytes it has at least in JSON.
    pub min_size: u64,
}

impl Decl {
    /// Data without bounds.
    pub fn new(shape: Shape, max_elements: u64, min_size: u64) -> Self {
        Self { shape, nullable: false, max_elements, min_size }
    }

    /// A caller's value.
    pub fn of_type(of: Type, max_elements: u64) -> Self {
        Self::new(Shape::Other(of), max_elements, 1)
    }

    /// A string; its characters may have a bound.
    pub fn string(max_elements: u64) -> Self {
        Self::new(Shape::String, max_elements, 2)
    }

    /// A list.
    pub fn list(items: Self, max_elements: u64) -> Self {
        Self::new(Shape::List { items: Arc::new(items), kind: ListKind::Atomic }, max_elements, 2)
    }

    /// A map with strings as keys.
    pub fn map(key: Self, value: Self, max_elements: u64) -> Self {
        Self::new(Shape::Map { key: Arc::new(key), value: Arc::new(value) }, max_elements, 2)
    }

    /// An object of fields whose names are what expressions call them.
    pub fn object<'f>(name: &str, fields: impl IntoIterator<Item = (&'f str, Self)>) -> Self {
        let mut object = Object::new(name);
        for (field, decl) in fields {
            object.insert(field, Some(field.to_owned()), Arc::new(decl));
        }
        Self::new(Shape::Object(object), 0, 2)
    }

    /// The type that expressions see, unless they do not see it.
    pub fn cel_type(&self) -> Option<Type> {
        Some(match &self.shape {
            Shape::IntOrString => Type::Dyn,
            Shape::Object(object) => Type::Object(object.name.clone()),
            Shape::Map { key, value } => Type::map(key.cel_type()?, value.cel_type()?),
            Shape::List { items, .. } => Type::list(items.cel_type()?),
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Duration => Type::Duration,
            Shape::Timestamp | Shape::Date => Type::Timestamp,
            Shape::Other(of) => of.clone(),
            Shape::Hidden | Shape::Invalid(_) => return None,
        })
    }

    /// What is at a step of a path in an expression: a field, `@items`, `@values` or `@keys`.
    pub fn step(&self, name: &str) -> Option<&Self> {
        match (&self.shape, name) {
            (Shape::List { items, .. }, "@items" | "@values") => Some(items),
            (Shape::Map { value, .. }, "@items" | "@values") => Some(value),
            (Shape::Map { key, .. }, "@keys") => Some(key),
            (Shape::Object(object), name) => object.field(name).map(|field| &*field.decl),
            _ => None,
        }
    }

    /// As many values with this schema fit into a request.
    pub fn max_cardinality(&self) -> u64 {
        crate::limits::MAX_REQUEST_SIZE / (self.min_size + 1)
    }
}

impl Object {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: Arc::from(name), fields: BTreeMap::new(), own: BTreeMap::new() }
    }

    /// Adds a field; without an identifier, or without a type, expressions do not see it.
    pub(crate) fn insert(&mut self, own: &str, identifier: Option<String>, decl: Arc<Decl>) {
        if let Some(identifier) = identifier.filter(|_| decl.cel_type().is_some()) {
            self.fields.insert(Arc::from(identifier), Field { name: own.into(), decl: decl.clone() });
        }
        self.own.insert(own.into(), decl);
    }

    /// A field by what expressions call it.
    pub fn field(&self, identifier: &str) -> Option<&Field> {
        self.fields.get(identifier)
    }

    /// The fields that expressions see.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Field)> {
        self.fields.iter().map(|(name, field)| (&**name, field))
    }

    /// The schema of a field by its own name.
    pub(crate) fn own(&self, name: &str) -> Option<&Arc<Decl>> {
        self.own.get(name)
    }
}
