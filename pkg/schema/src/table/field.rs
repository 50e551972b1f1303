//! One field of a type: its JSON name, its type, and what the Go declaration says about presence.
//! Invariant: rare facts stay in the generated text and are looked up on demand, so that a field is 56 bytes.

use super::TypeId;
use super::parse::attribute;

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 text.
    Bytes,
    Quantity,
    /// RFC 3339, seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// In Go's notation, such as `1m30s`.
    Duration,
    IntOrString,
    /// Any JSON, kept as it is: a managed-fields set.
    FieldsV1,
    /// Any JSON, kept as it is: an embedded object.
    Raw,
    /// Any JSON, kept as it is: a value inside a JSON schema.
    Json,
    /// A schema, or a list of schemas.
    SchemaOrArray,
    /// A schema, or a boolean.
    SchemaOrBool,
    /// A schema, or a list of strings.
    SchemaOrStrings,
    Object(TypeId),
    List(&'static FieldType),
    Map(&'static FieldType),
}

impl FieldType {
    /// The structure behind this type: its own, or that of its elements.
    pub fn object(self) -> Option<TypeId> {
        match self {
            FieldType::Object(id) => Some(id),
            FieldType::List(inner) | FieldType::Map(inner) => inner.object(),
            _ => None,
        }
    }

    /// Whether the content is opaque to the table.
    pub fn is_opaque(self) -> bool {
        matches!(self, FieldType::Raw | FieldType::Json | FieldType::FieldsV1)
    }
}

/// How server-side apply treats a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// One value, replaced as a whole; also what an unmarked list is.
    Atomic,
    /// Elements are their own keys.
    Set,
    /// Elements are keyed by [`FieldDef::map_keys`].
    Map,
}

pub(crate) mod flag {
    pub const REQUIRED: u8 = 1;
    pub const OMIT_EMPTY: u8 = 2;
    pub const OMIT_ZERO: u8 = 4;
    pub const POINTER: u8 = 8;
}

/// One field of a [`super::TypeDef`].
#[derive(Debug)]
pub struct FieldDef {
    /// JSON name.
    pub name: &'static str,
    pub ty: FieldType,
    pub(crate) flags: u8,
    /// Its place in the declaration, in which Go writes it.
    pub(crate) rank: u8,
    pub(crate) attributes: &'static str,
}

impl FieldDef {
    /// Required according to OpenAPI.
    pub fn is_required(&self) -> bool {
        self.flags & flag::REQUIRED != 0
    }

    /// Left out of the encoded form when empty.
    pub fn omit_empty(&self) -> bool {
        self.flags & flag::OMIT_EMPTY != 0
    }

    /// Left out of the encoded form when it is the type's zero value, structures included.
    pub fn omit_zero(&self) -> bool {
        self.flags & flag::OMIT_ZERO != 0
    }

    /// Whether "absent" and "zero" are two different states.
    pub fn is_pointer(&self) -> bool {
        self.flags & flag::POINTER != 0
    }

    /// Whether protobuf has a message around this list, because its Go type has a name of its own: the verbs of a resource.
    pub(crate) fn is_message(&self) -> bool {
        matches!(self.ty, FieldType::List(_)) && self.attribute("g=") == Some("v1.Verbs")
    }

    fn attribute(&self, key: &str) -> Option<&'static str> {
        attribute(self.attributes, key)
    }

    /// The declared list type; `None` from [`FieldDef::declared_list_type`] counts as atomic.
    pub fn list_type(&self) -> ListType {
        match self.declared_list_type() {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map,
            _ => ListType::Atomic,
        }
    }

    /// `atomic`, `set` or `map` where upstream declares it.
    pub fn declared_list_type(&self) -> Option<&'static str> {
        self.attribute("l=")
    }

    /// The keys of a list of type map.
    pub fn map_keys(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.attribute("k=").into_iter().flat_map(|keys| keys.split(','))
    }

    /// Whether a map or structure in this field is one value to server-side apply.
    pub fn is_atomic_map(&self) -> bool {
        self.map_type() == Some("atomic")
    }

    /// `atomic` or `granular` where upstream declares it for the field.
    pub fn map_type(&self) -> Option<&'static str> {
        self.attribute("t=")
    }

    /// Strategic-merge strategies, for example `merge` and `retainKeys`.
    pub fn patch_strategies(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.patch_strategy().into_iter().flat_map(|strategies| strategies.split(','))
    }

    /// The strategies as upstream writes them, separated by commas.
    pub fn patch_strategy(&self) -> Option<&'static str> {
        self.attribute("s=")
    }

    /// The element field that names an element in a strategic merge.
    pub fn merge_key(&self) -> Option<&'static str> {
        self.attribute("m=")
    }

    /// The declared default as JSON text.
    pub fn default_json(&self) -> Option<&'static str> {
        self.attribute("d=")
    }

    /// The protobuf field number.
    pub fn proto_number(&self) -> Option<u32> {
        self.attribute("n=")?.parse().ok()
    }

    /// The embedded Go structures that lead here, each with its protobuf number where it has one.
    pub fn embedding(&self) -> impl Iterator<Item = (&'static str, Option<u32>)> + use<> {
        self.attribute("e=").into_iter().flat_map(|chain| chain.split('.')).map(|step| match step.split_once(':') {
            Some((name, number)) => (name, number.parse().ok()),
            None => (step, None),
        })
    }

    /// The Go type as decode errors print it.
    pub fn go_type(&self) -> String {
        self.attribute("g=").map_or_else(|| go_type(self.ty), str::to_string)
    }

    /// The Go type of the elements of a list or map field.
    pub fn go_element_type(&self) -> String {
        let own = self.go_type();
        if let Some(element) = own.strip_prefix("[]") {
            return element.to_string();
        }
        match own.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            Some((_, element)) => element.to_string(),
            None => match self.ty {
                FieldType::List(inner) | FieldType::Map(inner) => go_type(*inner),
                _ => own,
            },
        }
    }
}

/// The Go spelling of a type that has no name of its own.
pub(crate) fn go_type(ty: FieldType) -> String {
    match ty {
        FieldType::String => "string".into(),
        FieldType::Bool => "bool".into(),
        FieldType::Int32 => "int32".into(),
        FieldType::Int64 => "int64".into(),
        FieldType::Double => "float64".into(),
        FieldType::Bytes => "[]uint8".into(),
        FieldType::Quantity => "resource.Quantity".into(),
        FieldType::Time => "v1.Time".into(),
        FieldType::MicroTime => "v1.MicroTime".into(),
        FieldType::Duration => "v1.Duration".into(),
        FieldType::IntOrString => "intstr.IntOrString".into(),
        FieldType::FieldsV1 => "v1.FieldsV1".into(),
        FieldType::Raw => "runtime.RawExtension".into(),
        FieldType::Json => "v1.JSON".into(),
        FieldType::SchemaOrArray => "v1.JSONSchemaPropsOrArray".into(),
        FieldType::SchemaOrBool => "v1.JSONSchemaPropsOrBool".into(),
        FieldType::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray".into(),
        FieldType::Object(id) => object_go_type(id),
        FieldType::List(inner) => format!("[]{}", go_type(*inner)),
        FieldType::Map(inner) => format!("map[string]{}", go_type(*inner)),
    }
}

pub(crate) fn object_go_type(id: TypeId) -> String {
    let mut parts = id.def().name.rsplit('.');
    let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{package}.{name}")
}
