//! What may be at a place in an object, as far as ownership is concerned: one view of built-in types and of schemas that came
//! while the server runs.
//!
//! Invariant: a type says the same as upstream's reading of the OpenAPI document of its kind: lists that say nothing are one
//! value, maps that say nothing are many, and what no schema describes is told by what is there.

use kedge_schema::structural::{Kind, Node};
use kedge_schema::{FieldDef, FieldType, ListType, SchemaRef, type_by_name};
use serde_json::Value;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The type of a place.
#[derive(Clone, Copy, Debug)]
pub struct Type<'s>(Inner<'s>);

#[derive(Clone, Copy, Debug)]
enum Inner<'s> {
    /// A type of the table, and the field that has it: that one says how its list or map merges.
    Builtin(FieldType, Option<&'static FieldDef>),
    /// An object of a kind with a schema of its own.
    Root(&'s Node),
    /// Something below; whether a place above it keeps what it does not know.
    Node(&'s Node, bool),
    /// Maps are many values, all else is one.
    Deduced,
    /// One value, whatever it is.
    Opaque,
}

/// What a single value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Text,
    Number,
    Boolean,
    Any,
}

/// How the items of a list relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Items {
    /// Together they are one value.
    Atomic,
    /// Each is its own key.
    Set,
    /// Each is known by some of its fields.
    Keyed,
}

/// Which forms a value may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forms {
    pub scalar: Option<Scalar>,
    pub list: bool,
    pub map: bool,
}

/// The form that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Map,
    Scalar(Scalar),
    List,
}

impl Forms {
    const ALL: Self = Self { scalar: Some(Scalar::Any), list: true, map: true };
    const MAP: Self = Self { scalar: None, list: false, map: true };
    const LIST: Self = Self { scalar: None, list: true, map: false };

    fn scalar(scalar: Scalar) -> Self {
        Self { scalar: Some(scalar), list: false, map: false }
    }

    /// Only the form that the value has, where it may have it.
    pub(crate) fn of(self, value: Option<&Value>) -> Self {
        match value {
            Some(Value::Object(_)) if self.map => Self::MAP,
            Some(Value::Array(_)) if self.list => Self::LIST,
            Some(Value::String(_) | Value::Number(_) | Value::Bool(_)) if self.scalar.is_some() => {
                Self { list: false, map: false, ..self }
            }
            _ => self,
        }
    }

    /// Where several are possible, a map comes first.
    pub(crate) fn form(self) -> Form {
        match self.scalar {
            _ if self.map => Form::Map,
            Some(scalar) => Form::Scalar(scalar),
            None => Form::List,
        }
    }
}

fn has_format(node: &Node) -> bool {
    let format = node.checks.as_deref().and_then(|checks| checks.format.as_ref());
    format.is_some_and(|format| format.name() != "byte")
}

impl<'s> Type<'s> {
    /// Objects of a kind.
    pub fn of(schema: &'s SchemaRef) -> Self {
        Self(match schema {
            SchemaRef::Builtin(id) => Inner::Builtin(FieldType::Object(*id), None),
            SchemaRef::Structural(structural) => Inner::Root(structural.root()),
        })
    }

    /// Whether what it says may be another thing tomorrow.
    pub(crate) fn may_change(self) -> bool {
        !matches!(self.0, Inner::Builtin(..))
    }

    pub(crate) fn forms(self) -> Forms {
        match self.0 {
            Inner::Builtin(ty, _) => match ty {
                FieldType::String | FieldType::Bytes => Forms::scalar(Scalar::Text),
                FieldType::Bool => Forms::scalar(Scalar::Boolean),
                FieldType::Int32 | FieldType::Int64 | FieldType::Double => Forms::scalar(Scalar::Number),
                FieldType::Quantity | FieldType::Time | FieldType::MicroTime | FieldType::Duration => {
                    Forms::scalar(Scalar::Any)
                }
                FieldType::Object(_) | FieldType::Map(_) | FieldType::FieldsV1 => Forms::MAP,
                FieldType::List(_) => Forms::LIST,
                FieldType::IntOrString
                | FieldType::Raw
                | FieldType::Json
                | FieldType::SchemaOrArray
                | FieldType::SchemaOrBool
                | FieldType::SchemaOrStrings => Forms::ALL,
            },
            Inner::Root(_) => Forms::MAP,
            Inner::Node(node, _) => match node.kind {
                Kind::Object => Forms::MAP,
                Kind::Array => Forms::LIST,
                // Upstream takes any scalar where a string has a format, but for bytes.
                Kind::String if has_format(node) => Forms::scalar(Scalar::Any),
                Kind::String => Forms::scalar(Scalar::Text),
                Kind::Integer | Kind::Number => Forms::scalar(Scalar::Number),
                Kind::Boolean => Forms::scalar(Scalar::Boolean),
                Kind::IntOrString | Kind::Any => Forms::ALL,
            },
            Inner::Deduced | Inner::Opaque => Forms::ALL,
        }
    }

    /// Whether a map here is one value.
    pub(crate) fn is_atomic_map(self) -> bool {
        match self.0 {
            Inner::Builtin(ty, def) => match (def.and_then(FieldDef::map_type), ty) {
                (_, FieldType::Raw) => true,
                (Some(said), _) => said == "atomic",
                (None, FieldType::Object(id)) => id.def().is_atomic(),
                (None, _) => false,
            },
            Inner::Node(node, _) => node.is_atomic,
            Inner::Root(_) | Inner::Deduced => false,
            Inner::Opaque => true,
        }
    }

    /// The type of a field that is named here.
    pub(crate) fn named(self, name: &str) -> Option<Self> {
        match self.0 {
            Inner::Builtin(FieldType::Object(id), _) => {
                let field = id.def().field(name)?;
                Some(Self(Inner::Builtin(field.ty, Some(field))))
            }
            Inner::Root(node) => match name {
                "apiVersion" | "kind" => Some(Self(Inner::Builtin(FieldType::String, None))),
                "metadata" => type_by_name(OBJECT_META).map(|id| Self(Inner::Builtin(FieldType::Object(id), None))),
                _ => named(node, name, false),
            },
            Inner::Node(node, open) => named(node, name, open),
            _ => None,
        }
    }

    /// The type of fields that are not named here.
    fn unnamed(self) -> Option<Self> {
        match self.0 {
            Inner::Builtin(FieldType::Object(id), _) => id.def().fields.is_empty().then_some(Self(Inner::Deduced)),
            Inner::Builtin(FieldType::Map(inner), _) => Some(Self(Inner::Builtin(*inner, None))),
            Inner::Builtin(FieldType::Raw, _) | Inner::Opaque => Some(Self(Inner::Opaque)),
            Inner::Builtin(..) | Inner::Deduced => Some(Self(Inner::Deduced)),
            Inner::Root(node) => unnamed(node, false),
            Inner::Node(node, open) => unnamed(node, open),
        }
    }

    /// The type of a field, named or not. None where there can be none of that name.
    pub(crate) fn field(self, name: &str) -> Option<Self> {
        self.named(name).or_else(|| self.unnamed())
    }

    /// Of a field that is there, whether it may be or not.
    pub(crate) fn field_or_any(self, name: &str) -> Self {
        self.field(name).unwrap_or(Self(Inner::Deduced))
    }

    pub(crate) fn items(self) -> Items {
        let of = |list: ListType, keyed: bool| match list {
            ListType::Atomic => Items::Atomic,
            ListType::Set => Items::Set,
            ListType::Map if keyed => Items::Keyed,
            ListType::Map => Items::Set,
        };
        match self.0 {
            Inner::Builtin(FieldType::List(_), Some(def)) => of(def.list_type(), true),
            Inner::Node(node, _) => of(node.list_type, !node.map_keys.is_empty()),
            _ => Items::Atomic,
        }
    }

    /// The fields by which the items of a list are known.
    pub(crate) fn keys(self) -> Vec<&'s str> {
        match self.0 {
            Inner::Builtin(_, Some(def)) => def.map_keys().collect(),
            Inner::Node(node, _) => node.map_keys.iter().map(|key| &**key).collect(),
            _ => Vec::new(),
        }
    }

    /// The type of an item of a list.
    pub(crate) fn item(self) -> Self {
        match self.0 {
            Inner::Builtin(FieldType::List(inner), _) => Self(Inner::Builtin(*inner, None)),
            Inner::Node(node, open) => match &node.items {
                Some(items) => Self(Inner::Node(items, open || node.preserves_unknown)),
                None => Self(Inner::Opaque),
            },
            _ => Self(Inner::Opaque),
        }
    }

    /// The default of a named field.
    pub(crate) fn default_of(self, name: &str) -> Option<Value> {
        match self.0 {
            Inner::Builtin(FieldType::Object(id), _) => serde_json::from_str(id.def().field(name)?.default_json()?)
                .ok()
                .filter(|value: &Value| !value.is_null()),
            Inner::Root(node) | Inner::Node(node, _) => node.properties.get(name)?.default.as_deref().cloned(),
            _ => None,
        }
    }
}

fn named<'s>(node: &'s Node, name: &str, open: bool) -> Option<Type<'s>> {
    let field = node.properties.get(name)?;
    Some(Type(Inner::Node(field, open || node.preserves_unknown)))
}

fn unnamed(node: &Node, open: bool) -> Option<Type<'_>> {
    let open = open || node.preserves_unknown;
    match &node.additional {
        Some(additional) => Some(Type(Inner::Node(additional, open))),
        None if open || node.properties.is_empty() => Some(Type(Inner::Deduced)),
        None => None,
    }
}
